"""PyTorch checkpoints (``.pt``, ``.bin``) become safetensors in a process of its own that unpickles only tensors."""

import importlib.util
import os
import pathlib
import subprocess
import sys

from alp_jax.core.errors import UserError

TIMEOUT_S = 1800


def to_safetensors(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Writes the state dict in the pickle ``source`` as the safetensors file ``target``.

    The child reads with ``torch.load(weights_only=True)``: classes other than tensors and plain containers are refused;
    paths and numbers beside the weights are passed over.

    Raises:
      UserError: PyTorch is not installed, or the file is damaged, holds other classes or no state dict.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"{source} needs PyTorch to be read: pip install 'alp_jax[torch]'")
    child = pathlib.Path(__file__).parents[1] / "torch_module" / "unpickle.py"
    command = [sys.executable, "-I", str(child), str(pathlib.Path(source).absolute()), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(f"{source} cannot be read as a checkpoint of tensors: {lines[-1][:300]}")
