"""Errors a user can act on.

Every one of them is printed by the command line as a single line without a traceback, and its ``exit_code`` becomes
the exit status: 2 bad usage or input, 42 preempted, 43 hang, 44 data, 45 storage, 46 numerics.
"""


class AlpError(Exception):
    """A failure that the message explains; ``str(error)`` is one line that names the file, record or knob."""

    exit_code = 1


class UserError(AlpError):
    """Wrong flags, paths, configuration or input files: nothing was written or overwritten."""

    exit_code = 2


class ChildFailed(AlpError):
    """A program started from here failed; its exit status becomes that of this process."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Preempted(AlpError):
    """The work was asked to stop; everything is saved, and the same command resumes it."""

    exit_code = 42


class HangError(AlpError):
    """Another process of the run, or this one, made no progress in time."""

    exit_code = 43


class DataError(AlpError):
    """Stored data is damaged or is not what its index says."""

    exit_code = 44


class StorageError(AlpError):
    """A checkpoint or file could not be written or read back."""

    exit_code = 45


class NumericsError(AlpError):
    """Training produced non-finite values too many times in a row."""

    exit_code = 46


# what a named path turned out to be, where something else is needed
PATH_PROBLEMS: dict[type[OSError], str] = {
    IsADirectoryError: "is a folder, where a file is needed",
    NotADirectoryError: "lies below a file, where a folder is needed",
    FileExistsError: "is a file, where a folder is needed",
    PermissionError: "may not be read or written by this user",
}
