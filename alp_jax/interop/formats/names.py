"""The map between our parameter paths and the names in the reference's PyTorch state dicts: total and one-to-one.

The reference is Auden, the authors' PyTorch toolbox. A rule is (pattern of our path, PyTorch name, layout); the first
pattern that matches a whole path decides.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.names import choose, nearest
from alp_jax.interop.reading.foreign import Weights

Rule = tuple[str, str, str]
Transform = Callable[[np.ndarray], np.ndarray]


class Layout(NamedTuple):
    """How one parameter's axes are ordered there and here: two inverse permutations, so that every bit survives."""

    to_torch: Transform
    from_torch: Transform


LAYOUTS = {
    "same": Layout(lambda a: a, lambda a: a),
    # (in, out) <-> (out, in)
    "linear": Layout(lambda a: a.T, lambda a: a.T),
    # (height, width, in, out) <-> (out, in, height, width)
    "conv2d": Layout(lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0)),
    # (in, out) <-> (out, in, 1, 1)
    "pointwise": Layout(lambda a: a.T[:, :, None, None], lambda a: a[:, :, 0, 0].T),
    # (taps, channels) <-> (channels, 1, taps)
    "depthwise": Layout(lambda a: a.T[:, None, :], lambda a: a[:, 0, :].T),
    # (height, width, channels) <-> (channels, 1, height, width)
    "depthwise2d": Layout(lambda a: a.transpose(2, 0, 1)[:, None], lambda a: a[:, 0].transpose(1, 2, 0)),
}


def _linear(ours: str, theirs: str) -> tuple[Rule, ...]:
    return ((f"{ours}/kernel", f"{theirs}.weight", "linear"), (f"{ours}/bias", f"{theirs}.bias", "same"))


def _norm(ours: str, theirs: str) -> tuple[Rule, ...]:
    return ((f"{ours}/scale", f"{theirs}.weight", "same"), (f"{ours}/bias", f"{theirs}.bias", "same"))


_TEXT_LAYER, _BERT_LAYER = r"text/layers/(\d+)", r"text_encoder.encoder.layer.\1"
TEXT_RULES: tuple[Rule, ...] = (
    (r"text/embeddings/(\w+)/embedding", r"text_encoder.embeddings.\1.weight", "same"),
    *_norm("text/embeddings/norm", "text_encoder.embeddings.LayerNorm"),
    *_linear(rf"{_TEXT_LAYER}/attention/(query|key|value)", rf"{_BERT_LAYER}.attention.self.\2"),
    *_linear(rf"{_TEXT_LAYER}/attention/output", rf"{_BERT_LAYER}.attention.output.dense"),
    *_norm(rf"{_TEXT_LAYER}/attention/norm", rf"{_BERT_LAYER}.attention.output.LayerNorm"),
    *_linear(rf"{_TEXT_LAYER}/intermediate", rf"{_BERT_LAYER}.intermediate.dense"),
    *_linear(rf"{_TEXT_LAYER}/output", rf"{_BERT_LAYER}.output.dense"),
    *_norm(rf"{_TEXT_LAYER}/norm", rf"{_BERT_LAYER}.output.LayerNorm"),
)
HEAD_RULES: tuple[Rule, ...] = (
    *_linear(r"(audio|text)_proj/hidden", r"\1_proj.0"),
    *_linear(r"(audio|text)_proj/output", r"\1_proj.2"),
)

_DECODER_LAYER, _TORCH_LAYER = r"decoder/layers/(\d+)", r"text_decoder.decoder.layers.\1"
DECODER_RULES: tuple[Rule, ...] = (
    (r"decoder/text_embed/embedding", "text_decoder.text_embed.weight", "same"),
    *_linear("decoder/output_proj", "text_decoder.output_proj"),
    *_linear("decoder/enc_dec_proj", "enc_dec_proj"),
    (rf"{_DECODER_LAYER}/(\w+_attn)/in_proj/kernel", rf"{_TORCH_LAYER}.\2.in_proj_weight", "linear"),
    (rf"{_DECODER_LAYER}/(\w+_attn)/in_proj/bias", rf"{_TORCH_LAYER}.\2.in_proj_bias", "same"),
    *_linear(rf"{_DECODER_LAYER}/(\w+_attn)/out_proj", rf"{_TORCH_LAYER}.\2.out_proj"),
    *_linear(rf"{_DECODER_LAYER}/(linear\d)", rf"{_TORCH_LAYER}.\2"),
    *_norm(rf"{_DECODER_LAYER}/(norm\d)", rf"{_TORCH_LAYER}.\2"),
)

_LAYER, _REFERENCE_LAYER = r"encoders/(\d+)/layers/(\d+)", r"encoder.encoders.\1.layers.\2"
_CONV, _REFERENCE_CONV = rf"{_LAYER}/(conv_module\d)/depthwise_conv", rf"{_REFERENCE_LAYER}.\3.depthwise_conv"
ZIPFORMER_RULES: tuple[Rule, ...] = (
    (r"encoder_embed/conv(\d)/kernel", r"encoder_embed.conv.\1.weight", "conv2d"),
    (r"encoder_embed/conv(\d)/bias", r"encoder_embed.conv.\1.bias", "same"),
    (r"encoder_embed/convnext/depthwise_conv/kernel", "encoder_embed.convnext.depthwise_conv.weight", "depthwise2d"),
    (r"encoder_embed/convnext/(pointwise_conv\d)/kernel", r"encoder_embed.convnext.\1.weight", "pointwise"),
    (r"encoder_embed/convnext/(\w+)/bias", r"encoder_embed.convnext.\1.bias", "same"),
    *_linear("encoder_embed/out", "encoder_embed.out"),
    (r"encoder_embed/out_norm/(log_scale|bias)", r"encoder_embed.out_norm.\1", "same"),
    (r"encoders/(\d+)/downsample/bias", r"encoder.encoders.\1.downsample.bias", "same"),
    (r"encoders/(\d+)/out_combiner/bypass_scale", r"encoder.encoders.\1.out_combiner.bypass_scale", "same"),
    (rf"{_LAYER}/bypass_scale", rf"{_REFERENCE_LAYER}.bypass_scale", "same"),
    (rf"{_LAYER}/(bypass|bypass_mid)/bypass_scale", rf"{_REFERENCE_LAYER}.\3.bypass_scale", "same"),
    (rf"{_LAYER}/norm/(log_scale|bias)", rf"{_REFERENCE_LAYER}.norm.\3", "same"),
    *_linear(rf"{_LAYER}/(\w+)/(in_proj|out_proj|linear_pos)", rf"{_REFERENCE_LAYER}.\3.\4"),
    (rf"{_CONV}/kernel", rf"{_REFERENCE_CONV}.weight", "depthwise"),
    (rf"{_CONV}/(bias|chunkwise_conv_scale)", rf"{_REFERENCE_CONV}.\4", "same"),
    (rf"{_CONV}/(causal_conv|chunkwise_conv)/kernel", rf"{_REFERENCE_CONV}.\4.weight", "depthwise"),
    (rf"{_CONV}/(causal_conv|chunkwise_conv)/bias", rf"{_REFERENCE_CONV}.\4.bias", "same"),
    (r"downsample_output/bias", "encoder.downsample_output.bias", "same"),
)

# Whole models of the reference keep their encoder under ``audio_encoder``.
_PREFIXED = tuple((f"encoder/{ours}", f"audio_encoder.{theirs}", layout) for ours, theirs, layout in ZIPFORMER_RULES)
RULES: dict[str, tuple[Rule, ...]] = {
    "zipformer": ZIPFORMER_RULES,
    "clap": _PREFIXED + TEXT_RULES + HEAD_RULES,
    "audio-caption": _PREFIXED + DECODER_RULES,
    # a text tower by itself, as transformers' BertModel names it
    "bert": tuple((ours, theirs.removeprefix("text_encoder."), layout) for ours, theirs, layout in TEXT_RULES),
}
_WITHIN = "audio_encoder.model_batch_count"
BATCH_COUNT = {"zipformer": "model_batch_count", "clap": _WITHIN, "audio-caption": _WITHIN, "bert": ""}
# Parameters of ours that the reference keeps in its config.json (``temp`` of clap), not in the state dict.
OUTSIDE = {"zipformer": (), "clap": ("logit_scale",), "audio-caption": (), "bert": ()}
_TOKEN_TABLE, _OUTPUT_TABLE = "text_decoder.text_embed.weight", "text_decoder.output_proj.weight"


class Entry(NamedTuple):
    """One parameter: ``path`` here, ``name`` there, ``layout`` between them."""

    path: str
    name: str
    layout: str


def leaf_path(path: tuple) -> str:
    """``encoder/encoders/1/...`` for a key path of ``jax.tree_util``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def entries(params: Any, kind: str) -> list[Entry]:
    """The map for every parameter that has a place in the reference's state dict.

    Args:
      params: nested dict of arrays or ShapeDtypeStructs.
      kind: in ``RULES``.

    Raises:
      UserError: a parameter that no rule matches, or two that would get the same name.
    """
    choose(kind, RULES, "model kind")
    paths = [leaf_path(key_path) for key_path, _ in jax.tree_util.tree_leaves_with_path(params)]
    # The reference wraps a stack that downsamples, which puts ``encoder.`` before its layers. Rules see one path at a
    # time and cannot know that, so such names are mended after them.
    wrapped = {path.removesuffix("downsample/bias") for path in paths if path.endswith("/downsample/bias")}
    by_name: dict[str, Entry] = {}
    for path in paths:
        if path in OUTSIDE[kind]:
            continue
        entry = _entry(path, kind)
        stack, layers, _ = path.partition("layers/")
        if layers and stack in wrapped:
            entry = entry._replace(name=re.sub(r"(encoders\.\d+)\.layers", r"\1.encoder.layers", entry.name))
        if entry.name in by_name:
            raise UserError(f"parameters {by_name[entry.name].path} and {path} would both be saved as {entry.name}")
        by_name[entry.name] = entry
    return list(by_name.values())


def _entry(path: str, kind: str) -> Entry:
    for pattern, name, layout in RULES[kind]:
        match = re.fullmatch(pattern, path)
        if match:
            return Entry(path, match.expand(name), layout)
    raise UserError(f"parameter {path} has no name in a {kind} state dict of the reference")


def from_torch(
    state: dict[str, np.ndarray], params_like: Any, kind: str, *, outside: dict[str, float] | None = None
) -> Any:
    """Parameters in our layout from a state dict of the reference.

    Args:
      state: name -> array, every name that the model has and no other; ``model_batch_count`` may be absent.
      params_like: nested dict whose structure, shapes and types the result has (``jax.eval_shape`` of ``init``).
      kind: in ``RULES``.
      outside: values of the parameters in ``OUTSIDE[kind]``, which the reference keeps in its config.json.

    Raises:
      UserError: a missing, unused or differently shaped name, or a missing outside value; the message names it.
    """
    table = {entry.path: entry for entry in entries(params_like, kind)}
    tied = _tied_names(table.values(), kind)
    expected = {entry.name for entry in table.values()} | tied.keys()
    for name in sorted(expected - state.keys()):
        raise UserError(f"state dict lacks {name}{nearest(name, state) if state else ''}")
    for name in sorted(state.keys() - expected - {BATCH_COUNT[kind]}):
        raise UserError(f"state dict has {name}, which a {kind} model of this configuration does not")
    # Only one of two tied matrices is read; without this check a file in which they differ would lose the other.
    for name, source in tied.items():
        if not np.array_equal(state[name], state[source]):
            raise UserError(f"{name} and {source} differ, but decoder_shared_emb makes them one matrix")

    def read(key_path, like):
        path = leaf_path(key_path)
        if path not in table:
            if path not in (outside or {}):
                raise UserError(f"parameter {path} is not part of a state dict; give its value")
            return jnp.asarray(outside[path], like.dtype)
        entry = table[path]
        layout = LAYOUTS[entry.layout]
        # A broadcast scalar takes no memory. Shapes are compared on their side, before any transpose, so that the
        # message shows the file's own.
        shape = layout.to_torch(np.broadcast_to(np.float32(0), like.shape)).shape
        value = np.asarray(state[entry.name])
        if value.shape != shape:
            raise UserError(f"{entry.name} has shape {list(value.shape)}; this configuration needs {list(shape)}")
        return jnp.asarray(layout.from_torch(value), like.dtype)

    return jax.tree_util.tree_map_with_path(read, params_like)


def params_from(weights: Weights, like: Any, kind: str, *, outside: dict[str, float] | None = None) -> Any:
    """``from_torch`` for a file: float32 weights only, and errors that name the file."""
    for name, value in weights.tensors.items():
        if value.dtype != np.float32:
            raise UserError(f"{weights.path}: {name} holds {value.dtype} numbers; no weight of the model has that type")
    try:
        return from_torch(weights.tensors, like, kind, outside=outside)
    except UserError as error:
        raise UserError(f"{weights.path}: {error}") from None


def to_torch(params: Any, kind: str, *, batch_count: float | None = None) -> dict[str, np.ndarray]:
    """The reference's state dict for ``params``; the parameters in ``OUTSIDE[kind]`` belong in its config.json.

    Args:
      batch_count: value of the buffer ``model_batch_count``; None leaves it out, which the reference accepts.
    """
    table = {entry.path: entry for entry in entries(params, kind)}
    state = {}
    for key_path, value in jax.tree_util.tree_leaves_with_path(params):
        entry = table.get(leaf_path(key_path))
        if entry is not None:
            # a copy in C order: safetensors stores the buffer as it is, and a transposed view's is still in our order
            state[entry.name] = np.array(LAYOUTS[entry.layout].to_torch(np.asarray(value)), order="C")
    for name, source in _tied_names(table.values(), kind).items():
        state[name] = state[source].copy()
    if batch_count is not None:
        state[BATCH_COUNT[kind]] = np.array(batch_count, np.float32)
    return state


def _tied_names(table, kind: str) -> dict[str, str]:
    """Names that hold a second copy of another one: the output matrix of a decoder with a shared embedding."""
    names = {entry.name for entry in table}
    return {_OUTPUT_TABLE: _TOKEN_TABLE} if kind == "audio-caption" and _OUTPUT_TABLE not in names else {}
