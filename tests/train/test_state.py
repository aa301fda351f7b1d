"""The state is made in parts at their places, fresh and loaded parameters alike."""

import jax
import numpy as np
import optax

from alp_jax.config.schema import MeshConfig
from alp_jax.parallel.mesh import make_mesh, replicated
from alp_jax.parallel.rules import infer_shardings
from alp_jax.train.state import abstract_state, create_state, state_maker, state_shapes


def init(key):
    first, second = jax.random.split(key)
    return {
        "encoder": {"in_proj": {"kernel": jax.random.normal(first, (128, 256))}},
        "text": {"output": {"kernel": jax.random.normal(second, (256, 128))}},
    }


MAKE = state_maker(init, lambda params, method: jax.numpy.ones(3), optax.adam(1e-3), average=True)


def test_no_device_holds_more_than_its_part():
    mesh = make_mesh(MeshConfig(1, 4, 2))
    state = create_state(MAKE, 3, mesh)
    for array in jax.tree.leaves(state):
        whole = array.size <= 4096
        assert {shard.data.size for shard in array.addressable_shards} == {array.size // (1 if whole else 8)}
    places = infer_shardings(state_shapes(MAKE), mesh)
    program = jax.jit(MAKE, in_shardings=(replicated(mesh), {}), out_shardings=places).lower(np.int32(3), {}).compile()
    largest = 4 * 128 * 256
    assert program.memory_analysis().temp_size_in_bytes < largest / 4
    wanted = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(MAKE, mesh))
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == wanted


def test_the_state_does_not_depend_on_the_mesh():
    states = [create_state(MAKE, 3, make_mesh(MeshConfig(*split))) for split in ((8, 1, 1), (1, 2, 4))]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_loaded_parts_take_the_place_of_fresh_ones():
    loaded = {"encoder": {"in_proj": {"kernel": np.arange(128 * 256, dtype=np.float32).reshape(128, 256)}}}
    mesh = make_mesh(MeshConfig(1, 4, 2))
    fresh, state = create_state(MAKE, 3, mesh), create_state(MAKE, 3, mesh, loaded)
    for name in ("params", "average"):
        jax.tree.map(np.testing.assert_array_equal, state[name]["encoder"], loaded["encoder"])
        jax.tree.map(np.testing.assert_array_equal, state[name]["text"], fresh["params"]["text"])
    assert tuple(state["params"]["encoder"]["in_proj"]["kernel"].sharding.spec) == ("fsdp", "tensor")
