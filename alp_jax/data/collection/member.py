"""One corpus of a collection: planned once for the files that are there, then built like any data set."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Protocol

from alp_jax.core import files, storage
from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import say
from alp_jax.data.building import plan, planned, tables
from alp_jax.data.building.part import BuildPart
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.store.schema import INFO, PLAN, SCHEMA_VERSION

PARTS = "parts"  # of a collection, in which each corpus is a data set
_KEPT = ("identity", "counts", "expected", "dropped_captions", "lengths")  # of a plan, besides what it leaves out


class CorpusOnDisk(Protocol):
    """A corpus whose files are there."""

    @property
    def name(self) -> str:
        """Its name, which is also the folder of its part of the collection."""

    @property
    def cost(self) -> float:
        """Processor time that a second of its audio takes, relative to that of a file of ten seconds."""

    def clips(self) -> Iterable[Clip | Rejected]:
        """Its clips, read anew."""

    def state(self) -> str:
        """Identity of the files that ``clips`` reads."""


def plan_member(corpus: CorpusOnDisk, out: str, chosen: BuildSettings, part: BuildPart) -> planned.Planned:
    """Plans the data set of one corpus of the collection ``out``, or takes the plan that was made of the same files.

    What is kept of a plan lies beside the data set, so that neither its files nor its bytes depend on it.

    Raises:
      UserError: as ``planned.plan_build``.
    """
    home = storage.join(out, PARTS)
    folder, note = storage.join(home, corpus.name), f"{corpus.name}.json"
    inputs = fingerprint([SCHEMA_VERSION, corpus.state(), dataclasses.asdict(chosen)])
    kept = _kept(home, note, folder, inputs)
    if kept is not None:
        return kept
    say(f"{corpus.name}: reads its metadata")
    try:
        made = planned.plan_build(corpus.clips(), folder, chosen, part)
    except UserError as error:
        hint = f"; or remove {folder} to build {corpus.name} again" if "a different build" in str(error) else ""
        raise UserError(f"{error}{hint}") from None
    content = {name: getattr(made, name) for name in _KEPT} | {"inputs": inputs}
    content["left_out"] = {reason: vars(entry) for reason, entry in made.left_out.items()}
    storage.write(storage.join(home, note), files.json_text(content).encode())
    return made


def _kept(home: str, note: str, folder: str, inputs: str) -> planned.Planned | None:
    """The plan described by the file ``note`` if it is of these inputs and still there."""
    if storage.size(storage.join(home, note)) < 0:
        return None
    told = tables.read_json(home, note)
    if told.get("inputs") != inputs:
        return None
    names = set(storage.names(folder))
    name = INFO if INFO in names else PLAN
    if name not in names or tables.read_json(folder, name).get("plan") != told["identity"]:
        return None
    if name == PLAN and planned.PLAN_ROWS not in names:
        return None
    left_out = {reason: _left_out(entry) for reason, entry in told["left_out"].items()}
    kept = {field: told[field] for field in _KEPT} | {"left_out": left_out}
    return planned.Planned(out=folder, complete=name == INFO, **kept)


def _left_out(entry: Mapping) -> plan.LeftOut:
    left_out = plan.LeftOut(entry["count"], entry["names"])
    left_out.sources.update(entry["sources"])
    return left_out
