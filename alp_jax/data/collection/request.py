"""``alp data build``: a request as the command line states it, carried out for one corpus or for a collection."""

import dataclasses
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from alp_jax.core import storage
from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.data.audit import run as audit
from alp_jax.data.audit.report import audit_lines
from alp_jax.data.building.build import build, engine_of
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.building.part import BuildPart
from alp_jax.data.building.preview import preview
from alp_jax.data.building.report import accounting_lines, part_line, preview_lines
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.collection.collect import build_collection, preview_collection
from alp_jax.data.collection.forecast import Load, cost_forecast, cost_lines
from alp_jax.data.collection.member import CorpusOnDisk
from alp_jax.data.reading import measure_reading, reading_lines
from alp_jax.data.store.dataset import open_dataset

_BAD_SHARE, _BAD_SHARE_OF_SEVERAL = 0.05, 0.5  # videos disappear, and a collection cannot help it


class Opened(Protocol):
    """A corpus that is about to be built: ``corpora.registry.Opened``."""

    clips: Iterable[Clip | Rejected]
    left_out: dict

    def rule_facts(self) -> dict | None:
        """How clips are split, as ``dataset.json`` records it; None where the corpus says the split of each."""

    def rule_lines(self, splits: Mapping[str, Mapping]) -> Iterable[str]:
        """The same as text, with the counts of ``splits``."""

    def left_out_lines(self) -> Iterable[str]:
        """What was left out when the corpus was fetched, as text."""

    def write_credits(self, path: str | os.PathLike) -> None:
        """Writes the credits of a fetched corpus to ``path``; does nothing for others."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of ``alp data build`` that do not say which files are read; ``alp data build --help`` explains them.

    Raises:
      UserError: flags that contradict each other, or a number that is not possible.
    """

    corpus: str
    out: str | None = None
    dry_run: bool = False
    against: Sequence[str] = ()
    keep_leaks: bool = False
    codec: str = "flac"
    shards: int = 0
    min_seconds: float = 0.1
    max_seconds: float = 600.0
    dedupe: str = "source"
    min_words: int = 0
    max_words: int = 0
    min_ascii: float = 0.0
    no_defects: bool = False
    max_bad_share: float | None = None
    engine: str = "pool"
    workers: int = 0
    beam_options: str = ""
    part: str | None = None

    def __post_init__(self):
        for name in ("workers", "shards"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name} {getattr(self, name)}: must not be negative")
        for name in ("out", "against", "part") if self.dry_run else ():
            if getattr(self, name):
                raise UserError(f"--{name} does not go with --dry_run, which writes and compares nothing")
        if not self.dry_run and not self.out:
            raise UserError(f"--out DIR is needed to build {self.corpus} (or --dry_run)")
        BuildSettings.of(**self.settings())  # what is wrong is said before any file is looked at
        if self.part:
            BuildPart.parse(self.part)

    def settings(self) -> dict:
        """The keywords of ``BuildSettings.of``."""
        captions = CaptionFilter(self.min_words, self.max_words, self.min_ascii, self.no_defects)
        names = ("codec", "shards", "min_seconds", "max_seconds", "dedupe")
        return {name: getattr(self, name) for name in names} | {"captions": captions}

    def how(self) -> dict:
        """The keywords of ``build`` and ``engine_of`` that do not change the data set."""
        options = shlex.split(self.beam_options)
        return {"engine": self.engine, "workers": self.workers, "beam_options": options}

    def cores(self) -> int:
        """How many cores decode on this machine."""
        return self.workers or len(usable_cores())


def one(request: Request, opened: Opened, published: audit.FindPublished, looked_at: str) -> tuple[dict, list[str]]:
    """Builds, or with ``dry_run`` previews, one corpus: the result, and lines that tell it.

    Args:
      published: see ``audit.run``.
      looked_at: what a preview has looked at.
    """
    if request.dry_run:
        accounting = preview(opened.clips, BuildSettings.of(**request.settings()))
        told = cost_forecast({request.corpus: Load.of_account(accounting)}, request.codec)
        lines = [
            *accounting_lines(f"{request.corpus}, {looked_at}", accounting, "the JSON line of --json"),
            *opened.rule_lines(accounting["splits"]),
            *preview_lines(accounting),
            *opened.left_out_lines(),
            *cost_lines(told, request.cores(), 1, None),
            f"a build would write {accounting['shards']} shards; nothing was written",
        ]
        result = {"out": None, "accounting": accounting, "left_out": opened.left_out, "audit": None}
        return result | {"forecast": told}, lines
    assert request.out is not None
    against = audit.eval_sets(request.against, None, published)  # before anything is built: a name may be misspelt
    rule = opened.rule_facts()
    settings = request.settings() | request.how() | {"source_name": request.corpus, "split_rule": rule}
    settings["max_bad_share"] = _BAD_SHARE if request.max_bad_share is None else request.max_bad_share
    if request.part:
        told = build(opened.clips, request.out, part=BuildPart.parse(request.part), **settings)
        return {"out": request.out, "parts": {request.corpus: told}}, part_lines({request.corpus: told})
    accounting, audited = audit.build_audited(
        opened.clips, request.out, against=against, keep_leaks=request.keep_leaks, **settings
    )
    opened.write_credits(storage.local(request.out) / "CREDITS")
    notes = [*opened.rule_lines(accounting["splits"]), *opened.left_out_lines()]
    result = {"out": request.out, "accounting": accounting, "left_out": opened.left_out, "audit": audited}
    return _built(result | {"split_rule": rule}, notes)


def several(
    request: Request,
    corpora: Sequence[CorpusOnDisk],
    missing: Mapping[str, str],
    absent: Mapping[str, Load],
    lists: Sequence[str],
    published: audit.FindPublished,
) -> tuple[dict, list[str]]:
    """Builds, or with ``dry_run`` previews, a collection: the result, and lines that tell it.

    Args:
      missing: corpora that are not there, and why.
      absent: published figures, for a preview.
      lists: published lists of evaluation clips, compared beside ``against``.
    """
    chosen = BuildSettings.of(**request.settings())
    notes = [f"missing: {name}: {why}" for name, why in missing.items()]
    if request.dry_run:
        told = preview_collection(corpora, absent, chosen)
        lines = []
        for name, account in told["accounts"].items():
            lines += [*accounting_lines(name, account, "the JSON line of --json"), *preview_lines(account)]
        lines += [
            f"forecast of {request.corpus}:",
            *cost_lines(told["forecast"], request.cores(), 1, None),
            *notes,
        ]
        return {"out": None, "missing": dict(missing)} | told, [*lines, "nothing was written"]
    assert request.out is not None
    part = BuildPart.parse(request.part) if request.part else None
    sets = audit.eval_sets([*request.against, *lists], None, published)
    result = build_collection(
        corpora,
        request.out,
        chosen=chosen,
        run=engine_of(**request.how(), watch={}),
        against=sets,
        keep_leaks=request.keep_leaks,
        max_bad_share=_BAD_SHARE_OF_SEVERAL if request.max_bad_share is None else request.max_bad_share,
        cores=request.workers,
        part=part,
    )
    result |= {"out": request.out, "missing": dict(missing)}
    if part:
        return result, [*part_lines(result["parts"]), *notes]
    return _built(result, notes)


def part_lines(parts: Mapping[str, Mapping]) -> list[str]:
    """What a part of a build has done, by corpus, and what comes next."""
    lines = [part_line(name, told) for name, told in parts.items()]
    if not any(told["left"] for told in parts.values()):
        lines.append("all shards are there: the same command without --part makes the data set of them")
    return lines


def _built(result: dict, notes: Iterable[str]) -> tuple[dict, list[str]]:
    """The result of a build with what reading its data set takes, and lines that tell it."""
    out, accounting = result["out"], result["accounting"]
    lines = [*accounting_lines(out, accounting), *notes]
    if result["audit"]:
        lines += audit_lines(result["audit"])
    if "train" not in accounting["splits"]:
        return result, [*lines, audit.NOTHING]
    reading = measure_reading(open_dataset(out))
    lines += [*reading_lines(reading), f"next: alp tokenizer --data {shlex.quote(out)}"]
    return result | {"reading": reading}, lines
