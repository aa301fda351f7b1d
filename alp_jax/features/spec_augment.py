"""SpecAugment on device: a time warp, frequency masks and time masks, filled with the mean.

Park et al., "SpecAugment: A simple data augmentation method for automatic speech recognition", 2019, in the form of
lhotse, with one difference: the number of frames and the fill value come from the clip's own valid frames, not from the
padded row, so that the result does not depend on the batch.
"""

import jax
import jax.numpy as jnp

from alp_jax.config.schema import SpecAugmentConfig

CUBIC = -0.75  # coefficient of the bicubic kernel, as in PyTorch


def spec_augment(
    mel_BTF: jax.Array, len_B: jax.Array, key: jax.Array, config: SpecAugmentConfig, row_B: jax.Array | None = None
) -> jax.Array:
    """Augments every clip with draws of its own, from ``key`` and its row; frames beyond ``len_B`` stay as they are.

    Args:
      row_B: row numbers in the whole batch, where these clips are a part of one; None: 0, 1, 2, ...

    Returns:
      mel_BTF; ``mel_BTF`` itself when ``config.enabled`` is False.
    """
    if not config.enabled:
        return mel_BTF

    def one(row, mel_TF, length):
        # folded in by row, not split by batch size: a clip draws the same however the batch is cut
        return _augment_clip(mel_TF, length, jax.random.fold_in(key, row), config)

    return jax.vmap(one)(jnp.arange(mel_BTF.shape[0]) if row_B is None else row_B, mel_BTF, len_B)


def _augment_clip(mel_TF: jax.Array, length: jax.Array, key: jax.Array, config: SpecAugmentConfig) -> jax.Array:
    # Three keys whatever is switched on: turning one augmentation off does not change what the others draw.
    warp_key, feature_key, time_key = jax.random.split(key, 3)
    factor = config.time_warp
    if factor > 0:
        chance, u_center, u_warped = jax.random.uniform(warp_key, (3,))
        center = factor + 1 + _below(length - 2 * factor - 1, u_center)
        warped = center - factor + _below(2 * factor + 1, u_warped)
        long_enough = length - factor > factor + 1
        mel_TF = jnp.where(
            long_enough & (chance < config.probability), time_warp(mel_TF, length, center, warped), mel_TF
        )
    # Masks come after the warp, which would stretch them, and are filled with the mean of the warped frames.
    num_frames, num_bins = mel_TF.shape
    valid_T1 = (jnp.arange(num_frames) < length)[:, None]
    mean = jnp.sum(jnp.where(valid_T1, mel_TF, 0.0)) / jnp.maximum(length * num_bins, 1)
    chance_key, feature_key = jax.random.split(feature_key)
    u_width, u_start = jax.random.uniform(feature_key, (2, config.num_feature_masks))
    hidden_F = span_mask(num_bins, num_bins, _below(config.feature_mask_width, u_width), u_start)
    u_width, u_start = jax.random.uniform(time_key, (2, config.num_time_masks))
    number, limit = time_mask_limits(length, config)
    widths = jnp.where(jnp.arange(config.num_time_masks) < number, _below(limit, u_width), 0)
    hidden_T = span_mask(num_frames, length, widths, u_start)
    # one chance decides on all masks together; the warp had its own
    hidden_TF = (hidden_T[:, None] | hidden_F) & valid_T1 & (jax.random.uniform(chance_key) < config.probability)
    return jnp.where(hidden_TF, mean, mel_TF)


def _below(limit, uniform: jax.Array) -> jax.Array:
    """A whole number from 0 to ``limit`` - 1 for each uniform number in [0, 1)."""
    return jnp.floor(uniform * jnp.maximum(limit, 1)).astype(jnp.int32)


def time_mask_limits(length: jax.Array, config: SpecAugmentConfig) -> tuple[jax.Array, jax.Array]:
    """(number of time masks, exclusive limit of their width) for a clip of ``length`` frames."""
    hidden = config.max_time_fraction * length
    number = jnp.clip(jnp.ceil(hidden / config.time_mask_width), 1, config.num_time_masks)
    limit = jnp.minimum(config.time_mask_width, hidden // number)
    return number.astype(jnp.int32), limit.astype(jnp.int32)


def span_mask(size: int, length: jax.Array, width_N: jax.Array, uniform_N: jax.Array) -> jax.Array:
    """hidden_P: True within any of N spans; a span starts at floor(uniform * (length - width))."""
    start_N = jnp.floor(uniform_N * (length - width_N)).astype(jnp.int32)
    position_P1 = jnp.arange(size)[:, None]
    return jnp.any((position_P1 >= start_N) & (position_P1 < start_N + width_N), axis=1)


def time_warp(mel_TF: jax.Array, length: jax.Array, center: jax.Array, warped: jax.Array) -> jax.Array:
    """Stretches frames [0, center) to ``warped`` frames and the rest of the clip to what remains, by bicubic kernels.

    ``warped`` == ``center`` changes nothing; frames from ``length`` on stay as they are. Both ``center`` and ``warped``
    must lie strictly between 0 and ``length``.
    """
    frame_T = jnp.arange(mel_TF.shape[0])
    in_left = frame_T < warped
    first = jnp.where(in_left, 0, center)
    size = jnp.where(in_left, center, length - center)
    new_size = jnp.where(in_left, warped, length - warped)
    frame_in_piece = frame_T - jnp.where(in_left, 0, warped)
    source = (frame_in_piece + 0.5) * (size / new_size) - 0.5
    whole = jnp.floor(source)
    fraction = source - whole
    taps_4T = whole.astype(jnp.int32) + jnp.arange(-1, 3)[:, None]
    # clipped to the piece, so that its edge frames repeat and nothing leaks across ``center``
    taps_4T = first + jnp.clip(taps_4T, 0, size - 1)
    weights_4T = jnp.stack([_outer(1 + fraction), _inner(fraction), _inner(1 - fraction), _outer(2 - fraction)])
    stretched = jnp.sum(mel_TF[taps_4T] * weights_4T[..., None], axis=0)
    return jnp.where(((frame_T < length) & (warped != center))[:, None], stretched, mel_TF)


def _inner(x: jax.Array) -> jax.Array:
    """The cubic kernel for distances up to 1."""
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _outer(x: jax.Array) -> jax.Array:
    """The cubic kernel for distances from 1 to 2."""
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
