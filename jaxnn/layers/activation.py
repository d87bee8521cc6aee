"""Activations with params of their own, and the unit that began it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn._placement import fitting
from jaxnn.activations import unit_step
from jaxnn.activations._rectifiers import leaky
from jaxnn.layer import Layer, layer
from jaxnn.layers._checks import check_preset, drawn_by
from jaxnn.layers.linear import dense


@recorded
def prelu(
    *, shared: bool = False, init: str = "jaxnn", slope_init: Callable | None = None, name: str | None = None
) -> Layer:
    """Rectifier with a learned slope, [..., c] -> [..., c]: x where x > 0, else slope · x; params slope [c].

    A leaky ReLU that finds its own leak, one for each channel: as good as free in a convolutional network, and no unit
    is dead for good. It may overfit where c is large against the data. Weight decay pulls the slope to a plain ReLU:
    the regularizers leave it out by default. At 0 the derivative is the slope; with a slope of 0, -inf gives 0, and the
    slope no gradient.

    Args:
      shared: one slope for all channels, params slope [], as PyTorch (`num_parameters=1`) and flax have by default.
        Keras has one for every place of an example unless given `shared_axes`.
      init: whose start, "jaxnn" and "torch" 0.25, "keras" 0, "flax" 0.01; `slope_init`, (key, shape, dtype) -> array,
        goes before it.

    Raises ValueError for another number of channels, TypeError for an x that is not floating.

    He et al., Delving Deep into Rectifiers, 2015.

    >>> params, state = prelu().init(jax.random.key(0), jnp.ones((1, 2)))
    >>> prelu().apply(params, state, jnp.array([[-4.0, 4.0]]))[0].tolist()
    [[-1.0, 4.0]]
    """
    where = name or "prelu"
    check_preset(where, init)
    check.flags(where, shared=shared)

    def initial(key: jax.Array, x: Any) -> tuple[dict, dict]:
        check.array(where, "x", x, least=0 if shared else 1, shape="[..., c]")
        shape = () if shared else (x.shape[-1],)
        return {"slope": drawn_by(init, "prelu", 0, slope=slope_init)["slope"](key, shape, param_dtype(x))}, {}

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        slope = jnp.asarray(params["slope"])
        x = check.array(where, "x", x, least=slope.ndim, shape="[..., c]")
        if slope.ndim and x.shape[-1] != slope.shape[0]:
            fix = (
                f"slope was made for {slope.shape[0]} channels: initialise with x of this shape, or feed it the other."
            )
            raise invalid(where, f"x of shape [..., {slope.shape[0]}]", x, fix)
        return leaky(x, fitting(slope.reshape((1,) * (x.ndim - slope.ndim) + slope.shape), x)), state

    return layer(initial, apply, "prelu", name=name, padded=0 if shared else 1)


@recorded
def maxout(
    features: int,
    *,
    pieces: int = 2,
    bias: bool = True,
    init: str = "jaxnn",
    w_init: Callable | None = None,
    b_init: Callable | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """The greatest of several affine maps, y_j = max_i (x w_ij + b_ij), [..., d] -> [..., features].

    A learned convex function, piecewise linear with as many pieces: ReLU, its leaky forms and |x| are among them. Made
    for dropout; nothing saturates and no unit dies. It costs `pieces` times the weights of a dense layer.
    Params w [d, features · pieces], b [features · pieces], the pieces of a feature side by side. Equal pieces share the
    gradient equally.

    Args:
      features: size of the last axis of y, >= 1.
      pieces: >= 1; the paper has 2 to 5. With 1 it is `dense`.
      bias: False leaves b out.
      init: whose default initialization of `dense`; `w_init` and `b_init` override it.
      precision: of the product, as in `dense`.
      name: pins the name.

    Raises as `dense`. As tfa.layers.Maxout after a dense layer; PyTorch has none.

    Goodfellow et al., Maxout Networks, 2013.

    >>> params, state = maxout(3, pieces=4).init(jax.random.key(0), jnp.ones((2, 5)))
    >>> params["w"].shape, maxout(3, pieces=4).apply(params, state, jnp.ones((2, 5)))[0].shape
    ((5, 12), (2, 3))
    """
    where = name or "maxout"
    features = check.count(where, "features", features)
    pieces = check.count(where, "pieces", pieces)
    affine = dense(
        features * pieces, bias=bias, init=init, w_init=w_init, b_init=b_init, precision=precision, name=where
    )

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        y, state = affine.apply(params, state, x)
        return y.reshape(*y.shape[:-1], features, pieces).max(axis=-1), state

    return layer(affine.init, apply, "maxout", name=name, padded=1)


@recorded
def perceptron(
    features: int = 1,
    *,
    init: str = "jaxnn",
    w_init: Callable | None = None,
    b_init: Callable | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Rosenblatt's perceptron, y = 1 where x w + b >= 0, else 0, [..., d] -> [..., features], in x's dtype.

    Params w [d, features], b [features], as of `dense`. Its gradient is 0 everywhere: it learns by
    `ops.perceptron_update`, one layer of it and no more. For several layers put an activation with a slope in its
    place.

    Args:
      features: how many units, each for a yes or no of its own.
      init: whose default initialization of `dense`; `w_init` and `b_init` override it. The rule converges from any.
      precision: of the product, as in `dense`: what is near the plane may fall on either side of it where it is low.
      name: pins the name.

    Raises as `dense`.

    Rosenblatt, The Perceptron, 1958.

    >>> both = {"w": jnp.ones((2, 1)), "b": jnp.array([-1.5])}
    >>> perceptron().apply(both, {}, jnp.array([[0.0, 1.0], [1.0, 1.0]]))[0].tolist()
    [[0.0], [1.0]]
    """
    affine = dense(features, init=init, w_init=w_init, b_init=b_init, precision=precision, name=name or "perceptron")

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        y, state = affine.apply(params, state, x)
        return unit_step(y), state

    return layer(affine.init, apply, "perceptron", name=name, padded=1)
