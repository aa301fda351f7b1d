"""Finds every training clip that is an evaluation clip, and excludes those from use.

The evaluation side is kept in memory (a few kilobytes per clip) and the training side is streamed, so ten million
training clips can be compared with a hundred thousand evaluation clips on one core in minutes.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.data.audit import columns, known, reach
from alp_jax.data.audit.columns import Columns
from alp_jax.data.audit.kinds import (
    CAPTION,
    LEAK_KINDS,
    RECORDING,
    SAME_RECORDING,
    ByAudio,
    ByCaption,
    ByLandmarks,
    ByRecording,
    Matches,
)
from alp_jax.data.audit.sets import EvalSet, Evaluation
from alp_jax.data.building import tables
from alp_jax.data.store.dataset import Dataset

LEAK = "leak:"  # prefix of the reason for which a leaked clip is excluded
EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
      clips: training clips compared, by source.
      matches: kind -> table of training clips with ``row`` (int64), ``source``, ``id`` and ``eval_clip``, the number of
        an evaluation clip; a clip occurs at most once per kind but may occur under several.
      seen: kind -> bool[E], the evaluation clips that were found.
      elsewhere: a table like those of ``matches``: clips that only share a recording with an evaluation clip
        (SAME_RECORDING).
      seen_elsewhere: bool[E], the evaluation clips of these recordings.
      without_length: side -> number of clips that are taken to last to the end of their recording.
      evaluation: the evaluation side.
      unspecific: number of training clips that share only captions too general to identify a clip.
      rejected: rows of the training metadata that could not be used, by reason.
      warnings: known overlaps, and near duplicates, that this audit could not look for.
      already_excluded: number of training clips found that earlier audits have already excluded.
    """

    clips: Mapping[str, int]
    matches: Mapping[str, pa.Table]
    seen: Mapping[str, np.ndarray]
    elsewhere: pa.Table
    seen_elsewhere: np.ndarray
    without_length: Mapping[str, int]
    evaluation: Evaluation
    unspecific: int
    rejected: Mapping[str, int]
    warnings: Sequence[str]
    already_excluded: int = 0

    def leaks(self, kinds: Sequence[str] = LEAK_KINDS) -> tuple[np.ndarray, list[str]]:
        """Rows of the training clips found by any of ``kinds``, and a reason such as ``leak:audio`` for each."""
        tables = dict(self.matches) | {SAME_RECORDING: self.elsewhere}
        chosen = [kind for kind in (*LEAK_KINDS, SAME_RECORDING) if kind in kinds]  # the surest names the reason
        rows = np.concatenate([tables[kind]["row"].to_numpy() for kind in chosen] or [np.zeros(0, np.int64)])
        number = np.repeat(np.arange(len(chosen)), np.array([len(tables[kind]) for kind in chosen], np.int64))
        rows, first = np.unique(rows, return_index=True)
        return rows, [LEAK + chosen[n] for n in number[first]]

    def summary(self) -> dict:
        """The audit as JSON: counts by source and kind, examples, and what was found of every evaluation set."""
        return {
            "clips": dict(self.clips),
            "leaks": len(self.leaks()[0]),
            "out_of_use": self.already_excluded,
            "sources": {name: self._of_source(name) for name in sorted(self.clips)},
            "sets": [self._of_set(number) for number in range(len(self.evaluation.sets))],
            "unspecific_captions": self.unspecific,
            "without_length": dict(self.without_length),
            "rejected": dict(self.rejected),
            "warnings": list(self.warnings),
            "near_recall": {way: {"planted": n, "found": found} for way, (found, n) in reach.RECALL.items()},
        }

    def _of_source(self, source: str) -> dict:
        kinds, rows = {}, []
        for kind, table in self.matches.items():
            own = table.filter(pc.equal(table["source"], source))
            rows.append(own["row"].to_numpy())
            kinds[kind] = self._counted(own)
        elsewhere = self.elsewhere.filter(pc.equal(self.elsewhere["source"], source))
        leaks = len(np.unique(np.concatenate(rows)))
        return {"clips": self.clips[source], "leaks": leaks, "kinds": kinds, SAME_RECORDING: self._counted(elsewhere)}

    def _counted(self, table: pa.Table) -> dict:
        examples = []
        for entry in table.slice(0, EXAMPLES).to_pylist():
            number = entry["eval_clip"]
            clip_id = self.evaluation.clips.id[number].as_py()
            clip_set = self.evaluation.sets[int(self.evaluation.owner[number])].name
            examples.append({"train": entry["id"], "evaluation": clip_id, "set": clip_set})
        return {"clips": len(table), "examples": examples}

    def _of_set(self, number: int) -> dict:
        one = self.evaluation.sets[number]
        members = self.evaluation.owner == number
        return {
            "name": one.name,
            "clips": len(one.clips),
            "with_audio": int(one.clips.has_audio.sum()),
            "rejected": dict(one.rejected),
            "found": {kind: int((seen & members).sum()) for kind, seen in self.seen.items()},
            "found_by_any": int((np.any(list(self.seen.values()), axis=0) & members).sum()),
            SAME_RECORDING: int((self.seen_elsewhere & members).sum()),
        }


def training_rows(dataset: Dataset) -> np.ndarray:
    """int64, the rows that an audit compares: training clips that are in use or that audits have excluded."""
    return np.union1d(dataset.rows("train"), np.flatnonzero(_leaked(dataset)))


def _leaked(dataset: Dataset) -> np.ndarray:
    return np.array([reason.startswith(LEAK) for reason in dataset.exclusions], bool)[dataset.excluded]


def audit(train: Dataset | Iterable[Clip | Rejected], against: Sequence[EvalSet]) -> Audit:
    """Compares training clips with evaluation sets.

    Args:
      train: a built data set, of which ``training_rows`` are compared, or clips without audio, all of
        which count as training clips.
      against: see ``sets.py``.

    Raises:
      UserError: nothing to compare, on either side.
      DataError: a data set is damaged.
    """
    if isinstance(train, Dataset):
        rows = training_rows(train)
        audited = compare(columns.of_dataset(train, rows), against, total=len(rows))
        return dataclasses.replace(audited, already_excluded=int(_leaked(train)[audited.leaks()[0]].sum()))
    rejected = Counter()
    return compare((block for block, _ in columns.of_clips(train, rejected)), against, rejected=rejected)


def compare(
    blocks: Iterable[Columns],
    against: Sequence[EvalSet],
    *,
    total: int | None = None,
    rejected: Counter | None = None,
    label: str = "audit",
) -> Audit:
    """``audit`` for training clips that come in blocks; ``label`` and their number ``total`` are for the progress."""
    if not against:
        raise UserError("nothing to audit against: the data set has no valid or test split; give --against SETS")
    evaluation = Evaluation.of(against)
    kinds = {
        kind: by(evaluation)
        for kind, by in zip(LEAK_KINDS, (ByRecording, ByAudio, ByLandmarks, ByCaption), strict=True)
    }
    clips, parts = Counter(), {kind: [] for kind in (*LEAK_KINDS, SAME_RECORDING)}
    unsized = {"training": 0, "evaluation": _without_length(evaluation.clips)}
    sides = {"training": [0, 0], "evaluation": _sounds(evaluation.clips)}
    older = {"training": 0, "evaluation": _before_elastic(evaluation.clips)}
    with Progress(label, total, "clips") as progress:
        for block in _counted(blocks, clips):
            sides["training"] = [a + b for a, b in zip(sides["training"], _sounds(block), strict=True)]
            unsized["training"] += _without_length(block)
            older["training"] += _before_elastic(block)
            for kind, by in kinds.items():
                if kind == RECORDING:
                    for name, some in zip((RECORDING, SAME_RECORDING), by.match(block), strict=True):
                        parts[name].append(_rows(block, some))
                elif kind == CAPTION:
                    matches, several = by.match(block)
                    parts[kind].append(_rows(block, matches).append_column("several", pa.array(several)))
                else:
                    parts[kind].append(_rows(block, by.match(block)))
            progress.update(len(block))
    if not clips:
        raise UserError("no training clips to audit" + "".join(f", {n} {why}" for why, n in (rejected or {}).items()))
    matches = {kind: pa.concat_tables(tables) for kind, tables in parts.items()}
    matches[CAPTION], unspecific = kinds[CAPTION].finish(matches[CAPTION])
    return Audit(
        clips=dict(sorted(clips.items())),
        elsewhere=matches.pop(SAME_RECORDING),
        matches=matches,
        seen={kind: by.seen for kind, by in kinds.items()},
        seen_elsewhere=kinds[RECORDING].seen_elsewhere,
        without_length=unsized,
        evaluation=evaluation,
        unspecific=unspecific,
        rejected=dict(sorted((rejected or {}).items())),
        warnings=known.warnings(clips, {name for one in against for name in one.covers})
        + [
            f"near-duplicate sound could not be searched for: none of {sounds} {side} clips with sound has landmarks"
            for side, (sounds, landmarks) in sides.items()
            if sounds and not landmarks
        ]
        + [
            f"{before} of {sides[side][0]} {side} clips with sound were built before there were elastic landmarks: at "
            "another speed or pitch, or as a short stretch of a long clip, they are not found; build them again"
            for side, before in older.items()
            if before
        ],
    )


def _without_length(clips: Columns) -> int:
    return int((clips.placed & (clips.end_s == columns.ALWAYS)).sum())


def _before_elastic(clips: Columns) -> int:
    return int((clips.has_audio & ~clips.stored_elastic).sum())


def _sounds(clips: Columns) -> list[int]:
    """How many of the clips have sound, and how many landmarks they have together."""
    return [int(clips.has_audio.sum()), len(clips.fingerprint.values)]


def _counted(blocks: Iterable[Columns], clips: Counter) -> Iterator[Columns]:
    for block in blocks:
        count = np.bincount(block.source, minlength=len(block.sources)).tolist()
        clips.update({name: n for name, n in zip(block.sources, count, strict=True) if n})
        yield block


def _rows(block: Columns, matches: Matches) -> pa.Table:
    names = pa.DictionaryArray.from_arrays(pa.array(block.source[matches.position]), list(block.sources))
    return pa.table(
        {
            "row": block.row[matches.position],
            "source": names.cast(pa.string()),
            "id": block.id.take(pa.array(matches.position)),
            "eval_clip": matches.eval_clip,
        }
    )


def exclude(dataset: Dataset, audited: Audit, kinds: Sequence[str] = LEAK_KINDS, *, replace: bool = False) -> dict:
    """Excludes the clips that ``audited`` found from training; returns the accounting. No shard is touched.

    Args:
      dataset: the one that was audited. It keeps showing the old state; open it again.
      kinds: which kinds of leaks; SAME_RECORDING to exclude such clips too.
      replace: first take back what earlier audits have excluded.

    Raises:
      UserError: an unknown kind.
      StorageError: the data set cannot be written.
    """
    for kind in kinds:
        choose(kind, (*LEAK_KINDS, SAME_RECORDING), "kind of leak")
    rows, reasons = audited.leaks(kinds)
    return tables.exclude(dataset.path, rows, reasons, replace=LEAK if replace else "")
