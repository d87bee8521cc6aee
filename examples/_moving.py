"""Clips of Fashion-MNIST's garments that move through frames, made by functions for `fit(augment=)`."""

import jax
import jax.numpy as jnp
import numpy as np
from skimage.registration import phase_cross_correlation

FRAMES, SIDE, SIZE = 7, 32, 14  # frames of a clip, pixels along the side of a frame and of a garment
REACH = 6, 13  # of a garment's corner in the middle frame: it stays inside, and that frame does not tell the direction
NOISE = 0.3  # deviation of the noise in each frame, where white is 1
MOVES = np.array([[0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1], [-1, 0], [-1, 1]])  # rows down, columns right
SPEEDS = 1, 3  # pixels a frame along a row or column, from and below


def small(garments: np.ndarray) -> np.ndarray:
    """Images [n, 2 * size, 2 * size, 1] -> [n, size, size, 1]."""
    return garments.reshape(-1, SIZE, 2, SIZE, 2, 1).mean((2, 4))


def moving(key: jax.Array, garment: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A garment [size, size, 1] on its way: frames [t, side, side, 1], and the number of its direction."""
    for_direction, for_speed, for_place = jax.random.split(key, 3)
    direction = jax.random.randint(for_direction, (), 0, len(MOVES))
    step = jax.random.randint(for_speed, (), *SPEEDS) * jnp.asarray(MOVES)[direction]
    corners = jax.random.randint(for_place, (2,), *REACH) + step * (jnp.arange(FRAMES)[:, None] - FRAMES // 2)
    blank = jnp.zeros((SIDE, SIDE, 1), garment.dtype)
    return jax.vmap(lambda c: jax.lax.dynamic_update_slice(blank, garment, (c[0], c[1], 0)))(corners), direction


def clips(key: jax.Array, batch: tuple) -> tuple[jax.Array, jax.Array]:
    """Noisy clips [n, t, side, side, 1] of garments, and direction and class of each [n, 2]."""
    garments, classes = batch
    for_noise, for_moves = jax.random.split(key)
    x, directions = jax.vmap(moving)(jax.random.split(for_moves, len(garments)), garments)
    return x + NOISE * jax.random.normal(for_noise, x.shape), jnp.stack([directions, classes], 1)


def pairs(key: jax.Array, batch: tuple) -> tuple[jax.Array, jax.Array]:
    """Clips of two garments on their ways, without noise: frames but the last, and frames but the first."""
    garments, _ = batch
    keys = jax.random.split(key, (2, len(garments)))
    x = jnp.maximum(jax.vmap(moving)(keys[0], garments)[0], jax.vmap(moving)(keys[1], garments[::-1])[0])
    return x[:, :-1], x[:, 1:]


def shift(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Rows and columns by which the content has moved, from scikit-image's phase correlation [n, 2]."""
    return np.stack([phase_cross_correlation(a, b)[0] for a, b in zip(now, before, strict=True)])


def direction(shifts: np.ndarray) -> np.ndarray:
    """The number of the direction nearest to each of the shifts [n, 2]."""
    return (shifts @ (MOVES / np.linalg.norm(MOVES, axis=1, keepdims=True)).T).argmax(1)
