"""Plants leaks among published metadata, which has no audio, and counts which of them an audit finds."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.data.audit import columns
from alp_jax.data.audit.audit import compare
from alp_jax.data.audit.columns import ALWAYS, Columns, caption_hashes, without_audio
from alp_jax.data.audit.planted import recall
from alp_jax.data.audit.sets import EvalSet, Evaluation

WAYS = ("renamed", "shifted", "caption")
_SHIFT, _SHIFT_S = 0.5, 5.0  # share of the stretch, or seconds where its end is unknown
_FIRST = 1 << 40  # row of the first planted clip


def audit_planted_rows(train: Iterable[Clip | Rejected], against: Sequence[EvalSet], count: int, seed: int = 0) -> dict:
    """Plants ``count`` leaks of evaluation sets, the same number in each of WAYS, and audits ``train`` with them.

    ``renamed``: the same stretch under another id and source; ``shifted``: a stretch that overlaps it by half;
    ``caption``: another recording with the same captions, in capitals and with other punctuation. Leaks in the sound
    need audio, see ``planted.py``.

    Returns what ``planted.audit_planted`` does.

    Raises:
      UserError: fewer evaluation clips than are needed.
    """
    each = count // len(WAYS)
    evaluation = Evaluation.of(against) if against else None
    captioned = np.flatnonzero(np.diff(evaluation.clips.caption.bounds)) if evaluation else []
    if not 1 <= each <= len(captioned) or 2 * each > len(evaluation.clips):
        total = len(evaluation.clips) if evaluation else 0
        have = f"the sets of --against have {total} clips, {len(captioned)} of them captioned"
        raise UserError(
            f"{count} planted leaks: {have}; at least {len(WAYS)} leaks are planted, each of a different clip"
        )
    rng = np.random.default_rng(seed)
    placed = rng.choice(len(evaluation.clips), 2 * each, replace=False)
    origin = np.append(placed, rng.choice(captioned, each, replace=False))
    rejected = Counter()
    blocks = (block for block, _ in columns.of_clips(train, rejected))
    audited = compare(itertools.chain(blocks, [_block(evaluation, origin, each)]), against, rejected=rejected)
    recording = evaluation.clips.recording.dictionary_encode().indices.to_numpy()  # several sets may share one
    return recall(audited, WAYS, _FIRST, origin, same=recording)


def _block(evaluation: Evaluation, origin: np.ndarray, each: int) -> Columns:
    clips, names = evaluation.clips, pa.array([f"planted:{i}" for i in range(len(origin))])
    begin_s, end_s = clips.begin_s[origin].copy(), clips.end_s[origin].copy()
    shifted, copied = slice(each, 2 * each), slice(2 * each, None)
    begin_s[shifted] += np.where(end_s < ALWAYS, _SHIFT * (end_s - begin_s), _SHIFT_S)[shifted]
    begin_s[copied], end_s[copied] = 0, ALWAYS
    texts = [(f"planted {i}",) for i in range(2 * each)]
    texts += [[f"{text.upper()} !" for text in evaluation.captions(int(number))] for number in origin[copied]]
    return Columns(
        row=_FIRST + np.arange(len(origin)),
        id=names,
        recording=pa.concat_arrays([clips.recording.take(pa.array(origin[: 2 * each])), names[2 * each :]]),
        source=np.zeros(len(origin), np.int32),
        sources=("planted",),
        begin_s=begin_s,
        end_s=end_s,
        placed=clips.placed[origin],
        part=clips.part[origin],
        whole=np.zeros(len(origin), bool),
        caption=caption_hashes(texts),
        **without_audio(len(origin)),
    )
