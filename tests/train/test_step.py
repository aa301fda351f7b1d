"""The count that the encoder's schedules read."""

import jax.numpy as jnp
import numpy as np

from alp_jax.train.step import batch_count


def test_the_batch_count_grows_by_ten_before_every_tenth_step_up_to_100_000():
    table = {0: 10, 9: 10, 10: 20, 4_321: 4_330, 99_979: 99_980, 99_989: 99_990, 99_990: 100_000, 10**6: 100_000}
    found = [float(batch_count(jnp.asarray(step), 1.0)) for step in table]
    np.testing.assert_array_equal(found, list(table.values()))
    assert float(batch_count(jnp.asarray(995), 0.5)) == 500.0
    assert float(batch_count(jnp.asarray(60_000), 2.0)) == 100_000.0
