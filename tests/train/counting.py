"""Training in which all is real but the model: an array that every step changes by what its batch holds.

``python -m tests.train.counting PAUSE_S ARGUMENTS...`` is ``alp`` with it, whose steps take PAUSE_S seconds.
"""

import sys
import time

import jax
import jax.numpy as jnp

from alp_jax.cli import main as cli
from alp_jax.parallel.mesh import batch_sharding, replicated
from alp_jax.train import loop, setup


def install(patch, pause_s: float = 0.0) -> None:
    """Puts the model in place through ``patch(module, name, value)``."""
    put = loop.put_batch

    def state_maker(*arguments):
        zero = jnp.zeros((), jnp.int32)
        start = {"norm": {"scale": jnp.ones((8,))}, "out": {"kernel": jnp.ones((1024, 64))}}
        return lambda seed, start_=None: {"params": start, "seed": seed, "step": zero, "bad_steps": zero}

    def make_step(apply, objective, optimizer, config, mesh, shardings):
        def step(state, batch):
            loss = jnp.mean(batch["audio_len"].astype(jnp.float32) * jnp.cos(batch["recording"].astype(jnp.float32)))
            moved = jax.tree.map(lambda p: p * 0.9 + 1e-5 * loss * (1 + state["step"]), state["params"])
            return {**state, "params": moved, "step": state["step"] + 1}, {"loss": loss, "bad_steps": jnp.float32(0)}

        places = (shardings, batch_sharding(mesh))
        return jax.jit(step, donate_argnums=0, in_shardings=places, out_shardings=(shardings, replicated(mesh)))

    def put_batch(batch, mesh):
        time.sleep(pause_s)
        return put(batch, mesh)

    patch(setup, "state_maker", state_maker)
    patch(setup, "make_train_step", make_step)
    patch(loop, "put_batch", put_batch)


if __name__ == "__main__":
    install(setattr, float(sys.argv[1]))
    sys.exit(cli.main(sys.argv[2:]))
