"""A training step in pieces that are compiled one by one and added up, where the whole takes the compiler too long.

The pieces are the program's own modules, sharded as it shards them, forward and backward: the waveform to the
encoder's input, one layer of each stack times the number of its layers, the text side with its loss for one and for two
layers (the difference is a layer), and the optimiser. Left out: what joins them (downsampling, bypasses
around stacks, sums of gradients), a few percent; and fusion across pieces, which the whole step would have. The peak is
an estimate: state and gradients plus everything that the pieces hold.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.config.schema import RunConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.forecast import ShapeUse
from alp_jax.features.logmel import log_mel, num_frames
from alp_jax.features.spec_augment import spec_augment
from alp_jax.models.dual import FrameTextModel, compute_dtype
from alp_jax.models.encoder_spec import EncoderPart
from alp_jax.models.encoders import encoder_frames, encoder_spec, make_encoder, output_dim
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import Draws, TrainInputs, count_draws
from alp_jax.objectives.registry import make_objective, sides_of
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import batch_sharding, on_mesh, replicated
from alp_jax.parallel.rules import infer_shardings
from alp_jax.planning.compiled import Compiled, compile_for
from alp_jax.planning.program import TOKENS, Program, state_bytes
from alp_jax.planning.topology import Target
from alp_jax.planning.traffic import Traffic


@dataclasses.dataclass(frozen=True)
class Piece:
    """``function(*arguments)`` on shapes, which counts ``times`` times."""

    name: str
    function: Callable
    arguments: tuple
    times: int


def by_layers(
    config: RunConfig, target: Target, program: Program, bucket: ShapeUse, say: Callable[[str], None]
) -> Compiled:
    """The sum of the compiled pieces; ``say`` is called with the name of each before it is compiled.

    Raises:
      UserError: an encoder that does not state its parts, or an objective without exactly one text side.
    """
    if encoder_spec(config.model).parts is None:
        raise UserError(
            f"--layers adds up encoders that state their parts, which a {config.model.encoder_kind} does not; "
            f"config.model is {config.model.name}: plan its whole step"
        )
    if sides_of(config.objective) not in ((TEXT,), (DECODER,)):
        raise UserError(
            f"--layers adds up one text side; config.objective.name is {config.objective.name}: plan its whole step"
        )
    programs = []
    for piece in pieces(config, program, bucket):
        say(piece.name)
        compiled = compile_for(target, jax.jit(piece.function).lower(*piece.arguments))
        programs.append((compiled, piece.times))
    return _sum(program, programs)


def pieces(config: RunConfig, program: Program, bucket: ShapeUse) -> Iterator[Piece]:
    """The pieces of a step; layers that are alike share one."""
    shapes = _Shapes(program, bucket)
    for part in encoder_spec(config.model).parts(config.model, shapes.mel_frames):
        yield _encoder_piece(config, shapes, part)
    layers = _text_layers(config)
    if layers > 1:  # layers - 1 times two layers less layers - 2 times one: one layer, and the others as differences
        yield _text_side(config, shapes, 2, layers - 1)
        yield _text_side(config, shapes, 1, 2 - layers)
    else:
        yield _text_side(config, shapes, layers, 1)
    yield _optimizer(config, program)


class _Shapes:
    """Shapes of a step's arrays with their shardings."""

    def __init__(self, program: Program, bucket: ShapeUse):
        self.program, self.mesh, self.bucket = program, program.mesh, bucket
        self.clips = bucket.clips
        self.mel_frames = num_frames(round(bucket.seconds * SAMPLE_RATE))

    def rows(self, *shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.clips, *shape), dtype, sharding=batch_sharding(self.mesh))

    def whole(self, *shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(self.mesh))

    def key(self) -> jax.ShapeDtypeStruct:
        return self.whole(2, dtype=jnp.uint32)

    def parameters(self, init: Callable, *path: str) -> Any:
        """The parameters of a module that is at ``path`` in the model."""
        tree = jax.eval_shape(init, jax.random.key(0))
        # the rules of sharding go by whole paths, so the module is put at its own before they are asked
        for name in reversed(path):
            tree = {name: tree}
        placed = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
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


def _encoder_piece(config: RunConfig, shapes: _Shapes, part: EncoderPart) -> Piece:
    """A part with its draws, forward and backward; the first takes the waveform."""
    model, dtype = config.model, compute_dtype(config.model)

    def make(rngs):
        return part.module(make_encoder(model, rngs=rngs, dtype=dtype))

    draw_counts, (init, apply) = count_draws(outline(make)), functionalize(make)

    def draws(key, whitening) -> Draws | None:
        if not model.regularise:
            return None
        inputs = TrainInputs(key, jnp.float32(10_000.0), whitening[: draw_counts.whitenings])
        return Draws.sample(inputs, draw_counts, shapes.clips)

    def from_audio(params, whitening, audio, audio_len, key):
        mel_key, train_key = jax.random.split(jax.random.wrap_key_data(key))
        mel_BTF, len_B = log_mel(audio, audio_len, config.features)
        mel_BTF = spec_augment(mel_BTF, len_B, mel_key, config.features.spec_augment)
        return part.run(apply, params, mel_BTF, len_B, draws(train_key, whitening))

    def from_frames(params, x_BTD, whitening, *others):
        *constants, len_B, key = others
        return part.run(apply, params, x_BTD, len_B, draws(jax.random.wrap_key_data(key), whitening), *constants)

    params = shapes.parameters(init, "params", "encoder", *part.path)
    whitening = shapes.whole(max(draw_counts.whitenings, 1))
    lengths, upstream = shapes.rows(dtype=jnp.int32), shapes.rows(*part.out, dtype=dtype)
    if part.shape is None:
        audio = shapes.rows(round(shapes.bucket.seconds * SAMPLE_RATE), dtype=jnp.int16)
        arguments = (params, whitening, audio, lengths, shapes.key(), upstream)
        return Piece(part.name, _differentiated(shapes.mesh, from_audio, 2), arguments, part.times)
    constants = [shapes.whole(*shape) for shape in part.constants]
    x_BTD = shapes.rows(*part.shape, dtype=dtype)
    arguments = (params, x_BTD, whitening, *constants, lengths, shapes.key(), upstream)
    return Piece(part.name, _differentiated(shapes.mesh, from_frames, 3), arguments, part.times)


def _text_layers(config: RunConfig) -> int:
    text = TEXT in sides_of(config.objective)
    return config.model.text.num_hidden_layers if text else config.model.decoder.num_decoder_layers


def _text_side(config: RunConfig, shapes: _Shapes, layers: int, times: int) -> Piece:
    text = dataclasses.replace(config.model.text, num_hidden_layers=layers)
    decoder = dataclasses.replace(config.model.decoder, num_decoder_layers=layers)
    model = dataclasses.replace(config.model, text=text, decoder=decoder)
    objective = make_objective(config.objective, TOKENS, shapes.mesh)
    width, dtype = output_dim(model), compute_dtype(model)
    sides, bias = sides_of(config.objective), config.objective.start_bias if config.objective.learn_bias else None
    init, apply = functionalize(lambda rngs: FrameTextModel(model, sides, width, bias=bias, rngs=rngs))
    frames = encoder_frames(model, shapes.mel_frames)

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


def _sum(program: Program, pieces: list[tuple[Compiled, int]]) -> Compiled:
    held = sum(compiled.temporary * times for compiled, times in pieces[:-1])
    state = state_bytes(program.state)
    grads = state_bytes(program.state["params"])
    most, least = (
        _added((getattr(compiled, name), times) for compiled, times in pieces) for name in ("traffic", "least")
    )
    return Compiled(state, state, state, grads + held, most, least, sum(compiled.compile_s for compiled, _ in pieces))


def _added(pieces: Iterable[tuple[Traffic, int]]) -> Traffic:
    """The sum of each traffic times its number, which may be negative; kernels whose counts cancel are left out."""
    totals: dict[str, dict] = {"kernels": {}, "collectives": {}}
    for traffic, times in pieces:
        for name, total in totals.items():
            for one in getattr(traffic, name):
                each = dataclasses.replace(one, size=one.size / one.count, count=1)
                total[each] = total.get(each, 0) + times * one.count
    sums = [{each: n for each, n in total.items() if n} for total in totals.values()]
    return Traffic(*(tuple(dataclasses.replace(e, size=e.size * n, count=n) for e, n in one.items()) for one in sums))
