"""Regularizers against float64 sums: where they act, edges, dtypes, errors."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

import jaxnn as nn
from jaxnn import regularizers
from jaxnn.regularizers import elastic_net, l1, l2

DTYPES = [*TOLERANCE]


def tree(dtype="float32", seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"stem": {"w": (2, 2, 3, 4), "b": (4,)}, "norm": {"scale": (4,), "bias": (4,)}, "gru": {"w_x": (4, 6)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * rng.normal(size=shape), dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def numbers(x):
    return np.asarray(x).astype(np.float64)


@dataclass(frozen=True)
class Case:
    f: Any
    reference: Any  # of all weights as one float64 vector
    options: dict


CASES = {
    "l1": Case(l1, lambda w, strength: strength * sum(abs(x) for x in w), {"strength": 0.3}),
    "l2": Case(l2, lambda w, strength: strength * sum(x * x for x in w), {"strength": 0.3}),
    "elastic_net": Case(
        elastic_net, lambda w, l1, l2: sum(l1 * abs(x) + l2 * x * x for x in w), {"l1": 0.3, "l2": 0.05}
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_public_name_has_a_row():
    assert CASES.keys() == set(regularizers.__all__)
    assert list(regularizers.__all__) == sorted(regularizers.__all__)


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_value(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        params = tree(dtype)
        value = case.f(**case.options)(params)
        weights = np.concatenate([numbers(params["stem"]["w"]).ravel(), numbers(params["gru"]["w_x"]).ravel()])
        assert value.dtype == (jnp.float64 if dtype == "float64" else jnp.float32)
        assert_close(value, case.reference(weights, **case.options))


@every
@pytest.mark.slow
def test_gradient(case, x64):
    regularizer, params = case.f(**case.options), tree("float64")
    grads = jax.grad(regularizer)(params)
    for path in (("stem", "b"), ("norm", "scale"), ("norm", "bias")):
        assert not grads[path[0]][path[1]].any()
    assert (grads["gru"]["w_x"] != 0).all()
    check_grads(regularizer, (params,), order=1, modes=["rev", "fwd"])


def test_the_conventions():
    """λ Σ w² has the gradient 2 λ w: half a strength is what decays weights as sgd's weight decay of PyTorch does."""
    w = jnp.array([3.0, -0.5, 0.0])
    assert jax.grad(l2(0.25))({"w": w})["w"].tolist() == [1.5, -0.25, 0.0]
    assert jax.grad(l1(0.25))({"w": w})["w"].tolist() == [0.25, -0.25, 0.0]
    decay = optax.add_decayed_weights(0.5)
    assert_close(decay.update({"w": jnp.zeros(3)}, decay.init({"w": w}), {"w": w})[0]["w"], 0.5 * w)


@every
def test_edges(case):
    regularizer = case.f(**case.options)
    for x, value in ((0.0, 0.0), (np.inf, np.inf), (-np.inf, np.inf), (np.nan, np.nan)):
        assert_close(regularizer({"w": jnp.array([x], jnp.float32)}), value)
    for x in (1e4, -1e4):
        assert_close(regularizer({"w": jnp.array([x])}), case.reference([x], **case.options))
        assert np.isfinite(jax.grad(regularizer)({"w": jnp.array([x])})["w"]).all()
    assert regularizer({"w": jnp.zeros((0, 3))}).item() == 0.0
    assert jax.grad(regularizer)({"w": jnp.zeros(2)})["w"].tolist() == [0.0, 0.0]
    assert regularizer({"w": jnp.full(4096, 1e-2, jnp.float16)}).item() > 0  # squares of 1e-4, summed in float32


@every
def test_strengths_may_be_traced(case):
    params = tree()

    def at(options):
        return case.f(**options)(params)

    many = {name: jnp.array([value, 0.0, 2.0]) for name, value in case.options.items()}
    values = jax.jit(jax.vmap(at))(many)
    for i in range(3):
        assert_close(values[i], at({name: float(value[i]) for name, value in many.items()}))
    slopes = jax.grad(at)(case.options)
    assert all(np.isfinite(slope) and slope > 0 for slope in slopes.values())
    halves = at({name: jnp.asarray(0.5, jnp.bfloat16) for name in case.options})
    assert_close(halves, at(dict.fromkeys(case.options, 0.5)))


def test_leaves_of_several_dtypes_sum_in_the_widest(x64):
    params = {"a": {"w": jnp.ones(2, jnp.bfloat16)}, "b": {"w": jnp.ones(3, jnp.float64)}, "c": {"w": jnp.ones(4)}}
    assert l2(1.0)(params).dtype == jnp.float64
    assert l2(np.float32(1.0))(params).item() == 9.0


def test_where_takes_other_params():
    params = tree()
    assert_close(l2(1.0, where="norm/*")(params), sum((numbers(x) ** 2).sum() for x in params["norm"].values()))
    assert_close(l1(1.0, where=["*/w", "*/b"])(params), sum(np.abs(numbers(x)).sum() for x in params["stem"].values()))


def test_names_that_only_begin_alike_are_no_weights():
    params = {"w": jnp.ones(1), "wide": jnp.ones(1), "w2": jnp.ones(1), "w_": jnp.ones(1), "w_a": {"b": jnp.ones(1)}}
    assert l1(1.0)(params).item() == 2.0


def test_in_a_trainer_and_with_masked_nodes():
    batch = (jnp.ones((4, 3)), jnp.zeros((4, 2)))
    t = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.0), regularizer=l2(0.5))
    plain = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.sgd(0.0))
    ts = t.init(jax.random.key(0), batch)
    penalty = 0.5 * (numbers(ts.params["w"]) ** 2).sum()
    assert_close(t.evaluate(ts, batch)["loss"] - plain.evaluate(ts, batch)["loss"], penalty, scale=1.0)
    assert l2(1.0)({"w": jnp.ones(2), "b": optax.MaskedNode(), "v": {}}).item() == 2.0


# ---- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: l2(1.0, where=()),
            ValueError,
            "l2: expected at least one pattern in where, got none. Leave where out for the weights.",
        ),
        (
            lambda: l2(1.0, where="*/w")({"w": jnp.ones((2, 3))}),
            ValueError,
            "l2: expected where to match some of w, got '*/w'.",
        ),
        (
            lambda: l1(1.0)({"a": {"scale": jnp.ones(2), "b": jnp.ones(2)}}),
            ValueError,
            "l1: expected a param named w or w_..., got a/b, a/scale. Say which ones are meant by where=patterns.",
        ),
        (
            lambda: l1(1.0)({}),
            ValueError,
            "l1: expected a param named w or w_..., got no params. Say which ones are meant by where=patterns.",
        ),
        (
            lambda: l2(1.0)({"a": {"w": jnp.ones(2, jnp.int32)}}),
            TypeError,
            "l2 at a/w: expected a param of a floating dtype, got int32[2]. Leave it out by where=patterns.",
        ),
    ],
    ids=lambda value: value[:45] if isinstance(value, str) else "",
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
