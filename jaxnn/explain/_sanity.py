"""Tests of explanations: random params, and objects at known places."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind
from jaxnn._errors import wrong_type
from jaxnn._layer import as_layer
from jaxnn._paths import matching
from jaxnn.explain._target import ModelLike
from jaxnn.types import Arrays, Key, Params


def randomized(model: ModelLike, params: Params, key: Key, x: Arrays, where: str | Sequence[str]) -> Params:
    """Params with those at some paths replaced by random ones, to test whether explanations depend on them.

    An explanation of the model changes if layers are randomized, from the last one down (cascading randomization): a
    map that does not is independent of the model.

    Args:
      model: layer or model.
      params: trained params of the model.
      key: random key of its `init`. Equal keys give equal params at a path.
      x: input of the model, arrays or `ShapeDtypeStruct`.
      where: glob pattern or patterns of paths of params, such as "head/*".

    Returns: new params where a path matches, `params` elsewhere.

    Raises:
      TypeError: if `where` is neither a str nor a sequence of str.
      ValueError: if a pattern matches no path.

    Reference: Adebayo et al., Sanity Checks for Saliency Maps, 2018.

    >>> model = nn.serial(nn.dense(2), nn.dense(2, name="head"))
    >>> params, _ = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> changed = randomized(model, params, jax.random.key(1), jnp.ones((1, 2)), "head/*")
    >>> [jnp.array_equal(changed[name]["w"], params[name]["w"]).item() for name in ("dense", "head")]
    [True, False]
    """
    chosen = matching("randomized", params, where)
    fresh, _ = as_layer(model, "randomized").init(check.typed_key("randomized", key), x)
    return jax.tree.map(lambda new, p, f: f if new else p, chosen, params, fresh)


def pointing_game(maps: Array, masks: ArrayLike, *, tolerance: ArrayLike = 0.0) -> Array:
    """Pointing game: True where the maximum of a map lies on the object, [n, *space], [n, *space] -> [n].

    A hit is a maximum at a distance of at most `tolerance` pixels from the mask. The mean is the hit rate; compare it
    with the fraction of a mask, which is chance, and with the rate of the centre. The first of equal maxima counts, so
    that a constant map points at the corner.

    Args:
      maps: floating maps, larger for more evidence. A map with NaN is no hit.
      masks: boolean, True on the object.
      tolerance: Euclidean distance in pixels, >= 0; may be traced. The paper has 15, for photos.

    Raises:
      TypeError: if the maps are not floating or the masks not boolean.
      ValueError: if the shapes differ or the tolerance is out of range.

    Reference: Zhang et al., Top-Down Neural Attention by Excitation Backprop, 2016.

    >>> masks = jnp.array([[False, True, True], [False, False, True]])
    >>> pointing_game(jnp.array([[0.0, 0.3, 0.1], [0.9, 0.0, 0.1]]), masks).tolist()
    [True, False]
    """
    maps = check.array("pointing_game", "maps", maps, least=2, shape="[n, *space]")
    if not is_kind(masks, "boolean"):
        raise wrong_type("pointing_game", "boolean masks", masks)
    check.same_shape("pointing_game", "maps", maps, "masks", masks)
    check.scalar("pointing_game", "tolerance", tolerance)
    return jax.vmap(_hits, (0, 0, None))(maps, jnp.asarray(masks), jnp.asarray(tolerance, jnp.float32))


def _hits(values: Array, mask: Array, tolerance: Array) -> Array:
    """Distance of the maximum from the mask, compared with the tolerance."""
    at = jnp.unravel_index(jnp.argmax(values), values.shape)
    axes = np.meshgrid(*map(np.arange, values.shape), indexing="ij")
    square = sum((jnp.asarray(axis) - i) ** 2 for axis, i in zip(axes, at, strict=True))
    nearest = jnp.min(jnp.where(mask, jnp.asarray(square, jnp.float32), jnp.inf))
    return (nearest <= tolerance**2) & ~jnp.isnan(values).any()
