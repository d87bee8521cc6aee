"""Ensembles: members as one model that returns their mean prediction and their disagreement."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._layer import Layer, wrap
from jaxnn.types import Arrays, Key, Params, State


class Consensus(NamedTuple):
    """Output of an `ensemble`: mean prediction and disagreement of its members.

    Attributes:
      mean: mean over members of their probabilities, [..., k], or of their outputs, [...].
      disagreement: mutual information in nats, or variance over members; [...], >= 0, and 0 where all members agree.

    >>> import jaxnn as nn
    >>> model = nn.ensemble(nn.dense(3), 5)
    >>> y, _ = model.apply(*model.init(jax.random.key(0), jnp.ones((4, 2))), jnp.ones((4, 2)))
    >>> y.mean.shape, y.disagreement.shape
    ((4, 3), (4,))
    """

    mean: jax.Array
    disagreement: jax.Array


@recorded
def ensemble(model: Layer, members: int, *, of: Literal["logits", "values"] = "logits") -> Layer:
    """Layer of m members with params and state stacked [m, ...], x -> `Consensus(mean, disagreement)`.

    For logits z_i = model_i(x), [..., k], with p_i = softmax(z_i) and entropy H(p) = -Σ_k p_k log p_k:

        mean          p̄ = Σ_i p_i / m
        disagreement  I = H(p̄) - Σ_i H(p_i) / m = Σ_i KL(p_i ‖ p̄) / m

    I is the mutual information of label and member: the part of the uncertainty H(p̄) that is caused by disagreement of
    the members and that more data would reduce. For values, [...], the mean and the variance over members. Both are at
    least float32.

    Train members with `sweep`, with `drive` and a batch of keys, or with `vmap`.
    `predict(ensemble(model, 8), *runs.best, x)` evaluates such runs in batches. Names and paths are those of the model.

    Args:
      model: the layer of one member.
      members: number of members m >= 1.
      of: output of the model: "logits" over the last axis, or "values", which are averaged directly.

    Raises:
      TypeError: if `model` is not a layer or does not return one floating array.
      ValueError: if `members` or `of` is out of range, or params or state are not stacked for m members.

    Reference: BALD: Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011,
    arXiv:1112.5745; Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, 2017, arXiv:1612.01474.

    >>> import jaxnn as nn
    >>> model = ensemble(nn.dense(2), 2)
    >>> params = {"w": jnp.array([[[9.0, -9.0]], [[-9.0, 9.0]]]), "b": jnp.zeros((2, 2))}
    >>> y, _ = model.apply(params, {}, jnp.array([[0.0], [1.0]]))
    >>> y.mean.tolist(), [round(d, 3) for d in y.disagreement.tolist()]  # both members uniform; then opposite classes
    ([[0.5, 0.5], [0.5, 0.5]], [0.0, 0.693])
    """
    check.model("ensemble", "model", model)
    members = check.count("ensemble", "members", members)
    check.choice("ensemble", "of", of, ("logits", "values"))

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        return jax.vmap(lambda i: model.init(jax.random.fold_in(key, i), x))(jnp.arange(members))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
            if jnp.shape(leaf)[:1] != (members,):
                at = jax.tree_util.keystr(path[1:], simple=True, separator="/")
                fix = "Train them together: sweep, or drive with a batch of keys."
                raise invalid("ensemble", f"{at} stacked for {members} members, [{members}, ...]", leaf, fix)

        def member(i: jax.Array, params: Params, state: State) -> tuple[Arrays, State]:
            inner = None if key is None else jax.random.fold_in(key, i)
            return model.apply(params, state, x, key=inner, train=train)

        y, state = jax.vmap(member)(jnp.arange(members), params, state)
        if not hasattr(y, "dtype") or not jnp.issubdtype(y.dtype, jnp.floating):
            raise wrong_type("ensemble", "a model that gives one floating array", y)
        y = y.astype(param_dtype(y))
        return (_of_logits(y) if of == "logits" else Consensus(jnp.mean(y, 0), jnp.var(y, 0))), state

    return wrap(model, init, apply)


def _of_logits(z: jax.Array) -> Consensus:
    """Consensus of logits, with I as the mean divergence: a difference of nearly equal entropies loses precision."""
    log_p = jax.nn.log_softmax(z)
    p = jnp.exp(log_p)
    mean = jnp.mean(p, 0)
    log_mean = jax.nn.logsumexp(log_p, 0) - jnp.log(jnp.asarray(len(z), z.dtype))
    apart = jnp.where(p > 0, log_p - log_mean[None], 0)  # a class with the logit -inf contributes 0
    return Consensus(mean, jnp.maximum(jnp.mean(jnp.sum(p * apart, -1), 0), 0))
