"""``python -m tests.train.signals WHEN RUN CONFIG [PROCESS]``: ``alp train --evaluate`` that gets SIGTERM at WHEN.

WHEN is compile, train, save, evaluate or never; of several processes only number PROCESS gets it. Training is all of
the program except the model, here one array, the step, which counts, and evaluation, which finds nothing.
"""

import os
import signal
import sys
import time

import jax
import jax.numpy as jnp

from alp_jax.cli import main as cli
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_sharding, replicated
from alp_jax.train import checkpoint, evaluate, loop, setup


def main(when: str, run: str, config: str, process: str = "0") -> int:
    def strike(at: str) -> None:
        if at == when and hosts.process_index() == int(process):
            os.kill(os.getpid(), signal.SIGTERM)
            if at in ("compile", "evaluate"):  # what is long, and not to be waited for
                time.sleep(60)
                os._exit(9)

    def state_maker(*arguments):
        zero = jnp.zeros((), jnp.int32)
        return lambda seed, start=None: {
            "params": {"norm": {"scale": jnp.ones((8,))}},
            "seed": seed,
            "step": zero,
            "bad_steps": zero,
        }

    def make_step(apply, objective, optimizer, config, mesh, shardings):
        def step(state, batch):
            strike("compile")
            done = {"loss": jnp.mean(batch["audio_len"].astype(jnp.float32)), "bad_steps": jnp.float32(0)}
            return {**state, "step": state["step"] + 1}, done

        places = (shardings, batch_sharding(mesh))
        return jax.jit(step, donate_argnums=0, in_shardings=places, out_shardings=(shardings, replicated(mesh)))

    put, write, batches = loop.put_batch, checkpoint.write_manifest, []

    def put_batch(batch, mesh):
        batches.append(1)
        if len(batches) == 3:
            strike("train")
        return put(batch, mesh)

    def write_manifest(*arguments):
        strike("save")
        time.sleep(0.3)  # the loop goes on meanwhile
        write(*arguments)

    def evaluate_run(*arguments, **options):
        strike("evaluate")
        return []

    setup.state_maker, setup.make_train_step, loop.put_batch = state_maker, make_step, put_batch
    checkpoint.write_manifest, evaluate.evaluate_run = write_manifest, evaluate_run
    return cli.main(["train", "--workdir", run, "--evaluate", f"--config={config}"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
