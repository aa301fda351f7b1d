"""A sweep's folder by path or URL. Of one in an object store, drivers and readers see a local copy without checkpoints.

Its runs write to the store themselves; of them only settings, results and marks are copied, and nothing goes back.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from alp_jax.core import storage
from alp_jax.core.errors import AlpError, StorageError
from alp_jax.core.files import write_text
from alp_jax.core.mirror import Mirror, copied, local_home
from alp_jax.core.run_files import CONFIG, DONE, ENVIRONMENT, RESULTS, RUNS, SUMMARY

_ORIGIN = ".url"  # in a copy: where it is from


def run_home(sweep: pathlib.Path, run: str) -> storage.Location:
    """Where a run of the sweep is: its path, or its URL where ``sweep`` is a copy."""
    origin = sweep / _ORIGIN
    return storage.join(origin.read_text(), f"{RUNS}/{run}") if origin.exists() else sweep / RUNS / run


def fetch_results(sweep: pathlib.Path) -> None:
    """Brings what a copy has of its runs up to date; StorageError when the store cannot be read."""
    origin = sweep / _ORIGIN
    if origin.exists():
        try:
            Mirror(sweep, origin.read_text(), _result).pull()
        except OSError as error:
            raise StorageError(f"{origin.read_text()}: {error}") from None


@contextlib.contextmanager
def local_sweep(sweep: storage.Location, *, write: bool = False) -> Iterator[pathlib.Path]:
    """The folder ``sweep`` as a local one: itself, or a copy of one in an object store.

    With ``write`` the copy stays on this host, with what its runs print, and the sweep's own files go up at the end.

    Raises:
      UserError: no sweep can be there.
      StorageError: the store cannot be read or written.
    """
    if not storage.is_remote(sweep):
        yield storage.local(sweep)
        return
    url = os.fspath(sweep)
    storage.check_run_folder(url, "the sweep")
    with contextlib.ExitStack() as stack:
        try:
            if write:
                copy = Mirror(local_home("sweeps", url), url, _own)
                copy.folder.mkdir(parents=True, exist_ok=True)
                copy.pull()
                stack.callback(copy.push)
            else:
                copy = stack.enter_context(copied(url, _own))
        except OSError as error:
            raise StorageError(f"{url}: {error}") from None
        write_text(copy.folder / _ORIGIN, url)
        fetch_results(copy.folder)
        try:
            yield copy.folder
        except AlpError as error:  # nobody needs to know of the copy
            error.args = (str(error).replace(str(copy.folder), url), *error.args[1:])
            raise


def _own(name: str) -> bool:
    return not name.startswith(f"{RUNS}/")


def _result(name: str) -> bool:
    first, _, *rest = [*name.split("/"), "", ""]
    return first == RUNS and rest[0] in {CONFIG, ENVIRONMENT, SUMMARY, DONE, RESULTS} and "cache" not in rest
