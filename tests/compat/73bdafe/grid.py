"""Three nested rungs of the ladder of tones, a few steps each."""

from alp_jax.config.algebra import over, product, zipped


def get_sweep(arg: str | None = None) -> list[dict]:
    rungs = zipped(over("pairs", ("16", "32", "64")), over("config.train.steps", (2, 3, 4)))
    return product([{"config": "tiny.py"}], rungs)
