"""Object stores by URL: how they are reached, what goes wrong there, and what only they can do.

An object is there whole or not at all, and a name can be claimed by one of several writers. Nothing is ever renamed.
"""

import contextlib
import errno
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from alp_jax.core.errors import AlpError, StorageError, UserError

# Its client also logs, with tracebacks, the errors that it raises.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)

# of the stores that can hold a run folder -> where their clients look for credentials
STORES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS",
    "memory": "none are needed",
}
_NO_CREDENTIALS = {  # errors of botocore and google.auth
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "DefaultCredentialsError",
}


@contextlib.contextmanager
def reached(url: str | os.PathLike) -> Iterator[tuple[Any, str]]:
    """(fsspec's file system, the name of ``url`` there); errors of any client become those of this module."""
    import fsspec  # here: most commands name local paths only, and every command loads this file

    scheme = os.fspath(url).partition("://")[0]
    try:
        try:
            # Listings are never kept: other hosts write where this one reads.
            place = fsspec.core.url_to_fs(os.fspath(url), use_listings_cache=False)
        except ImportError as error:
            hint = "pip install 'alp_jax[cloud]'" if scheme in STORES else str(error)
            raise UserError(f"{url}: the package for {scheme}:// is not installed: {hint}") from None
        except ValueError:
            raise UserError(f"{url}: {scheme}:// is not known: use a path, or a URL of gs:// or s3://") from None
        yield place
    except (FileNotFoundError, PermissionError, FileExistsError) as error:
        raise type(error)(error.errno or errno.EIO, said(error), os.fspath(url)) from None
    except AlpError:
        raise
    except Exception as error:  # each client raises classes of its own, which only it can import
        if type(error).__name__ in _NO_CREDENTIALS:
            known = STORES.get(scheme, f"see the documentation of fsspec about {scheme}://")
            raise UserError(f"{url}: no credentials were found: {known} ({said(error)})") from None
        raise OSError(f"{url}: {said(error)}") from None


def require_credentials(url: str | os.PathLike, system: Any) -> None:
    """Raises UserError if ``system``, of ``url``, is the client of ``gs://``, and looked for credentials in vain.

    That client goes on without, as it may read what is public, and then tries for a minute.
    """
    found = getattr(getattr(system, "credentials", None), "method", "") != "anon"
    if not found and not os.environ.get("STORAGE_EMULATOR_HOST"):
        raise UserError(f"{url}: no credentials were found: {STORES['gs']}")


def said(error: Exception) -> str:
    """What a storage client's error says, on one line of at most 300 characters; its class where it says nothing."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:300]


def create(url: str, data: bytes) -> bool:
    """Writes an object if there is none of that name; of several writers at once one gets True.

    ``data`` must be the caller's alone: a request that got through and was sent again is told from another's by it.

    Raises:
      StorageError: it could not be written.
    """
    try:
        with reached(url) as (system, name):
            system.pipe_file(name, data, mode="create")
    except OSError as error:
        try:
            with reached(url) as (system, name):
                return system.cat_file(name) == data
        except OSError:
            raise StorageError(f"{url} could not be written: {said(error)}") from None
    return True


def send(source: pathlib.Path, url: str) -> None:
    """Uploads a local file, which stays where it is.

    Raises:
      StorageError: it could not be written.
    """
    try:
        with reached(url) as (system, name):
            system.put_file(str(source), name)
    except OSError as error:
        raise StorageError(f"{url} could not be written: {said(error)}") from None


def remove_folder(url: str) -> None:
    """Deletes every object below ``url``."""
    with contextlib.suppress(FileNotFoundError), reached(url) as (system, name):
        system.rm(name, recursive=True)
