"""Canvases with garments at random places and sizes, and their boxes."""

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("top", "trousers", "dress", "shoe", "bag")
KIND = np.array([0, 1, 0, 2, 0, 3, 0, 3, 4, 3])  # of each class of Fashion-MNIST: coats and pullovers are both tops
DARK = 0.1  # a garment is where its image [28, 28, 1] is brighter


def paste(
    key: jax.Array, image: jax.Array, side: int, sizes: tuple[float, float], wide: bool = False
) -> tuple[jax.Array, jax.Array]:
    """An image [28, 28, 1] at a random place of a canvas [side, side, 1], and the box around its bright pixels [4].

    Args:
      key: a JAX key.
      image: pixels in [0, 1].
      side: side of the canvas in pixels.
      sizes: smallest and largest side of the pasted image in pixels.
      wide: if True, the image may reach beyond the canvas.
    """
    for_size, for_corner = jax.random.split(key)
    size = jax.random.uniform(for_size, (), minval=sizes[0], maxval=sizes[1])
    room = side - size
    corner = jax.random.uniform(for_corner, (2,)) * (room + size * wide) - size * wide / 2  # x, y
    scale = size / image.shape[0]
    canvas = jax.image.scale_and_translate(
        image, (side, side, 1), (0, 1), jnp.full((2,), scale), corner[::-1], "linear"
    )
    ends = [(jnp.argmax(line), line.size - jnp.argmax(line[::-1])) for line in map(_bright(image).any, (0, 1))]
    box = jnp.array([ends[0][0], ends[1][0], ends[0][1], ends[1][1]])
    return canvas, scale * box + jnp.tile(corner, 2)


def _bright(image: jax.Array) -> jax.Array:
    return image[..., 0] > DARK
