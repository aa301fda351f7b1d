"""Where each clip of a padded batch ends, at the frame rate of one stack."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Extent(NamedTuple):
    """What a stack must know about the frames it sees.

    Fields:
      valid_BT: True for frames of the clip; padding is hidden from attention and from convolutions.
      end_B: frame at which each row ends for downsampling and chunk edges: the clip's own length in exact padding, the
        length of the whole batch in reference padding.
      allowed_TT: True where a target may look at a source; None without chunks.
      chunks: sizes in frames that a chunk of the causal model may have; -1 is the whole clip.
      choice: which of ``chunks`` holds in this pass, int32 scalar; None where there is one.
    """

    valid_BT: jax.Array
    end_B: jax.Array
    allowed_TT: jax.Array | None = None
    chunks: tuple[int, ...] = (-1,)
    choice: jax.Array | None = None

    def downsampled(self, factor: int) -> "Extent":
        """The same clips after ``factor`` frames became one: a window counts when its first frame does."""
        return Extent(
            valid_BT=self.valid_BT[:, ::factor],
            end_B=-(-self.end_B // factor),
            allowed_TT=None if self.allowed_TT is None else self.allowed_TT[::factor, ::factor],
            chunks=tuple(chunk // factor if chunk > 0 else -1 for chunk in self.chunks),
            choice=self.choice,
        )

    def chunk(self, length: int) -> int | jax.Array:
        """Frames of a chunk in this pass, at most ``length``."""
        sizes = tuple(min(chunk, length) if chunk > 0 else length for chunk in self.chunks)
        return sizes[0] if self.choice is None else jnp.array(sizes)[self.choice]


def chunk_mask(length: int, chunk: int | jax.Array, left_frames: int | jax.Array) -> jax.Array:
    """allowed_TT: a target sees its own chunk and ``left_frames`` // ``chunk`` (at least 1; all if < 0) before it."""
    index = jnp.arange(length) // chunk
    target, source = index[:, None], index[None, :]
    back = jnp.where(left_frames < 0, length, jnp.maximum(left_frames // chunk, 1))
    return (source <= target) & (source >= target - back)
