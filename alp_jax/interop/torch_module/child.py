"""Runs an exported encoder where nothing but PyTorch may be imported: ``python -I child.py MODEL IN.npz OUT.npz``.

IN holds ``audio_<i>`` int16 (B, S) and ``len_<i>`` int64 (B,) per batch; OUT gets ``frames_<i>`` and ``len_<i>`` and,
for the last batch, ``pooled`` and ``embed`` (of a model with a space shared with text).
"""

import importlib
import sys

HIDDEN = ("jax", "jaxlib", "flax", "orbax", "safetensors", "alp_jax")


def main(model_dir: str, source: str, target: str) -> None:
    for name in HIDDEN:
        sys.modules[name] = None  # importing it is an error from here on
    sys.dont_write_bytecode = True
    sys.path.insert(0, model_dir)
    import numpy as np
    import torch

    encoder = importlib.import_module("alp_encoder").AlpEncoder.from_pretrained(model_dir)
    outputs = {}
    with np.load(source, allow_pickle=False) as batches, torch.inference_mode():
        for i in range(len(batches.files) // 2):
            audio, audio_len = torch.from_numpy(batches[f"audio_{i}"]), torch.from_numpy(batches[f"len_{i}"])
            outputs[f"frames_{i}"], outputs[f"len_{i}"] = encoder(audio, audio_len)
        outputs["pooled"] = encoder.pooled(audio, audio_len)
        if encoder.audio_proj is not None:
            outputs["embed"] = encoder.embed_audio(audio, audio_len)
    np.savez(target, **{name: value.numpy() for name, value in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
