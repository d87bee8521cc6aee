"""Canvases with garments of Fashion-MNIST at random places and sizes, and their boxes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("top", "trousers", "dress", "shoe", "bag")
KIND = np.array([0, 1, 0, 2, 0, 3, 0, 3, 4, 3])  # of each class of Fashion-MNIST: coats and pullovers are both tops
SIDE = 64  # pixels of a canvas
DARK = 0.1  # a garment is where its image [28, 28, 1] is brighter
SIZES = 20.0, 44.0  # side of the garment on a cluttered canvas, in pixels
PIECES, PIECE = 8, 9  # pieces of other garments on it, and their side in pixels of the garment's image
NOISE = 0.1  # deviation of its noise, where white is 1


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
    bright = image[..., 0] > DARK
    columns, rows = ((jnp.argmax(a), a.size - jnp.argmax(a[::-1])) for a in (bright.any(0), bright.any(1)))
    box = jnp.array([columns[0], rows[0], columns[1], rows[1]])
    return canvas, scale * box + jnp.tile(corner, 2)


def piece(key: jax.Array, image: jax.Array) -> jax.Array:
    """The image, black outside of a random square."""
    first = jax.random.randint(key, (2, 1), 4, 24 - PIECE)
    rows, columns = (jnp.arange(28) >= first) & (jnp.arange(28) < first + PIECE)
    return image * (rows[:, None] & columns[None])[..., None]


def cluttered(key: jax.Array, batch: tuple) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Noisy canvases [n, SIDE, SIDE, 1] with a garment and pieces of others, and class and box of the garments."""
    garments, labels = batch
    n = len(garments)
    for_object, for_piece, for_place, for_noise = jax.random.split(key, 4)
    place = partial(paste, side=SIDE, sizes=SIZES)
    x, boxes = jax.vmap(place)(jax.random.split(for_object, n), garments)
    others = jnp.stack([jnp.roll(garments, i + 1, 0) for i in range(PIECES)])
    pieces = jax.vmap(jax.vmap(piece))(jax.random.split(for_piece, (PIECES, n)), others)
    places = jax.random.split(for_place, (PIECES, n))
    clutter = jax.vmap(jax.vmap(partial(place, wide=True)))(places, pieces)[0].max(0)
    x = jnp.maximum(x, clutter)
    return x + NOISE * jax.random.normal(for_noise, x.shape), {"class": labels, "box": boxes}


def mosaic(key: jax.Array, batch: tuple) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Noisy canvases [n, SIDE, SIDE, 1] with a garment in each quadrant, their classes [n, 4] and masks [n, 4, ...]."""
    images, labels = batch
    for_place, for_noise = jax.random.split(key)
    half = SIDE // 2
    free = half - images.shape[1]
    four = jnp.stack([jnp.roll(images[..., 0], i, 0) for i in range(4)], 1)
    tiles = jnp.pad(four, ((0, 0), (0, 0), (0, free), (0, free)))
    shifts = jax.random.randint(for_place, (len(images), 4, 2), 0, free + 1)
    tiles = jax.vmap(jax.vmap(lambda tile, by: jnp.roll(tile, (by[0], by[1]), (0, 1))))(tiles, shifts)
    alone = tiles[:, :, None, :, None] * jnp.eye(4).reshape(1, 4, 2, 1, 2, 1)  # each on its own canvas
    alone = alone.reshape(-1, 4, SIDE, SIDE)
    x = alone.sum(1)[..., None]
    classes = jnp.stack([jnp.roll(labels, i) for i in range(4)], 1)
    return x + NOISE * jax.random.normal(for_noise, x.shape), {"classes": classes, "masks": alone > DARK}
