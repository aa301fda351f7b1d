"""A training step in pieces that are compiled one by one and added up, where the whole takes a compiler too long.

The pieces are the program's own modules with its own places on the mesh, forward and backward: the waveform to the
encoder's input, one layer of each Zipformer stack times the number of its layers, the text side with its loss for one
and for two layers (the difference is a layer), and the optimiser. Left out: what joins them (downsampling, bypasses
around stacks, sums of gradients), a few percent; and fusion across them, which the whole step would have. The peak is
an estimate: state and gradients beside everything that the pieces hold.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.config.schema import ModelConfig, RunConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.features.logmel import log_mel, num_frames
from alp_jax.features.spec_augment import spec_augment
from alp_jax.models.dual import FrameTextModel, compute_dtype
from alp_jax.models.encoders import encoder_kind, make_encoder, output_dim
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import Draws, TrainInputs, count_draws
from alp_jax.models.transformer import recompute_if
from alp_jax.models.zipformer.encoder import per_stack
from alp_jax.models.zipformer.frontend import output_length
from alp_jax.models.zipformer.modules import FrameLengths
from alp_jax.objectives.registry import make_objective
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import batch_sharding, on_mesh, replicated
from alp_jax.parallel.rules import infer_shardings
from alp_jax.planning.compiled import Compiled, compile_for
from alp_jax.planning.program import TOKENS, Bucket, Program, state_bytes
from alp_jax.planning.topology import Target
from alp_jax.planning.traffic import Traffic


@dataclasses.dataclass(frozen=True)
class Piece:
    """``function(*arguments)`` of shapes; it counts ``times``."""

    name: str
    function: Callable
    arguments: tuple
    times: int


def by_layers(
    config: RunConfig, target: Target, program: Program, bucket: Bucket, say: Callable[[str], None]
) -> Compiled:
    """The sum of the compiled pieces; ``say`` is told which one comes next.

    Raises:
      UserError: another encoder than a Zipformer, or another objective than those with one text side.
    """
    if encoder_kind(config.model) != "zipformer":
        raise UserError(f"--layers adds up Zipformers; config.model is {config.model.name}: plan its whole step")
    if config.objective.name not in ("contrastive", "captioning"):
        raise UserError(
            f"--layers adds up one text side; config.objective.name is {config.objective.name}: plan its whole step"
        )
    found = []
    for piece in pieces(config, program, bucket):
        say(piece.name)
        compiled = compile_for(target, jax.jit(piece.function).lower(*piece.arguments))
        found.append((compiled, piece.times))
    return _sum(program, found)


def pieces(config: RunConfig, program: Program, bucket: Bucket) -> Iterator[Piece]:
    """The pieces of a step, those of a layer for all layers that are alike."""
    shapes = _Shapes(program, bucket)
    yield _front_end(config, shapes)
    encoder = config.model.encoder
    for i in range(len(encoder.encoder_dim)):
        yield _layer(config.model, shapes, i)
    layers = _text_layers(config)
    if layers > 1:
        yield _text_side(config, shapes, 2, layers - 1)
        yield _text_side(config, shapes, 1, 2 - layers)
    else:
        yield _text_side(config, shapes, layers, 1)
    yield _optimizer(config, program)


class _Shapes:
    """Arrays of a step at their places."""

    def __init__(self, program: Program, bucket: Bucket):
        self.program, self.mesh, self.bucket = program, program.mesh, bucket
        self.clips = bucket.clips
        mel_frames = num_frames(round(bucket.seconds * SAMPLE_RATE))
        self.mel_frames, self.frames = mel_frames, output_length(mel_frames)

    def rows(self, *shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.clips, *shape), dtype, sharding=batch_sharding(self.mesh))

    def whole(self, *shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(self.mesh))

    def key(self) -> jax.ShapeDtypeStruct:
        return self.whole(2, dtype=jnp.uint32)

    def parameters(self, init: Callable, *path: str) -> Any:
        """Those of a module that stands at ``path`` in the model."""
        tree = jax.eval_shape(init, jax.random.key(0))
        for name in reversed(path):
            tree = {name: tree}
        placed = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            tree,
            infer_shardings(tree, self.mesh),
        )
        for name in path:
            placed = placed[name]
        return placed


def _differentiated(mesh, forward: Callable, arguments: int) -> Callable:
    """Forward and backward of ``forward(*differentiated, *others, upstream)`` for the first ``arguments``."""

    def run(*args):
        *inputs, upstream = args

        def partial(*first):
            with on_mesh(mesh):
                return forward(*first, *inputs[arguments:])

        out, backward = jax.vjp(partial, *inputs[:arguments])
        return out, backward(upstream)

    return run


def _part(model: ModelConfig, get: Callable) -> tuple[Any, Callable, Callable]:
    """(its outline, init, apply) of the module that ``get`` takes out of the encoder."""

    def make(rngs):
        return get(make_encoder(model, rngs=rngs, dtype=compute_dtype(model)))

    return outline(make), *functionalize(make)


def _front_end(config: RunConfig, shapes: _Shapes) -> Piece:
    model = config.model
    module, init, apply = _part(model, lambda encoder: encoder.encoder_embed)
    draw_counts, remat = count_draws(module), _part(model, lambda encoder: encoder)[0].remat_front

    def forward(params, whitening, audio, audio_len, key):
        mel_key, train_key = jax.random.split(jax.random.wrap_key_data(key))
        mel_BTF, len_B = log_mel(audio, audio_len, config.features)
        mel_BTF = spec_augment(mel_BTF, len_B, mel_key, config.features.spec_augment)
        train = _draws(model, train_key, whitening, draw_counts, len(len_B))
        return recompute_if(remat, lambda *args: apply(*args, train))(params, mel_BTF, output_length(len_B))

    arguments = (
        shapes.parameters(init, "params", "encoder", "encoder_embed"),
        shapes.whole(max(draw_counts.whitenings, 1)),
        shapes.rows(round(shapes.bucket.seconds * SAMPLE_RATE), dtype=jnp.int16),
        shapes.rows(dtype=jnp.int32),
        shapes.key(),
        shapes.rows(shapes.frames, model.encoder.encoder_dim[0], dtype=compute_dtype(model)),
    )
    return Piece("waveform to the encoder's input", _differentiated(shapes.mesh, forward, 2), arguments, 1)


def _draws(model: ModelConfig, key, whitening, draw_counts, clips: int) -> Draws | None:
    if not model.regularise:
        return None
    return Draws.sample(
        TrainInputs(key, jnp.float32(10_000.0), whitening[: draw_counts.whitenings]), draw_counts, clips
    )


def _layer(model: ModelConfig, shapes: _Shapes, stack: int) -> Piece:
    encoder, dtype = model.encoder, compute_dtype(model)
    width, factor = encoder.encoder_dim[stack], per_stack(encoder, "downsampling_factor")[stack]
    module, init, apply = _part(model, lambda whole: whole.encoders[stack].layers[0])
    draw_counts, remat = count_draws(module), _part(model, lambda whole: whole.encoders[stack])[0].remat
    frames = -(-shapes.frames // factor)

    def forward(params, x_BTD, whitening, pos_ND, len_B, key):
        train = _draws(model, jax.random.wrap_key_data(key), whitening, draw_counts, len(len_B))
        lengths = FrameLengths(jnp.arange(frames) < len_B[:, None], len_B)

        def run(params, x_BTD, pos_ND):
            return apply(params, x_BTD, pos_ND, lengths, train)

        return recompute_if(remat, run)(params, x_BTD, pos_ND)

    arguments = (
        shapes.parameters(init, "params", "encoder", "encoders", str(stack), "layers", "0"),
        shapes.rows(frames, width, dtype=dtype),
        shapes.whole(max(draw_counts.whitenings, 1)),
        shapes.whole(2 * frames - 1, encoder.pos_dim),
        shapes.rows(dtype=jnp.int32),
        shapes.key(),
        shapes.rows(frames, width, dtype=dtype),
    )
    times = per_stack(encoder, "num_encoder_layers")[stack]
    name = f"a layer of stack {stack + 1} of {len(encoder.encoder_dim)}"
    return Piece(name, _differentiated(shapes.mesh, forward, 3), arguments, times)


def _text_layers(config: RunConfig) -> int:
    contrastive = config.objective.name == "contrastive"
    return config.model.text.num_hidden_layers if contrastive else config.model.decoder.num_decoder_layers


def _text_side(config: RunConfig, shapes: _Shapes, layers: int, times: int) -> Piece:
    text = dataclasses.replace(config.model.text, num_hidden_layers=layers)
    decoder = dataclasses.replace(config.model.decoder, num_decoder_layers=layers)
    model = dataclasses.replace(config.model, text=text, decoder=decoder)
    objective = make_objective(config.objective, TOKENS, shapes.mesh)
    width, dtype = output_dim(model), compute_dtype(model)
    name, bias = config.objective.name, config.objective.start_bias if config.objective.learn_bias else None
    init, apply = functionalize(lambda rngs: FrameTextModel(model, name, width, bias=bias, rngs=rngs))
    frames = -(-shapes.frames // model.encoder.output_downsampling_factor)

    def step(params, frames_BTD, len_B, batch, key):
        def loss(params, frames_BTD):
            first, second = jax.random.split(jax.random.wrap_key_data(key))
            inputs = objective.prepare(batch, first)
            with on_mesh(shapes.mesh):
                outputs = apply(params, frames_BTD, len_B, inputs, second, second, method="compare")
            return objective.loss(outputs, inputs, batch)[0]

        return jax.value_and_grad(loss, argnums=(0, 1))(params, frames_BTD)

    arguments = (
        shapes.parameters(init, "params"),
        shapes.rows(frames, width, dtype=dtype),
        shapes.rows(dtype=jnp.int32),
        shapes.program.batch(shapes.bucket),
        shapes.key(),
    )
    return Piece(f"text side and loss with {layers} layer{'s' * (layers != 1)}", step, arguments, times)


def _optimizer(config: RunConfig, program: Program) -> Piece:
    optimizer = make_optimizer(config.optim, config.train.steps)

    def step(params, opt, grads):
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt

    params, opt = program.state["params"], program.state["opt"]
    return Piece("optimiser", step, (params, opt, params), 1)


def _sum(program: Program, found: list[tuple[Compiled, int]]) -> Compiled:
    held = sum(compiled.temporary * times for compiled, times in found[:-1])
    state = state_bytes(program.state)
    grads = state_bytes(program.state["params"])
    most, least = (
        _added((getattr(compiled, name), times) for compiled, times in found) for name in ("traffic", "least")
    )
    return Compiled(state, state, state, grads + held, most, least, sum(compiled.compile_s for compiled, _ in found))


def _added(found: Iterable[tuple[Traffic, int]]) -> Traffic:
    """The sum of traffic, each so many times; what one piece has and another takes away is not in it."""
    totals: dict[str, dict] = {"kernels": {}, "collectives": {}}
    for traffic, times in found:
        for name, total in totals.items():
            for one in getattr(traffic, name):
                each = dataclasses.replace(one, size=one.size / one.count, count=1)
                total[each] = total.get(each, 0) + times * one.count
    return Traffic(*(tuple(_times(each, n) for each, n in total.items() if n) for total in totals.values()))


def _times(each, count):
    return dataclasses.replace(each, size=each.size * count, count=count)
