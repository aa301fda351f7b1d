"""What every process of the multi-process tests runs: ``python -m tests.parallel.program MODE [OUT]``."""

import json
import sys
import time

import jax
import numpy as np

from alp_jax.config.schema import ClusterConfig, MeshConfig
from alp_jax.core.errors import AlpError
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_part, make_mesh, put_batch, replicated
from alp_jax.parallel.rules import infer_shardings


def agree() -> None:
    """Values pass between all processes, and no device is started for it."""
    index, count = hosts.process_index(), hosts.process_count()
    assert hosts.broadcast({"step": index}, "step") == {"step": 0}
    assert hosts.gather(10 * index, "tens") == [10 * i for i in range(count)]
    hosts.barrier("together")
    hosts.require_same({"optim": {"lr": 0.1}})
    assert hosts.is_primary() == (index == 0)
    assert jax.process_count() == count


def train(mesh: tuple[int, ...], steps: int, out: str) -> None:
    """Process 0 writes the losses and all parameters to ``out``."""
    from tests.parallel import splits  # which loads all the models

    config = splits.config_for("contrastive", mesh, "vit")
    losses, state = splits.train(config, steps)
    whole = jax.jit(lambda params: params, out_shardings=replicated(make_mesh(config.mesh)))(state["params"])
    assert [round(loss, 4) for loss in losses] == hosts.broadcast([round(loss, 4) for loss in losses], "losses")
    if hosts.is_primary():
        params = {f"params/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(whole))}
        np.savez(out, losses=np.array(losses), **params)


def four() -> None:
    """Slices are processes; a linear model on a tensor axis that spans two processes, which read the same rows."""
    across = make_mesh(MeshConfig(data=8, dcn_data=4))
    assert [device.process_index for device in across.devices.ravel()] == [0, 0, 1, 1, 2, 2, 3, 3]
    mesh = make_mesh(MeshConfig(data=2, tensor=4))
    part, parts = batch_part(mesh)
    assert hosts.gather([part, parts], "parts") == [[0, 2], [0, 2], [1, 2], [1, 2]]
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((8, 64)), rng.standard_normal((8, 64)), rng.standard_normal((64, 64))

    def loss(params, batch):
        return jax.numpy.mean((batch["x"] @ params["linear1"]["kernel"] - batch["y"]) ** 2)

    params = {"linear1": {"kernel": w}}
    places = infer_shardings({"params": params}, mesh)["params"]
    assert tuple(places["linear1"]["kernel"].spec) == (None, "tensor")
    mine = slice(4 * part, 4 * part + 4)
    placed = jax.tree.map(lambda a, place: jax.make_array_from_callback(a.shape, place, lambda i: a[i]), params, places)
    grad = jax.jit(jax.grad(loss), out_shardings=replicated(mesh))
    found = grad(placed, put_batch({"x": x[mine], "y": y[mine]}, mesh))["linear1"]["kernel"]
    np.testing.assert_allclose(np.asarray(found), 2 * x.T @ (x @ w - y) / y.size, rtol=1e-4, atol=1e-5)


def main(mode: str, *rest: str) -> int:
    try:
        hosts.initialize(ClusterConfig(timeout_s=40.0))
        agree()
        if mode == "train":
            train((2, 2, 2), int(rest[1]), rest[0])
        elif mode == "four":
            four()
        elif mode == "differ":
            hosts.require_same({"optim": {"lr": 1e-3 * (1 + hosts.process_index())}})
        elif mode == "bug":
            if hosts.process_index() == 1:
                raise RuntimeError("a bug")
            hosts.barrier("never")
        elif mode == "late":
            time.sleep(4.0 * hosts.process_index())
            hosts.barrier("save", timeout_s=1.0)
        code, line = 0, ""
    except AlpError as error:
        code, line = error.exit_code, str(error)
        print(f"alp: {line}", file=sys.stderr)
    hosts.leave(code, line)
    print(json.dumps({"done": hosts.process_index()}))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
