"""Runs as ``python -I trace_onnx.py FOLDER OUT.onnx``: the encoder of an exported folder as one ONNX graph.

The front end is matrix products in float64, since few runtimes have a Fourier transform; relative positions are in
float32, the type for which runtimes have an arctangent. PyTorch's trace-based exporter writes it: it takes seconds
where the newer one takes minutes, and axes may have any length as long as no index comes from a Python number.
"""

import importlib
import math
import sys
import warnings

OPSET = 17
HIDDEN = ("jax", "jaxlib", "flax", "orbax", "safetensors", "alp_jax")
OUTPUTS = ("pooled", "frames", "frame_lengths", "embed")  # the last of a model with a space shared with text


def main(folder: str, target: str) -> None:
    """Traces the export in ``folder``; its graph, from waveform to frames and one vector, goes to ``target``."""
    for name in HIDDEN:
        sys.modules[name] = None  # importing it is an error from here on
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    import onnx
    import torch
    from torch import nn

    alp = importlib.import_module("alp_encoder")
    alp.ANGLES = torch.float32

    class MatrixLogMel(alp.LogMel):
        def __init__(self, **features):
            super().__init__(**features)
            turns = torch.arange(alp.WINDOW)[:, None] * torch.arange(alp.FFT // 2 + 1) % alp.FFT
            angle_WK = turns.double() * (2 * math.pi / alp.FFT)
            self.register_buffer("cos_WK", angle_WK.cos(), persistent=False)
            self.register_buffer("sin_WK", angle_WK.sin(), persistent=False)

        def power(self, x_BTW):
            return (x_BTW @ self.cos_WK).square() + (x_BTW @ self.sin_WK).square()

    class Graph(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, audio_BS, audio_len_B):
            # below MIN_FRAMES the module pads by a Python condition, which a trace cannot record
            mel = self.encoder.log_mel(audio_BS, audio_len_B, least=alp.MIN_FRAMES)
            frames_BTD, len_B = self.encoder.audio_encoder(*mel)
            outputs = (alp.masked_mean(frames_BTD, len_B), frames_BTD, len_B)
            if self.encoder.audio_proj is None:
                return outputs
            embed_BE = alp.masked_mean(self.encoder.audio_proj(frames_BTD), len_B)
            return *outputs, nn.functional.normalize(embed_BE, dim=-1)

    alp.LogMel = MatrixLogMel
    encoder = alp.AlpEncoder.from_pretrained(folder)
    outputs = OUTPUTS[: None if encoder.audio_proj is not None else -1]
    axes = {name: {0: "batch"} for name in ("lengths", *outputs)}
    axes |= {"audio": {0: "batch", 1: "samples"}, "frames": {0: "batch", 1: "time"}}
    audio_BS = torch.rand(2, 16000, generator=torch.Generator().manual_seed(0)) - 0.5
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about sizes read in Python: they are those of weights, which do not vary
        torch.onnx.export(
            Graph(encoder).eval(),
            (audio_BS, torch.tensor([16000, 12345])),
            target,
            dynamo=False,
            opset_version=OPSET,
            input_names=["audio", "lengths"],
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    written = onnx.load(target)
    sizes = {"pooled": encoder.width, "frames": encoder.width}
    if encoder.audio_proj is not None:
        sizes["embed"] = encoder.audio_proj[-1].out_features
    for output in written.graph.output:  # the exporter loses them
        if output.name in sizes:
            output.type.tensor_type.shape.dim[-1].dim_value = sizes[output.name]
    onnx.save(written, target)
    onnx.checker.check_model(target, full_check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
