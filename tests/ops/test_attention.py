"""Attention against NumPy in float64, at its extremes, and what positions must and must not do."""

import importlib
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax import export
from jax.test_util import check_grads

from jaxnn import ops

N, Q, S, HEADS, KV, D, E = 2, 3, 5, 4, 2, 6, 3


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def taken(scale=1.0, dtype=None):
    arrays = drawn(N, Q, HEADS, D) * scale, drawn(N, S, KV, D, seed=1) * scale, drawn(N, S, KV, E, seed=2)
    return tuple(jnp.asarray(a, dtype) for a in arrays)


def looped(q, k, v, seen, bias, softcap=None):
    """Each query of each head of each example by itself; `seen(n, h, i, j)` says which keys it may see."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    (n, t, heads, d), (_, s, kv, e) = q.shape, v.shape
    y = np.zeros((n, t, heads, e))
    for a, i, h in np.ndindex(n, t, heads):
        own = h // (heads // kv)
        keys = [j for j in range(s) if seen(a, h, i, j)]
        if keys:
            scores = k[a, keys, own] @ q[a, i, h] / np.sqrt(d)
            scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
            scores = scores + (0 if bias is None else np.broadcast_to(bias, (n, heads, t, s))[a, h, i, keys])
            share = np.exp(scores - scores.max())
            y[a, i, h] = share @ v[a, keys, own] / share.sum()
    return y


MASK = np.random.default_rng(5).random((N, HEADS, Q, S)) < 0.5
MASK[0, 1, 2] = False  # a query that sees nothing
BIAS = drawn(HEADS, Q, S, seed=7)
LENGTHS = np.array([4, 0])
# name -> options, which keys are seen
CASES = {
    "all": ({}, lambda a, h, i, j: True),
    "mask": ({"mask": jnp.asarray(MASK)}, lambda a, h, i, j: MASK[a, h, i, j]),
    "mask of keys": ({"mask": jnp.asarray(MASK[:, :1, :1])}, lambda a, h, i, j: MASK[a, 0, 0, j]),
    "causal": ({"causal": True}, lambda a, h, i, j: j <= i),
    "causal from 2": ({"causal": True, "offset": 2}, lambda a, h, i, j: j <= i + 2),
    "causal from each": ({"causal": True, "offset": jnp.array([1, -2])}, lambda a, h, i, j: j <= i + (1, -2)[a]),
    "window": ({"window": (1, 2)}, lambda a, h, i, j: -1 <= j - i <= 2),
    "window behind": ({"window": (1, None), "causal": True, "offset": 1}, lambda a, h, i, j: -1 <= j - i - 1 <= 0),
    "lengths": ({"lengths": jnp.asarray(LENGTHS)}, lambda a, h, i, j: j < LENGTHS[a]),
    "both": ({"mask": jnp.asarray(MASK), "causal": True}, lambda a, h, i, j: MASK[a, h, i, j] and j <= i),
}


@pytest.mark.parametrize("bias", [None, BIAS], ids=["plain", "bias"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_each_query_by_itself(case, bias):
    how, seen = CASES[case]
    q, k, v = taken()
    y = ops.attention(q, k, v, **how, bias=None if bias is None else jnp.asarray(bias))
    assert_close(y, looped(q, k, v, seen, bias))


@pytest.mark.usefixtures("x64")
def test_softcap_and_scale():
    q, k, v = taken(5.0)
    assert_close(ops.attention(q, k, v, softcap=2.0), looped(q, k, v, lambda *_: True, None, softcap=2.0))
    assert_close(ops.attention(q, k, v, scale=0.3), ops.attention(q * 0.3 * np.sqrt(D), k, v))


@pytest.mark.parametrize("case", ["all", "mask", "causal", "lengths"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_are_differences(case):
    f = jax.jit(lambda q, k, v, bias: ops.attention(q, k, v, bias=bias, **CASES[case][0]))
    check_grads(f, (*taken(), jnp.asarray(BIAS)), order=2, eps=1e-4, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e-30])
@pytest.mark.slow
def test_extreme_scores(scale):
    """Scores of 1e8: one key takes all; the gradient is finite."""
    q, k, v = taken(scale, jnp.float32)
    y = ops.attention(q, k, v)
    np.testing.assert_allclose(y, looped(q, k, v, lambda *_: True, None), rtol=1e-5, atol=1e-5)
    grads = jax.grad(lambda *a: ops.attention(*a).sum(), (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.slow
def test_a_query_that_sees_nothing_gives_zero_in_value_and_gradient():
    q, k, v = taken(dtype=jnp.float32)
    for how in (
        {"mask": jnp.zeros((N, 1, 1, S), bool)},
        {"bias": jnp.full((1, 1, 1, S), -jnp.inf)},
        {"lengths": jnp.zeros(N, jnp.int32)},
    ):
        y, grads = jax.value_and_grad(lambda *a, how=how: ops.attention(*a, **how).sum(), (0, 1, 2))(q, k, v)
        assert float(y) == 0
        assert not any(np.asarray(g).any() for g in grads)
    assert ops.attention(q, k[:, :0], v[:, :0]).tolist() == np.zeros((N, Q, HEADS, E)).tolist()


@pytest.mark.slow
def test_what_lies_beyond_the_lengths_does_not_matter():
    q, k, v = taken(dtype=jnp.float32)
    lengths = jnp.array([4, 2])
    beyond = (np.arange(S) >= np.asarray(lengths)[:, None])[..., None, None]
    f = lambda q, k, v: ops.attention(q, k, v, lengths=lengths)  # noqa: E731
    bad = (q, jnp.where(beyond, jnp.nan, k), jnp.where(beyond, jnp.nan, v))
    np.testing.assert_array_equal(f(*bad), f(q, k, v))
    for g in jax.grad(lambda *a: f(*a).sum(), (0, 1, 2))(*bad):
        assert np.isfinite(g).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_rounds_its_inputs_and_its_output_alone(dtype):
    q, k, v = taken(dtype=dtype)
    y = ops.attention(q, k, v, causal=True)
    assert y.dtype == dtype
    want = looped(*(a.astype(jnp.float32) for a in (q, k, v)), lambda a, h, i, j: j <= i, None)
    np.testing.assert_allclose(y.astype(jnp.float32), want, atol=3 * float(jnp.finfo(dtype).eps))


def test_under_vmap_and_jit():
    q, k, v = (jnp.stack([a, 2 * a]) for a in taken(dtype=jnp.float32))
    f = partial(ops.attention, causal=True)
    assert_close(jax.jit(jax.vmap(f))(q, k, v), jnp.stack([f(q[i], k[i], v[i]) for i in range(2)]))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("r", [2, 4, 6])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_rotary_products_depend_on_the_difference_of_positions_alone(r, interleaved):
    q, k = jnp.asarray(drawn(1, 1, 1, D)), jnp.asarray(drawn(1, 1, 1, D, seed=1))
    turn = lambda x, at: ops.rotary(x, *ops.rotary_tables(jnp.array([at]), r), interleaved=interleaved)  # noqa: E731
    product = lambda i, j: float(jnp.sum(turn(q, i) * turn(k, j)))  # noqa: E731
    np.testing.assert_allclose(product(3, 1), product(13, 11), rtol=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3
    np.testing.assert_allclose(jnp.linalg.norm(turn(q, 7)), jnp.linalg.norm(q), rtol=1e-6)
    np.testing.assert_array_equal(turn(q, 5)[..., r:], q[..., r:])
    np.testing.assert_array_equal(turn(q, 0), q)
    angles = 5 * 10_000.0 ** (-np.arange(0, r, 2) / r)
    pair = (q[0, 0, 0, 0], q[0, 0, 0, 1 if interleaved else r // 2])
    got = turn(q, 5)[0, 0, 0, 0]
    np.testing.assert_allclose(got, pair[0] * np.cos(angles[0]) - pair[1] * np.sin(angles[0]), rtol=1e-5)


def test_sinusoidal_is_the_paper():
    position, features = np.arange(50)[:, None], 16
    want = np.zeros((50, features))
    rate = 10_000.0 ** (-np.arange(0, features, 2) / features)
    want[:, 0::2], want[:, 1::2] = np.sin(position * rate), np.cos(position * rate)
    np.testing.assert_allclose(ops.sinusoidal(jnp.arange(50), features), want, atol=1e-5)


ONES = partial(np.ones, dtype=np.float32)
X = ONES((2, 3, 4, 5))
ERRORS = {
    "heads": (
        lambda: ops.attention(X, ONES((2, 3, 3, 5)), ONES((2, 3, 3, 5))),
        "attention: expected q [n, t, heads, d], k [n, s, kv, d], v [n, s, kv, e], with heads a multiple of kv, got "
        "(float32[2, 3, 4, 5], float32[2, 3, 3, 5], float32[2, 3, 3, 5]).",
    ),
    "mask": (
        lambda: ops.attention(X, X, X, mask=np.ones((2, 3, 3), bool)),
        "attention: expected mask that broadcasts with the scores [2, 4, 3, 3], got bool[2, 3, 3].",
    ),
    "offset": (
        lambda: ops.attention(X, X, X, causal=True, offset=np.zeros(3, np.int32)),
        "attention: expected offset to be one number or of shape [2], got int32[3].",
    ),
    "odd": (lambda: ops.rotary_tables(np.arange(3), 3), "rotary_tables: expected an even size, got 3."),
    "rotary": (
        lambda: ops.rotary(X, ONES((3, 4)), ONES((3, 4))),
        "rotary: expected cos and sin of shape [3, r / 2] or [2, 3, r / 2] with r <= 5, got "
        "(float32[3, 4], float32[3, 4]).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        wrong()
    assert str(caught.value) == text


def test_a_mask_of_numbers_is_a_bias():
    with pytest.raises(TypeError, match="numbers are a bias"):
        ops.attention(X, X, X, mask=ONES((3, 3)))
    with pytest.raises(TypeError, match="of equal dtype"):
        ops.attention(X, X.astype(np.float16), X)


def test_lengths_are_whole_numbers():
    with pytest.raises(TypeError) as caught:
        ops.attention(X, X, X, lengths=ONES(2))
    assert str(caught.value) == "attention: expected lengths to be an array of integers, got float32[2]."


# As a citizen of JAX.


def products(f, *args, platform):
    """The dtypes of both factors of every product, as lowered for a platform."""
    text = jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return re.findall(r"stablehlo\.dot_general.*?: \(tensor<[^>]*x(\w+)>, tensor<[^>]*x(\w+)>\)", text)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_bfloat16_is_multiplied_by_bfloat16_in_both_directions(platform):
    """Two products forward, four backward of which none is left out by the compiler: dQ, dK, dV and d softmax."""
    q = jax.ShapeDtypeStruct((2, 8, 4, 16), jnp.bfloat16)
    f = lambda q, k, v: ops.attention(q, k, v, causal=True).astype(jnp.float32).sum()  # noqa: E731
    found = products(jax.value_and_grad(f, (0, 1, 2)), q, q, q, platform=platform)
    assert len(found) == 6
    assert set(found) == {("bf16", "bf16")}


@pytest.mark.parametrize("dtype", [jnp.bfloat16])
def test_low_precision_gradients_are_float32s_rounded(dtype):
    q, k, v = taken(dtype=dtype)
    f = lambda *a: jnp.sum(jnp.sin(ops.attention(*a, causal=True).astype(jnp.float32)))  # noqa: E731
    wide = jax.grad(f, (0, 1, 2))(*(a.astype(jnp.float32) for a in (q, k, v)))
    for got, want in zip(jax.grad(f, (0, 1, 2))(q, k, v), wide, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.02 * np.abs(want).max())


@pytest.mark.parametrize("precision", [None, "highest"])
def test_precision_reaches_every_product(precision):
    q = jax.ShapeDtypeStruct((2, 8, 4, 16), jnp.float32)
    f = jax.value_and_grad(lambda q: ops.attention(q, q, q, precision=precision).sum())
    text = jax.jit(f).trace(q).lower(lowering_platforms=("tpu",)).as_text()
    asked = re.findall(r"stablehlo\.dot_general.*precision = \[(\w+), (\w+)\]", text)
    assert len(asked) == text.count("stablehlo.dot_general") == 6
    assert set(asked) == {("HIGHEST",) * 2 if precision else ("DEFAULT",) * 2}


WITH_JAX = {
    "all": {},
    "causal": {"causal": True},
    "window": {"window": (1, 2)},
    "window behind": {"window": (1, None)},
    "window of the past": {"window": (None, 0)},
    "window and causal": {"window": (1, 3), "causal": True, "scale": 0.3},
    "bias": {"bias": jnp.asarray(BIAS, jnp.float32)},
    "mask": {"mask": jnp.asarray(MASK).at[..., 0].set(True)},
    "lengths": {"lengths": jnp.array([4, 1])},
}


@pytest.mark.parametrize("case", WITH_JAX)
@pytest.mark.slow
def test_jax_nn_gives_the_same(case):
    q, k, v = (a[..., :3] for a in taken(dtype=jnp.float32))
    assert_close(
        ops.attention(q, k, v, implementation="xla", **WITH_JAX[case]), ops.attention(q, k, v, **WITH_JAX[case])
    )


@pytest.mark.parametrize("case", ["all", "causal", "window and causal", "bias", "mask", "lengths"])
def test_cudnn_is_called(case, monkeypatch):
    """Lowered for cuda without a GPU; jax asks for cuDNN's version while it traces."""
    fused = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
    q, k, v = (jnp.concatenate([a] * 3, -1)[..., :8].astype(jnp.bfloat16) for a in taken())
    even = {"bias": {"bias": jnp.zeros((4, 2, 4))}, "mask": {"mask": jnp.ones((2, 4), bool)}}.get(case, WITH_JAX[case])
    f = jax.grad(
        lambda q: ops.attention(q, k[:, :4], v[:, :4], implementation="cudnn", **even).astype(jnp.float32).sum()
    )
    text = jax.jit(f).trace(q[:, :2]).lower(lowering_platforms=("cuda",)).as_text()
    assert len(set(re.findall(r"__cudnn\$fmha\w*Softmax(?:Backward)?", text))) == 2


NOT_IN_JAX = {
    "softcap": ({"softcap": 2.0}, "xla", "softcap"),
    "dropout": ({"dropout": 0.5, "key": jax.random.key(0)}, "cudnn", "dropout"),
    "offset": ({"offset": 1, "causal": True}, "xla", "offset"),
    "precision": ({"precision": "high"}, "xla", "precision"),
    "window": ({"window": (1, 1)}, "cudnn", "window without causal=True"),
}


@pytest.mark.parametrize("case", NOT_IN_JAX)
def test_what_jax_nn_has_not_is_refused(case):
    how, implementation, missing = NOT_IN_JAX[case]
    with pytest.raises(ValueError) as caught:
        ops.attention(X, X, X, implementation=implementation, **how)
    assert str(caught.value) == (
        f"attention: expected no {missing} with implementation={implementation!r}, got {missing}. "
        "jax.nn.dot_product_attention has none: leave implementation= out."
    )


RANGES = {
    "softcap": ({"softcap": 0.0}, "softcap in (0, inf), got 0.0."),
    "softcap below": ({"softcap": -1.0}, "softcap in (0, inf), got -1.0."),
    "dropout": ({"dropout": 1.0}, "dropout in [0, 1), got 1.0. It is the probability of dropping."),
    "key": ({"dropout": 0.1}, "a key with dropout, got None. Pass key=, or dropout=0 to draw nothing."),
    "implementation": (
        {"implementation": "flash"},
        "implementation to be one of None, 'xla', 'cudnn', got 'flash'.",
    ),
    "size": (
        {"implementation": "xla", "v": X[..., :3]},
        "v with heads of q's size and implementation='xla', got (float32[2, 3, 4, 5], float32[2, 3, 4, 3]).",
    ),
}


@pytest.mark.parametrize("case", RANGES)
def test_ranges(case):
    how, text = RANGES[case]
    with pytest.raises(ValueError) as caught:
        ops.attention(X, X, **{"v": X, **how})
    assert str(caught.value) == f"attention: expected {text}"


def test_cudnn_takes_half_precision_alone():
    with pytest.raises(TypeError) as caught:
        ops.attention(X, X, X, implementation="cudnn")
    assert str(caught.value) == (
        "attention: expected float16 or bfloat16 with implementation='cudnn', got float32[2, 3, 4, 5]."
    )


@pytest.mark.slow
def test_dropout_of_weights_drops_each_at_its_rate_and_keeps_the_mean():
    """With values of one key each the output is the weights themselves: 1 / s kept as 1 / (s (1 - rate)), or 0."""
    q, v = jnp.zeros((8, 50, 2, 4)), jnp.broadcast_to(jnp.eye(50).reshape(1, 50, 1, 50), (8, 50, 2, 50))
    y = np.asarray(ops.attention(q, q, v, dropout=0.3, key=jax.random.key(0)))
    kept = y > 0
    np.testing.assert_allclose(y[kept], 1 / 50 / 0.7, rtol=1e-5)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / kept.size)
    traced = jax.jit(lambda rate: ops.attention(q, q, v, dropout=rate, key=jax.random.key(0)))(0.3)
    np.testing.assert_array_equal(traced, y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_heads_have_the_same_values_and_gradients_in_the_layout_of_a_cpu(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v, ct = (jnp.asarray(rng.standard_normal((2, 5, 3, 64)), dtype) for _ in range(4))

    def both():
        return jax.jit(lambda *x: jax.vjp(lambda *x: ops.attention(*x, causal=True), *x)[1](ct))(q, k, v)

    got = both()
    monkeypatch.setattr("jaxnn.ops._attention.local_cpu", lambda: False)
    jax.tree.map(assert_close, got, both())


def test_dropout_of_zero_draws_nothing():
    f = lambda key: ops.attention(X, X, X, dropout=0.0, key=key)  # noqa: E731
    assert "random" not in str(jax.make_jaxpr(f)(jax.random.key(0)))


@pytest.mark.parametrize("how", [{"causal": True}, {"window": (1, 2), "offset": 1}, {"lengths": True}], ids=str)
def test_exports_with_any_batch_and_any_number_of_steps(how):
    n, t, s = export.symbolic_shape("n, t, s", constraints=["t>=2", "s>=2"])

    def f(q, k, v):
        lengths = jnp.full(q.shape[0], 3, jnp.int32) if "lengths" in how else None
        return ops.attention(q, k, v, **{**how, "lengths": lengths})

    args = taken(dtype=jnp.float32)
    shapes = (
        jax.ShapeDtypeStruct((n, *x, *a.shape[2:]), a.dtype) for a, x in zip(args, [(t,), (s,), (s,)], strict=True)
    )
    np.testing.assert_array_equal(export.export(jax.jit(f))(*shapes).call(*args), jax.jit(f)(*args))
