"""The pieces of a step add up to the step."""

import jax
import pytest

from alp_jax.config.flags import load_config
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.flops import flops
from alp_jax.planning.layers import pieces
from alp_jax.planning.program import buckets, make_program
from alp_jax.planning.topology import devices, parse

TINY = (
    "--config.data.bucket_seconds=(1.0,)",
    "--config.data.text_budget=6",
    "--config.model.encoder.encoder_dim=(32,48)",
    "--config.model.encoder.downsampling_factor=(1,2)",
    "--config.model.encoder.num_encoder_layers=(1,1)",
    "--config.model.encoder.num_heads=(2,2)",
    "--config.model.encoder.feedforward_dim=(48,64)",
    "--config.model.encoder.cnn_module_kernel=(7,5)",
    "--config.model.encoder.encoder_unmasked_dim=(24,32)",
    "--config.model.text.num_hidden_layers=2",
    "--config.model.text.max_position_embeddings=8",
    "--config.model.decoder.num_decoder_layers=2",
)


@pytest.mark.parametrize(
    ("objective", "remat", "regularise"), [("contrastive", "all", True), ("captioning", "none", False)]
)
def test_operations_of_the_pieces_add_up(objective, remat, regularise):
    config = load_config(
        f"configs/pretrain.py:model=zipformer_xxs,batch_seconds=16,objective={objective}",
        [*TINY, f"--config.model.remat={remat}", f"--config.model.regularise={regularise}"],
    )
    mesh = make_mesh(config.mesh, devices(parse("cpu:8")))
    program, (bucket,) = make_program(config, mesh), buckets(config, mesh)
    whole = flops(program.step.trace(program.state, program.batch(bucket)).jaxpr)
    parts = sum(
        piece.times * flops(jax.jit(piece.function).trace(*piece.arguments).jaxpr)
        for piece in pieces(config, program, bucket)
    )
    # without the joints between the stacks, which cost next to nothing
    assert parts == pytest.approx(whole, rel=0.01)
