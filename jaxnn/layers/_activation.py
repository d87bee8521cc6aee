"""Activations with params, and the perceptron."""

from __future__ import annotations

import jax.numpy as jnp
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._layer import Layer, layer
from jaxnn._mesh import fitting
from jaxnn.activations import unit_step
from jaxnn.activations._rectifiers import leaky
from jaxnn.layers._linear import dense
from jaxnn.layers._weights import Weights, check_fits
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def prelu(
    *, shared: bool = False, preset: str = "jaxnn", slope_init: Initializer | None = None, name: str | None = None
) -> Layer:
    """Parametric ReLU, [..., c] -> [..., c]: x if x > 0, else slope · x; params slope [c].

    A leaky ReLU with a learned slope for each channel. It costs almost nothing in a convolutional network, and no unit
    dies permanently. It may overfit if c is large relative to the data. Weight decay pulls the slope towards 0, a plain
    ReLU; the regularizers therefore exclude it by default. At 0 the derivative is the slope. With a slope of 0, -inf
    gives 0, and the slope gets no gradient from it.

    Args:
      shared: if True, one slope for all channels, params slope [].
      preset: initial slope: "jaxnn" and "torch" 0.25, "keras" 0, "flax" 0.01.
      slope_init: initializer (key, shape, dtype) -> array; overrides the preset.
      name: pins the name.

    Raises:
      ValueError: if x has another number of channels than the slope.
      TypeError: if x is not floating, or `shared` is not a bool.

    Differences: PyTorch (`num_parameters=1`) and flax share one slope by default. Keras has one slope for each position
    of an example unless `shared_axes` is given.

    Reference: He et al., Delving Deep into Rectifiers, 2015.

    >>> params, state = prelu().init(jax.random.key(0), jnp.ones((1, 2)))
    >>> prelu().apply(params, state, jnp.array([[-4.0, 4.0]]))[0].tolist()
    [[-1.0, 4.0]]
    """
    where = name or "prelu"
    weights = Weights(where, "prelu", preset, {"slope": slope_init})
    check.flags(where, shared=shared)

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        check.array(where, "x", x, least=0 if shared else 1, shape="[..., c]")
        return weights.draw(x, 0, slope=(key, () if shared else (x.shape[-1],))), {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        slope = jnp.asarray(params["slope"])
        x = check.array(where, "x", x, least=slope.ndim, shape="[..., c]")
        if slope.ndim:
            check_fits(where, x, "slope", slope.shape[0])
        return leaky(x, fitting(slope.reshape((1,) * (x.ndim - slope.ndim) + slope.shape), x)), state

    return layer(initial, apply, "prelu", name=name, padded=0 if shared else 1)


@recorded
def maxout(
    features: int,
    *,
    pieces: int = 2,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Maxout, the maximum of several affine maps, y_j = max_i (x w_ij + b_ij), [..., d] -> [..., features].

    A learned convex function, piecewise linear with `pieces` pieces; ReLU, leaky ReLU and |x| are special cases.
    Designed for use with dropout. It does not saturate, and no unit dies. It has `pieces` times the weights of a dense
    layer. Params w [d, features · pieces], b [features · pieces], with the pieces of a feature adjacent. Equal pieces
    share the gradient equally.

    Args:
      features: size of the last axis of y, an integer >= 1.
      pieces: an integer >= 1; 2 to 5 in the paper. 1 is `dense`.
      bias: False omits b.
      preset: the default initialization, as in `dense`.
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of the product, as in `dense`.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `dense`.

    Differences: as tfa.layers.Maxout after a dense layer. PyTorch has no such layer.

    Reference: Goodfellow et al., Maxout Networks, 2013.

    >>> params, state = maxout(3, pieces=4).init(jax.random.key(0), jnp.ones((2, 5)))
    >>> params["w"].shape, maxout(3, pieces=4).apply(params, state, jnp.ones((2, 5)))[0].shape
    ((5, 12), (2, 3))
    """
    where = name or "maxout"
    features = check.count(where, "features", features)
    pieces = check.count(where, "pieces", pieces)
    affine = dense(
        features * pieces, bias=bias, preset=preset, w_init=w_init, b_init=b_init, precision=precision, name=where
    )

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        y, state = affine.apply(params, state, x)
        return y.reshape(*y.shape[:-1], features, pieces).max(axis=-1), state

    return layer(affine.init, apply, "maxout", name=name, padded=1)


@recorded
def perceptron(
    features: int = 1,
    *,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Rosenblatt's perceptron, y = 1 if x w + b >= 0, else 0, [..., d] -> [..., features], in x's dtype.

    Params w [d, features], b [features], as those of `dense`. Its gradient is 0 everywhere; `ops.perceptron_update`
    trains a single layer of it. For several layers use `dense` with a differentiable activation.

    Args:
      features: number of units, each an independent binary classifier.
      preset: the default initialization, as in `dense`; the rule converges from any.
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of the product, as in `dense`. With a low one, examples close to the hyperplane may be assigned to
        either side.
      name: pins the name.

    Raises:
      ValueError, TypeError: as `dense`.

    Reference: Rosenblatt, The Perceptron, 1958.

    >>> both = {"w": jnp.ones((2, 1)), "b": jnp.array([-1.5])}
    >>> perceptron().apply(both, {}, jnp.array([[0.0, 1.0], [1.0, 1.0]]))[0].tolist()
    [[0.0], [1.0]]
    """
    affine = dense(
        features, preset=preset, w_init=w_init, b_init=b_init, precision=precision, name=name or "perceptron"
    )

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        y, state = affine.apply(params, state, x)
        return unit_step(y), state

    return layer(affine.init, apply, "perceptron", name=name, padded=1)
