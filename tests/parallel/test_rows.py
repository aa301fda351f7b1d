"""Rows split over devices give what one device gives, whatever their number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.parallel.rows import over_rows


@pytest.mark.parametrize("rows", [1, 5, 8, 19])
def test_any_number_of_rows(rows):
    shared = {"w": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    x_BD = np.random.default_rng(1).standard_normal((rows, 4)).astype(np.float32)
    len_B = np.arange(rows, dtype=np.int32)

    def function(shared, x_BD, len_B):
        return x_BD @ shared["w"], {"len": len_B + 1}

    split = over_rows(function)
    product, noted = split(shared, x_BD, len_B)
    np.testing.assert_allclose(product, x_BD @ shared["w"], rtol=1e-5)
    np.testing.assert_array_equal(noted["len"], len_B + 1)
    if rows % 8 == 0:
        assert len(product.sharding.device_set) == len(jax.devices()) == 8


def test_every_device_sees_its_own_rows_alone():
    seen = over_rows(lambda _, x_B: jnp.full_like(x_B, len(x_B)))({}, np.zeros(24, np.int32))
    np.testing.assert_array_equal(seen, 3)
