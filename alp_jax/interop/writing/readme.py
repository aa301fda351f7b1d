"""README.md of exported folders: how to load them, how far they were compared, and where they differ from here."""

from collections.abc import Sequence
from typing import Any

_TORCH = """# Audio encoder

{parameters} parameters, pretrained with the {objective} objective (run {run}, step
{step}). Needs PyTorch only; `alp_encoder.py` explains the arguments.

```python
from alp_encoder import AlpEncoder
encoder = AlpEncoder.from_pretrained(".")
frames, frame_len = encoder(audio, audio_len)  # 25 vectors of {width} numbers per second{last}
```

Largest difference from the JAX encoder over {clips} clips: frames {frames:.1e}, clip means
{pooled:.1e} (allowed {tolerance:.0e}).
{lines}"""
_EMBED = "\nunit = encoder.embed_audio(audio, audio_len)  # in the space of captions"
_WRAPPERS = {
    "hear": "HEAR 2021: `hear_module.py` is the module, this folder the model file: `hear-validator hear_module -m .`",
    "xares": "X-ARES: `xares_encoder.py` is the encoder; the suite wants its path relative to where it is started.",
}
_ONNX = """# Audio encoder as an ONNX graph

{parameters} parameters, pretrained with the {objective} objective (run {run}, step {step}). Needs an ONNX runtime
(opset 17) and nothing else; the features are part of the graph.

```python
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
audio = numpy.zeros((2, 32000), numpy.float32)    # mono, {rate} samples per second, in [-1, 1]
lengths = numpy.array([32000, 20000])             # samples of each clip
wanted = ["pooled", "frames", "frame_lengths"]
pooled, frames, frame_lengths = session.run(wanted, {{"audio": audio, "lengths": lengths}})
```

{lines}

Any number of clips, of any length from 80 samples; the result of a clip does not depend on its batch. Memory grows with
the square of the longest clip, as attention does. The spectrum is computed in float64 (quiet sounds need it), so a
runtime without it cannot run the graph.

Largest difference from the JAX encoder in onnxruntime over {clips} clips, each alone and all in a batch: frames
{frames:.1e}, clip means {pooled:.1e} (allowed {tolerance:.0e}).
"""
_AUDEN = """# {title}

{parameters} parameters (run {run}, step {step}, {objective} objective), as a folder of the Auden toolbox:

```python
from auden.auto import AutoModel
model = AutoModel.from_pretrained(".")
```

Read back, {tensors} tensors are equal bit by bit; over {clips} clips, each by itself, the largest difference is
{frames:.1e} for frames (allowed {tolerance:.0e}; checked with {checked}).

- A clip in a batch with longer ones comes out differently there, since padding leaks into it: the
  toolbox pads that way. Clips by themselves come out the same.
{lines}"""
_CLAP = "- Texts are cut to 30 tokens there, special ones included; the run was trained with up to {budget}.\n"
_BINS = "- The encoder takes {bins} mel bins; the toolbox extracts 80 unless it is given features.\n"
_TOKENIZER = (
    "- tokenizer.json gives the ids of the run's tokenizer: compared on {compared} texts, {differ} of them differed.\n"
)
_UNIGRAM = "  For these, equality is not proved, and ids do differ at times:\n"
_HF = """# Text tower

{parameters} parameters (run {run}, step {step}, {objective} objective), as a folder of transformers:

```python
from transformers import AutoTokenizer, BertModel
tokenizer, model = AutoTokenizer.from_pretrained("."), BertModel.from_pretrained(".", add_pooling_layer=False)
```

There is no pooler: the vector of the first token stands for the text. Read back, {tensors} tensors are equal bit by
bit; over {texts} captions the largest difference is {hidden:.1e} (allowed {tolerance:.0e}; checked with {checked}).

{lines}"""
_TITLES = {"zipformer": "Audio encoder", "clap": "Audio-text model", "audio-caption": "Caption model"}


def torch_readme(
    origin: dict[str, Any], kind: str, measured: dict[str, Any], *, width: int, wrappers: Sequence[str]
) -> str:
    """For a folder of ``torch_folder``."""
    lines = "".join(f"\n{_WRAPPERS[name]}\n" for name in wrappers)
    if chosen := origin.get("chosen"):
        runners_up = "; ".join(f"{other['run']} {other['score']:.4f}" for other in chosen["next"])
        lines += f"\nThe best of {chosen['runs']} runs, score {chosen['score']:.4f}: {chosen['rule']}."
        lines += (f" Next: {runners_up}." if runners_up else "") + f"\nResults: {', '.join(chosen['results'])}.\n"
    last = _EMBED if kind == "clap" else ""
    return _TORCH.format(**origin, **measured, width=width, last=last, lines=lines)


def onnx_readme(origin: dict[str, Any], measured: dict[str, Any], *, rate: int, arrays: dict[str, str]) -> str:
    """For a folder of ``onnx``; ``arrays`` says what goes in and comes out."""
    lines = "\n".join(f"- `{name}`: {text}" for name, text in arrays.items())
    return _ONNX.format(**origin, **measured, rate=rate, lines=lines)


def auden_readme(origin: dict[str, Any], kind: str, measured: dict[str, Any], *, budget: int, bins: int) -> str:
    """For a folder of ``formats.auden``: ``budget`` is the caption length of the run, ``bins`` its features' width."""
    lines = _CLAP.format(budget=budget + 2) if kind == "clap" else ""
    lines += _BINS.format(bins=bins) if bins != 80 else ""
    checked = ", ".join(measured["checked_with"])
    lines += _about_ids(measured)
    return _AUDEN.format(**origin, **measured, title=_TITLES[kind], checked=checked, lines=lines)


def hf_readme(origin: dict[str, Any], measured: dict[str, Any]) -> str:
    """For a folder of ``formats.hf_text``."""
    checked = ", ".join(measured["checked_with"])
    return _HF.format(**origin, **measured, checked=checked, lines=_about_ids(measured))


def _about_ids(measured: dict[str, Any]) -> str:
    if "tokenizer" not in measured:
        return ""
    ids = measured["tokenizer"]
    exceptions = [f"  - {exception}\n" for exception in ids["not_proved"]]
    return _TOKENIZER.format(**ids) + "".join([_UNIGRAM] * bool(exceptions) + exceptions)
