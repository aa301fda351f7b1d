"""Runs as ``python -I unpickle.py IN.pt OUT.safetensors`` where a PyTorch checkpoint is read, so that a hostile one
finds a process with nothing to steal; ``weights_only`` admits no classes but tensors and plain containers.

Training checkpoints keep their settings with the weights. Paths, dates, numbers and numpy's arrays among these are of
classes that ``weights_only`` does not know; they are read as ``Ignored``, so that nothing of those classes is run or
even imported.
"""

import re
import sys

# torch buries the cause in advice
_CAUSE = re.compile(
    r"(?:WeightsUnpickler error:\s*(?=\S)|(?=Trying to load unsupported GLOBAL ))"
    r"(.+?)(?: was not an allowed global|\. |\.?\n|$)"
)
WITHIN = ("model", "state_dict")  # where training checkpoints keep the state dict

_PATHS = ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
IGNORED = (
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),  # the latter: Python 3.13
    "argparse.Namespace",
    "datetime.datetime",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)


class Ignored:
    """Stands in for an object that is not a weight: accepts any arguments and state, and keeps nothing."""

    def __init__(self, *parts):
        del parts

    def __setstate__(self, state):
        del state


def main(source: str, target: str) -> None:
    """Reads the state dict in ``source`` with PyTorch's restricted unpickler; ``target`` gets it as safetensors.

    Raises:
      SystemExit: it holds anything but tensors, or cannot be read; with the reason.
    """
    import torch
    from safetensors.torch import save_file

    try:
        with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED]):
            loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError, over many lines
        cause = _CAUSE.search(str(error))
        reason = " ".join((cause[1] if cause else str(error)).split())[:200]
        raise SystemExit(f"{type(error).__name__}: {reason}") from None
    for key in WITHIN:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise SystemExit(f"it holds a {type(loaded).__name__}, not a state dict")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            kind = "not a tensor" if isinstance(value, Ignored) else f"a {type(value).__name__}, not a tensor"
            raise SystemExit(f"entry {name!r} is {kind}")
    # clones: tied matrices share memory, which the format does not allow
    save_file({name: value.detach().clone().contiguous() for name, value in loaded.items()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
