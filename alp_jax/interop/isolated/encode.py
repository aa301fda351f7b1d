"""Runs an exported audio encoder where JAX cannot be imported: ``python -I encode.py RUNTIME MODEL IN.npz OUT.npz``.

RUNTIME is ``torch`` or ``onnx``, its only library. IN holds ``audio_<i>`` int16 (B, S) and ``len_<i>`` int64 (B,)
per batch; OUT gets ``frames_<i>`` and ``len_<i>`` and, for the last batch, ``pooled`` and ``embed`` (of a model
with a space shared with text).
"""

import importlib
import sys

HIDDEN = ("jax", "jaxlib", "flax", "orbax", "safetensors", "alp_jax")


def main(runtime: str, model_dir: str, source: str, target: str) -> None:
    """Encodes the batches in ``source`` by the export in ``model_dir``; frames and lengths go to ``target``."""
    for name in HIDDEN if runtime == "torch" else (*HIDDEN, "torch", "onnx"):
        sys.modules[name] = None  # importing it is an error from here on
    import numpy as np

    encode = {"torch": load_torch, "onnx": load_onnx}[runtime](model_dir)
    outputs = {}
    with np.load(source, allow_pickle=False) as batches:
        count = len(batches.files) // 2
        for i in range(count):
            frames, length, clip = encode(batches[f"audio_{i}"], batches[f"len_{i}"], i == count - 1)
            outputs |= {f"frames_{i}": frames, f"len_{i}": length, **clip}
    np.savez(target, **outputs)


def load_torch(model_dir: str):
    """The folder's own module."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, model_dir)
    import torch

    encoder = importlib.import_module("alp_encoder").AlpEncoder.from_pretrained(model_dir)

    @torch.inference_mode()
    def encode(audio_BS, len_B, whole_clips):
        batch = torch.from_numpy(audio_BS), torch.from_numpy(len_B)
        frames, length = encoder(*batch)
        clip = {"pooled": encoder.pooled(*batch).numpy()} if whole_clips else {}
        if whole_clips and encoder.audio_proj is not None:
            clip["embed"] = encoder.embed_audio(*batch).numpy()
        return frames.numpy(), length.numpy(), clip

    return encode


def load_onnx(model_dir: str):
    """The folder's graph in onnxruntime."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{model_dir}/model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def encode(audio_BS, len_B, whole_clips):
        given = {"audio": audio_BS.astype(np.float32) / 32768, "lengths": len_B}
        outputs = dict(zip(names, session.run(None, given), strict=True))
        return outputs.pop("frames"), outputs.pop("frame_lengths"), outputs if whole_clips else {}

    return encode


if __name__ == "__main__":
    main(*sys.argv[1:])
