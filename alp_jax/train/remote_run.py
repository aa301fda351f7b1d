"""Run folders by path or URL: one in an object store is read, and what is measured about it written, through a copy."""

import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

from alp_jax.core import files, storage
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.mirror import AT_ONCE, Mirror, copied, local_home
from alp_jax.core.progress import stage
from alp_jax.core.run_files import (
    BAD_STEPS,
    CHECKPOINTS,
    CONFIG,
    DONE,
    LAUNCHES,
    LOG,
    METRICS,
    OUTPUT,
    SUMMARY,
)
from alp_jax.train.checkpoint_folder import MANIFEST, complete, read_manifest, require, step_folder, verify

_STAGES = "runs"
# of the files of a run those that say that it is over: last to come, first to go
_MARKS = (SUMMARY, DONE)
_CACHED = "cache"  # features of an evaluation, which can be computed again
_NOT_READ = {METRICS, LOG, OUTPUT, BAD_STEPS, LAUNCHES, "tensorboard", "profile", "wandb"}


def stage_of(url: str) -> pathlib.Path:
    """Where this host keeps the run in ``url`` while it trains it."""
    return local_home(_STAGES, url)


def mirror(folder: pathlib.Path, url: str) -> Mirror:
    """Of everything in a run folder but its checkpoints."""
    return Mirror(folder, url, lambda name: not _apart(name), _MARKS)


def _apart(name: str) -> bool:
    first, *rest = name.split("/")
    return first == CHECKPOINTS or _CACHED in rest[:-1]


def fetch_run(url: str, copy: Mirror) -> None:
    """Fetches the run in ``url`` with its last intact checkpoint, and later ones that are not intact.

    Raises:
      OSError: something cannot be read.
    """
    copy.pull()
    folder = copy.folder
    for step in reversed(complete(url)):
        with stage("fetching a checkpoint", f"{step} of {url}"):
            fetch_step(url, step, folder)
        with contextlib.suppress(StorageError):
            verify(step_folder(folder, step), contents=True)
            return


def fetch_step(url: str, step: int, folder: pathlib.Path) -> None:
    """Copies a complete checkpoint of the run in ``url`` to the run folder ``folder``, its manifest last.

    Raises:
      StorageError: its manifest is damaged. OSError: a file cannot be read.
    """
    there, here, near = (step_folder(run, step) for run in (url, folder, stage_of(url)))
    manifest = read_manifest(there)
    content = storage.read(storage.join(there, MANIFEST))
    # The stage of this host may have the very checkpoint, which then is not downloaded.
    same = storage.size(storage.join(near, MANIFEST)) >= 0 and storage.read(storage.join(near, MANIFEST)) == content

    def fetch(name: str) -> None:
        storage.fetch(storage.join(near if same and near != here else there, name), pathlib.Path(here, name))

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(fetch, manifest["files"]))
    files.write_bytes(pathlib.Path(here, MANIFEST), content)


def steps_for(step: int | None, since: int | None) -> list[int | None]:
    """The checkpoints that the parameters of ``step`` take, or their mean after ``since``."""
    return [step] if since is None else [step, since]


@contextlib.contextmanager
def local_run(
    run: storage.Location, steps: Sequence[int | None] = (), *, write: bool = False
) -> Iterator[pathlib.Path]:
    """The run folder ``run`` as a local one: itself, or of one in an object store a copy that is gone after the block.

    Args:
      steps: the checkpoints that the copy has; None among them is the last one.
      write: whether what the block writes goes to the store, at its end.

    Raises:
      UserError: no such run or checkpoint, or a store that cannot be reached.
      StorageError: the store cannot be read, or what was written could not be uploaded.
    """
    if not storage.is_remote(run):
        yield storage.local(run)
        return
    url = os.fspath(run)
    storage.check_run_folder(url, "run folder")

    def wanted(name: str) -> bool:
        return not (_apart(name) or name.split("/")[0] in _NOT_READ)

    with contextlib.ExitStack() as stack:
        try:
            if storage.size(storage.join(url, CONFIG)) < 0:
                raise UserError(f"{url} does not exist or is not a run folder")
            copy = stack.enter_context(copied(url, wanted, _MARKS, write=write))
            for step in {require(url, step) for step in steps}:
                fetch_step(url, step, copy.folder)
        except OSError as error:
            raise StorageError(f"{url}: {error}") from None
        yield copy.folder


@contextlib.contextmanager
def local_results(url: str) -> Iterator[pathlib.Path]:
    """A local copy of the results in ``url``; what the block writes goes there at its end.

    Raises:
      UserError: nothing can be written there. StorageError: the store cannot be read or written.
    """
    storage.check_run_folder(url, "--out")
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(copied(url, lambda name: _CACHED not in name.split("/")[:-1], write=True))
        except OSError as error:
            raise StorageError(f"{url}: {error}") from None
        yield copy.folder
