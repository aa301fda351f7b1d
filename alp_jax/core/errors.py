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
    """A program that was started here ended with an exit status of its own, which becomes that of this one."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Preempted(AlpError):
    """The work was asked to stop; what there was to save is saved, and the same command goes on."""

    exit_code = 42


class HangError(AlpError):
    """Another process of the run, or this one, did not get on in time."""

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


# what a path that was named is instead of what is needed there
PATH_PROBLEMS: dict[type[OSError], str] = {
    IsADirectoryError: "is a folder, where a file is needed",
    NotADirectoryError: "lies below a file, where a folder is needed",
    FileExistsError: "is a file, where a folder is needed",
    PermissionError: "may not be read or written by this user",
}
