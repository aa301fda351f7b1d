"""Every split of the devices trains with the same random draws."""

import jax
import numpy as np

from alp_jax.config.schema import MeshConfig
from alp_jax.models.encoders import make_encoder
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import TrainInputs
from alp_jax.parallel.mesh import batch_sharding, make_mesh, on_mesh
from alp_jax.parallel.rules import infer_shardings
from tests.parallel import splits

ROWS, FRAMES = 16, 40


def test_all_axes_together_draw_what_one_device_draws():
    """Slices of draws that the compiler had split over the mesh were others there: dropouts 0.5 % of the output off."""
    config = splits.config_for("captioning", (2, 2, 2)).model
    init, apply = functionalize(lambda rngs: make_encoder(config, rngs=rngs))
    whitening_N = np.ones(outline(lambda rngs: make_encoder(config, rngs=rngs)).draw_counts.whitenings, np.float32)
    params = {"encoder": init(jax.random.key(0))}
    mel_BTF = np.random.default_rng(0).standard_normal((ROWS, FRAMES, 80)).astype(np.float32)
    len_B = np.full(ROWS, FRAMES, np.int32)
    mesh = make_mesh(MeshConfig(2, 2, 2))

    def encode(params, mel_BTF, len_B, mesh):
        with on_mesh(mesh):
            train = TrainInputs(jax.random.key(3), np.float32(0), whitening_N)
            return apply(params["encoder"], mel_BTF, len_B, train=train)[0]

    one = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    expected = jax.jit(lambda *rows: encode(*rows, one))(params, mel_BTF, len_B)
    rows = batch_sharding(mesh)
    places = infer_shardings({"params": params}, mesh)["params"], rows, rows
    found = jax.jit(lambda *rows: encode(*rows, mesh), in_shardings=places)(params, mel_BTF, len_B)
    np.testing.assert_allclose(found, expected, atol=1e-5)
