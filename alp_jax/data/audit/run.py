"""A whole audit, starting from the names that users give: read, compare, exclude, and store the result.

``published`` is a function that reads the metadata of published corpora, which this package must not import:
``(CORPUS:FILE,..., split) -> (corpus, clips)``, or None for a text that names no corpus
(``corpora.registry.read_spec``).
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

from alp_jax.core import files, storage
from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.data.audit import planted, planted_rows, sets
from alp_jax.data.audit.audit import audit, exclude, training_rows
from alp_jax.data.audit.kinds import LEAK_KINDS
from alp_jax.data.audit.sets import EvalSet
from alp_jax.data.building import tables
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import Dataset, open_dataset

FindPublished = Callable[[str, str], tuple[str, Iterable[Clip | Rejected]] | None]

RESULT = "audit.json"
NOTHING = "no training clips, so there is nothing to audit"
_OWN_SPLITS = ("valid", "test")


def run(
    data: str,
    against: Sequence[str],
    published: FindPublished,
    *,
    exclude_leaks: bool = False,
    kinds: Sequence[str] | None = None,
    replace: bool = False,
    out: str | None = None,
) -> tuple[dict, str]:
    """Audits a built data set, or published metadata of training clips.

    Args:
      data: a folder, or metadata that ``published`` reads.
      against: evaluation sets beside the data set's own, see ``eval_sets``.
      exclude_leaks: exclude what is found; for ``kinds`` and ``replace`` see ``audit.exclude``.
      out: file for the result; None: RESULT in the data set.

    Returns:
      the summary, and where it was written; "" if it was not, or if there was nothing to audit.

    Raises:
      UserError: incompatible options, or a name that cannot be read.
    """
    metadata = published(data, "train")
    if metadata and exclude_leaks:
        raise UserError(f"--exclude needs a built data set; {data} is metadata")
    if not exclude_leaks and (replace or kinds):
        raise UserError("--replace and --kinds need --exclude")
    dataset = None if metadata else open_dataset(data)
    if dataset is not None and not len(training_rows(dataset)):
        return {"data": data, "clips": {}, "leaks": 0}, ""
    found = audit(metadata[1] if metadata else dataset, eval_sets(against, dataset, published))
    summary = {"data": data} | found.summary()
    if exclude_leaks:
        summary["accounting"] = exclude(dataset, found, kinds or LEAK_KINDS, replace=replace)
    if out:
        storage.write(out, files.json_text(summary).encode())
    elif dataset is not None:
        out = _keep(data, summary)
    return summary, out or ""


def plant(data: str, against: Sequence[str], published: FindPublished, count: int) -> dict:
    """Plants leaks among the clips of a data set or of published metadata and counts those that an audit finds.

    Raises:
      UserError: ``against`` was given for a data set, or as ``audit_planted`` and ``audit_planted_rows``.
    """
    metadata = published(data, "train")
    if metadata:
        return planted_rows.audit_planted_rows(metadata[1], eval_sets(against, None, published), count)
    if against:
        raise UserError("--planted does not go with --exclude, and takes --against only for published metadata")
    return planted.audit_planted(open_dataset(data), count)


def build_audited(
    clips: Iterable[Clip | Rejected], out: storage.Location, *, against: Sequence[EvalSet], keep_leaks: bool, **settings
) -> tuple[dict, dict | None]:
    """Builds a data set, audits it and, unless ``keep_leaks``, excludes what is found.

    Args:
      against: evaluation sets beside the data set's own.
      settings: of ``build``.

    Returns:
      the accounting, and the summary of the audit; None when there is nothing to compare: no training clips, or no
      evaluation set.
    """
    return audited(out, build(clips, out, **settings), against, keep_leaks)


def audited(
    out: storage.Location, accounting: dict, against: Sequence[EvalSet], keep_leaks: bool
) -> tuple[dict, dict | None]:
    """Audits the data set ``out``, which has this ``accounting``; for the rest see ``build_audited``."""
    dataset = open_dataset(out)
    against = [*own_sets(dataset), *against]
    if not against or not len(training_rows(dataset)):
        return accounting, None
    found = audit(dataset, against)
    summary = {"data": str(out)} | found.summary()
    if not keep_leaks:
        accounting = summary["accounting"] = exclude(dataset, found)
    _keep(out, summary)
    return accounting, summary


def kept_audit(folder: storage.Location) -> dict | None:
    """The audit that was written into a data set's folder; None if there is none."""
    if storage.size(storage.join(folder, RESULT)) < 0:
        return None
    return {"data": os.fspath(folder)} | tables.read_json(folder, RESULT)


def _keep(folder: storage.Location, summary: dict) -> str:
    """Writes the audit into the data set's folder, without the folder's name: equal data sets get equal files."""
    kept = {key: value for key, value in summary.items() if key != "data"}
    path = storage.join(folder, RESULT)
    storage.write(path, files.json_text(kept).encode())
    return path


def own_sets(dataset: Dataset) -> list[EvalSet]:
    """The valid and test splits of a data set, each named by its split alone."""
    return [dataclasses.replace(one, name=one.name.rpartition(":")[2]) for one in sets.of_splits(dataset, _OWN_SPLITS)]


def eval_sets(against: Sequence[str], dataset: Dataset | None, published: FindPublished) -> list[EvalSet]:
    """The evaluation sets that ``against`` names, after those of ``dataset`` itself, each once.

    A name is ``DIR`` or ``DIR:split`` of a built data set, ``blacklist:FILE``, or what ``published`` reads.

    Raises:
      UserError: naming the set that cannot be read.
    """
    own = {} if dataset is None else {f"{dataset.path}:{one.name}": one for one in own_sets(dataset)}
    chosen = dict(own)
    for text in against:
        for one in _named(text, published):
            chosen.setdefault(one.name, one)
    return list(chosen.values())


def _named(text: str, published: FindPublished) -> list[EvalSet]:
    if text.startswith("blacklist:"):
        return [sets.of_blacklist(text.partition(":")[2])]
    if metadata := published(text, "test"):
        return [sets.of_clips(text, metadata[1], (metadata[0],))]
    folder, _, split = text.rpartition(":")
    if split not in SPLITS or not folder:
        folder, split = text, ""
    chosen = sets.of_splits(open_dataset(folder), [split] if split else _OWN_SPLITS)
    if not chosen:
        raise UserError(f"--against {text}: {folder} has no clips in {split or ' or '.join(_OWN_SPLITS)}")
    return chosen
