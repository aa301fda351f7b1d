"""Training as the reference's cases state it: every random decision forced or recorded."""

from typing import Any

import jax
import jax.numpy as jnp

from alp_jax.models.regularisers import DrawCounts, Draws


class Recorded(Draws):
    """Draws of zero for decisions, which act on every probability above zero, and of one for what may be dropped.

    Args:
      draw_counts: what the module that is run takes.
      clips_NB: recorded per-clip draws instead.
      mask: a recorded dropout mask instead.
    """

    def __init__(
        self,
        draw_counts: DrawCounts,
        batch_count: float = 0.0,
        *,
        num_clips: int = 1,
        clips_NB: Any = None,
        mask: Any = None,
    ):
        self._mask = mask
        clips_NB = jnp.ones((draw_counts.clips, num_clips)) if clips_NB is None else jnp.asarray(clips_NB)
        key, scalars_N, whitening_N = (
            jax.random.key(0),
            jnp.zeros(draw_counts.scalars),
            jnp.ones(draw_counts.whitenings),
        )
        channels_BC = jnp.ones((num_clips, draw_counts.channels))
        super().__init__(key, batch_count, scalars_N, clips_NB, channels_BC, whitening_N)

    def draw_channels(self, width: int) -> jax.Array:
        return super().draw_channels(width) if self._mask is None else self._mask.reshape(-1, width)

    def draw_mask(self, shape: tuple[int, ...]) -> jax.Array:
        return jnp.ones(shape)
