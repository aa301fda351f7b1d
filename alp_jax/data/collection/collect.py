"""Builds a collection: a data set for each corpus, then one of all, without training clips that are evaluation clips.

Every step leaves something finished behind, so the same command goes on where one was stopped: the plans of all
corpora, shards, the data set of each corpus, the merged one.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence

from alp_jax.core import files, storage
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import say
from alp_jax.data.audit import run as audit
from alp_jax.data.building import build, tables
from alp_jax.data.building.merge import merge
from alp_jax.data.building.part import WHOLE_BUILD, BuildPart
from alp_jax.data.building.preview import preview
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.collection.forecast import Load, cost_forecast, cost_lines
from alp_jax.data.collection.member import PARTS, CorpusOnDisk, plan_member
from alp_jax.data.store.schema import AUDIT, INFO

_MERGED = "merged.json"  # in PARTS: of what the collection was last made


def preview_collection(corpora: Sequence[CorpusOnDisk], absent: Mapping[str, Load], chosen: BuildSettings) -> dict:
    """What a build would do, without writing anything.

    Returns:
      ``forecast`` of the corpora, and of those that are ``absent`` by their published figures; and the ``accounts`` of
      ``preview`` by corpus.
    """
    accounts, loads = {}, dict(absent)
    for corpus in corpora:
        accounts[corpus.name] = account = preview(corpus.clips(), chosen)
        loads[corpus.name] = Load.of_account(account, corpus.cost)
    return {"forecast": cost_forecast(loads, chosen.codec), "accounts": accounts}


def build_collection(
    corpora: Sequence[CorpusOnDisk],
    out: storage.Location,
    *,
    chosen: BuildSettings,
    run: build.Engine,
    against: Sequence[audit.EvalSet],
    keep_leaks: bool,
    max_bad_share: float,
    cores: int = 0,
    part: BuildPart | None = None,
) -> dict:
    """Builds, merges and audits the corpora.

    Args:
      run: as of ``build.engine_of``; ``cores``: how many it has, 0 for all of this machine.
      against: evaluation sets besides the corpora's own valid and test splits.
      keep_leaks: leave training clips that are evaluation clips in use.
      max_bad_share: as of ``build``, for each corpus.
      part: write only the shards of this part; when all parts are written, a call without it makes the collection.

    Returns:
      ``forecast``; with ``part`` also ``parts``, the account of ``build.written`` for each corpus; otherwise
      ``accounting`` and ``audit`` as of ``audit.build_audited``.

    Raises:
      UserError, DataError, StorageError: as ``build``; ``out`` holds something else.
    """
    build.check_bad_share(max_bad_share)
    out = os.fspath(out)
    _check(out)
    plans = {one.name: plan_member(one, out, chosen, part or WHOLE_BUILD) for one in corpora}
    told = cost_forecast({one.name: Load.of(plans[one.name].lengths, one.cost) for one in corpora}, chosen.codec)
    todo = [name for name, planned in plans.items() if not planned.complete]
    if todo:
        for line in cost_lines(told, cores or len(usable_cores()), part.of if part else 1, _free(out)):
            say(line)
    parts = {}
    for name in todo:
        say(f"{name}: {'part ' + str(part) if part else 'builds its shards'}")
        parts[name] = build.write_part(plans[name], chosen, run, part or WHOLE_BUILD)
        if part is None:
            build.finish(plans[name], chosen, {"collection": name}, max_bad_share)
    if part is not None:
        return {"forecast": told, "parts": parts}
    folders = [storage.join(storage.join(out, PARTS), one.name) for one in corpora]
    accounting, audited = _merged(folders, out, chosen.dedupe, against, keep_leaks)
    return {"forecast": told, "accounting": accounting, "audit": audited}


def _merged(
    folders: Sequence[str], out: str, dedupe: str, against: Sequence[audit.EvalSet], keep_leaks: bool
) -> tuple[dict, dict | None]:
    """The merged and audited data set: made anew unless it is there and of the same data sets."""
    infos = [tables.read_json(folder, INFO) for folder in folders]
    sets = [[one.name, len(one.clips), list(one.covers)] for one in against]
    wanted = fingerprint([[info["fingerprint"] for info in infos], dedupe, sets, keep_leaks])
    home = storage.join(out, PARTS)
    there = storage.size(storage.join(home, _MERGED)) >= 0 and storage.size(storage.join(out, INFO)) >= 0
    if there and tables.read_json(home, _MERGED).get("of") == wanted:
        return tables.read_json(out, INFO)["accounting"], audit.kept_audit(out)
    storage.remove(storage.join(home, _MERGED))
    for name in (INFO, *storage.names(out)):  # dataset.json first: without it, this is not a data set
        if name in (INFO, AUDIT, audit.RESULT) or (name.startswith("index") and name.endswith(".arrow")):
            storage.remove(storage.join(out, name))
    accounting = merge(folders, out, dedupe=dedupe, least=1)
    accounting, audited = audit.audited(out, accounting, against, keep_leaks)
    storage.write(storage.join(home, _MERGED), files.json_text({"of": wanted}).encode())
    return accounting, audited


def _check(out: str) -> None:
    try:
        names = storage.names(out)
    except OSError as error:
        raise UserError(f"{out} cannot be listed: {error}") from None
    if names and PARTS not in names:
        raise UserError(f"{out} is not empty and is not a collection; choose an empty folder")


def _free(out: str) -> int | None:
    if storage.is_remote(out):
        return None
    with contextlib.suppress(OSError):
        return shutil.disk_usage(storage.local(out)).free
    return None
