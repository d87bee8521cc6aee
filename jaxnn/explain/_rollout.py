"""Attention rollout: attention weights of all layers as one map."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._calls import call_of
from jaxnn._capture import capture, watched
from jaxnn._dtypes import widened
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer, as_layer
from jaxnn.explain._target import ModelLike
from jaxnn.types import Arrays, Params, State


def attention_rollout(
    model: ModelLike, params: Params, state: State, x: Arrays, *, paths: Sequence[str] | None = None
) -> Array:
    """Attention of the last layer to the tokens of the first, through all layers, -> [n, t, t].

        R = Â_L ... Â_2 Â_1,    Â = (mean over heads of A + I) / 2

    I stands for the skip connection. Rows add up to 1; R[:, 0, 1:] is the attention of a class token to other tokens.
    Rollout ignores values, MLPs and the score: it is equal for all classes.

    Args:
      model: model with layers of self-attention over equal numbers of tokens.
      params, state: params and state of the model.
      x: inputs of the model, arrays of any dtype.
      paths: paths of layers whose output are the weights A [n, heads, t, t], as in `nn.capture`, in the order of the
        calls; inside `repeat` they are stacked. None finds all layers of `nn.attention`, alone and in blocks.

    Raises:
      TypeError: if `paths` is neither None nor a sequence of str.
      ValueError: if there is no attention, a path is unknown, or weights are not of equal shapes [n, heads, t, t].

    Differences: not in captum. Later variants take the maximum over heads or omit small weights.

    Reference: Abnar & Zuidema, Quantifying Attention Flow in Transformers, 2020.

    >>> model = nn.serial(nn.encoder_block(2), nn.encoder_block(2))
    >>> x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> attention_rollout(model, params, state, x).sum(-1).round(4).tolist()[0]
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    model = as_layer(model, "attention_rollout")
    paths = _attentions(model, params, state, x) if paths is None else paths
    if isinstance(paths, str) or not isinstance(paths, Sequence) or not all(isinstance(p, str) for p in paths):
        raise wrong_type("attention_rollout", "paths to be None or a sequence of str", paths)
    if not paths:
        fix = "Pass paths= of layers that return attention weights."
        raise invalid("attention_rollout", "a model with layers of nn.attention", told="none", fix=fix)
    (_, inner), _ = capture(model, paths).apply(params, state, x)
    layers = [a for path in paths for a in _of_path(path, inner[path])]
    if len({a.shape for a in layers}) > 1:
        told = ", ".join(sorted({str(list(a.shape)) for a in layers}))
        raise invalid("attention_rollout", "attention weights of equal shape in all layers", told=told)
    rollout = jnp.broadcast_to(jnp.eye(layers[0].shape[-1], dtype=layers[0].dtype), layers[0].shape)
    for a in layers:
        rollout = (a @ rollout + rollout) / 2
    return rollout


def _of_path(path: str, weights: Array) -> list[Array]:
    """Weights [n, t, t] of each layer at a path, the mean over heads: one, or those stacked by `repeat`."""
    if not isinstance(weights, jax.Array) or weights.ndim not in (4, 5) or weights.shape[-1] != weights.shape[-2]:
        raise invalid("attention_rollout", f"attention weights [n, heads, t, t] at {path}", weights)
    mean = widened(weights).mean(-3)
    return list(mean) if mean.ndim == 4 else [mean]


def _attentions(model: Layer, params: Params, state: State, x: Arrays) -> list[str]:
    """Paths of the weights of all attention layers, in the order of the calls."""
    inner = {path: layer for path, (layer, _) in watched(model, params, state, x).layers.items()}
    named = {"": model, **inner}
    return [f"{path}/weights".lstrip("/") for path, layer in named.items() if _is_attention(layer)]


def _is_attention(layer: Layer) -> bool:
    call = call_of(layer)
    return call is not None and call.function.__name__ == "attention"
