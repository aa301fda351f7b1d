"""Runs as ``python -I unpickle.py IN.pt OUT.safetensors`` where a PyTorch checkpoint is read, so that a hostile one
meets a process that holds nothing; ``weights_only`` lets no class but tensors and plain containers in.
"""

import sys

WITHIN = ("model", "state_dict")  # where training checkpoints keep the state dict


def main(source: str, target: str) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError, over many lines
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    for key in WITHIN:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise SystemExit(f"it holds a {type(loaded).__name__}, no state dict")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise SystemExit(f"entry {name!r} is a {type(value).__name__}, no tensor")
    # clones: tied matrices share memory, which the format does not allow
    save_file({name: value.detach().clone().contiguous() for name, value in loaded.items()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
