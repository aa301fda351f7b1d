"""What a build would do, told without decoding a sound."""

import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core.clip import SAMPLE_RATE, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.data.audio import reader
from alp_jax.data.building import plan, planned
from alp_jax.data.building.account import FAILURES, account
from alp_jax.data.building.settings import BuildSettings

_PIECE = 65_536  # clips that a preview handles at a time


def preview(clips: Iterable[Clip | Rejected], chosen: BuildSettings) -> dict:
    """The account that ``build`` would start from; nothing is written and no audio is opened.

    Returns:
      As ``build``, where ``usable`` counts the clips it would try to decode, and hours are those stated by the
      metadata. The only check of a file is whether it is there and readable, so of the reader's reasons only
      ``missing``, ``unreadable`` and ``not_a_file`` occur, and none of them where clips were read without a folder of
      audio. Also ``shards``, ``without_length`` (clips whose length the metadata does not state, by source) and
      ``dropped_captions`` (by reason).

    Raises:
      UserError: no clips.
    """
    with tempfile.TemporaryDirectory() as folder:
        spooled = plan.spool(clips, pathlib.Path(folder, "spool"), dedupe=chosen.dedupe, captions=chosen.captions)
        if not len(spooled):
            raise UserError(f"no clips to build from{planned.rejected_line(spooled)}")
        order = plan.arrange(spooled, chosen.dedupe)
        pieces = list(_pieces(spooled, order))
    failures, stored = (pa.concat_tables(parts) for parts in zip(*pieces, strict=True))
    unknown = stored.filter(pc.equal(stored["num_samples"], 0)).group_by("source").aggregate([([], "count_all")])
    return account(spooled.expected, spooled.left_out, failures, stored) | {
        "shards": planned.num_shards(len(stored), chosen.shards),
        "without_length": dict(sorted((row["source"], row["count_all"]) for row in unknown.to_pylist())),
        "dropped_captions": spooled.dropped_captions,
    }


def _pieces(spooled: plan.Spool, order: np.ndarray) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(clips whose file is missing, the others as columns of an index), in the order they came."""
    known: dict[str, tuple[str, str]] = {}  # cached, because a container holds many clips
    order = np.sort(order)
    for first in range(0, len(order), _PIECE):
        batch = pa.table(spooled.gather(order[first : first + _PIECE]))
        files = zip(batch["audio_path"].to_pylist(), batch["member"].to_pylist(), strict=True)
        why = [_why_not(path, member, known) for path, member in files]
        there = pa.array([not reason for reason, _ in why])
        lost, kept = batch.filter(pc.invert(there)), batch.filter(there)
        told = [pa.array([pair[part] for pair in why if pair[0]], pa.string()) for part in (0, 1)]
        failures = pa.table([lost["id"], lost["source"], lost["audio_path"], *told], schema=FAILURES)
        samples = pc.round(pc.multiply(pc.coalesce(kept["duration_s"], kept["stated_s"], 0.0), float(SAMPLE_RATE)))
        columns = {
            "source": kept["source"],
            "split": kept["split"],
            "excluded": pa.array([""] * len(kept), pa.string()),
            "num_samples": samples.cast(pa.int64()),
            "num_captions": pc.list_value_length(kept["captions"]),
        }
        yield failures, pa.table(columns)


def _why_not(path: str, member: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Why a file cannot be opened: reason and detail, both "" if it can, or if there is no path."""
    if not path:
        return "", ""
    if not member:
        return reader.status(path)[1:]
    if path not in known:
        known[path] = reader.status(path)[1:]
    return known[path]
