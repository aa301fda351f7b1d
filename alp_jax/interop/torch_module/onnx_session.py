"""Runs an ONNX graph where only onnxruntime may be imported: ``python -I onnx_session.py MODEL IN.npz OUT.npz``.

Reads and writes what ``child.py`` does.
"""

import sys

HIDDEN = ("jax", "jaxlib", "flax", "orbax", "safetensors", "alp_jax", "torch", "onnx")


def main(model_dir: str, source: str, target: str) -> None:
    for name in HIDDEN:
        sys.modules[name] = None  # importing it is an error from here on
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{model_dir}/model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = {}
    with np.load(source, allow_pickle=False) as batches:
        for i in range(len(batches.files) // 2):
            audio_BS = batches[f"audio_{i}"].astype(np.float32) / 32768
            found = dict(
                zip(names, session.run(None, {"audio": audio_BS, "lengths": batches[f"len_{i}"]}), strict=True)
            )
            outputs[f"frames_{i}"], outputs[f"len_{i}"] = found.pop("frames"), found.pop("frame_lengths")
    np.savez(target, **outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
