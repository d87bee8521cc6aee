"""Recurrent networks against loops over NumPy in float64, and the padding that must not matter."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

import jaxnn as nn
from jaxnn import ops

N, T, D, H, P = 3, 6, 4, 5, 2
LENGTHS = np.array([6, 2, 0])


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def rnn_step(x, h, w):
    h = np.tanh(x @ w["w_x"] + h @ w["w_h"] + w["b"])
    return h, h


def lstm_step(x, carry, w):
    h, c = carry
    i, f, g, o = np.split(x @ w["w_x"] + h @ w["w_h"] + w["b"], 4)
    p = w.get("peephole", np.zeros((3, H)))
    c = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
    h = sigmoid(o + p[2] * c) * np.tanh(c)
    h = h @ w["projection"] if "projection" in w else h
    return (h, c), h


def gru_step(x, h, w, reset):
    a = np.split(x @ w["w_x"] + w["b"], 3)
    u, b = np.split(w["w_h"], 3, 1), np.split(w["b_h"], 3)
    r, z = (sigmoid(a[i] + h @ u[i] + b[i]) for i in (0, 1))
    g = a[2] + r * (h @ u[2] + b[2]) if reset == "after" else a[2] + (r * h) @ u[2] + b[2]
    h = (1 - z) * np.tanh(g) + z * h
    return h, h


def weights(gates, out=H):
    shapes = {"w_x": (D, gates * H), "w_h": (out, gates * H), "b": (gates * H,)}
    return {name: drawn(*shape, seed=i) / 2 for i, (name, shape) in enumerate(shapes.items())}


# name -> the op, its step in NumPy, weights, the sizes of the carry's parts
CASES = {
    "rnn": (ops.rnn, rnn_step, weights(1), (H,)),
    "lstm": (ops.lstm, lstm_step, weights(4), (H, H)),
    "lstm peephole": (ops.lstm, lstm_step, weights(4) | {"peephole": drawn(3, H)}, (H, H)),
    "lstm projection": (ops.lstm, lstm_step, weights(4, P) | {"projection": drawn(H, P)}, (P, H)),
    "gru after": (
        partial(ops.gru, reset="after"),
        partial(gru_step, reset="after"),
        weights(3) | {"b_h": drawn(3 * H)},
        (H,),
    ),
    "gru before": (
        partial(ops.gru, reset="before"),
        partial(gru_step, reset="before"),
        weights(3) | {"b_h": drawn(3 * H)},
        (H,),
    ),
}


def start(sizes):
    parts = tuple(drawn(N, k, seed=9) for k in sizes)
    return parts if len(parts) > 1 else parts[0]


def looped(step, w, x, carry, lengths, reverse):
    """One sequence after the other, one step after the other."""
    ys, ends = None, []
    for n in range(N):
        own = jax.tree.map(lambda c, n=n: c[n], carry)
        for t in range(lengths[n])[::-1] if reverse else range(lengths[n]):
            own, y = step(x[n, t], own, w)
            ys = np.zeros((N, T, y.size)) if ys is None else ys
            ys[n, t] = y
        ends.append(own)
    return ys, jax.tree.map(lambda *parts: np.stack(parts), *ends)


def run(case, x, carry, w, **how):
    return CASES[case][0](jnp.asarray(x), carry, **jax.tree.map(jnp.asarray, w), **how)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_a_step_after_the_other(case, ragged, reverse):
    _, step, w, sizes = CASES[case]
    x, carry = drawn(N, T, D), start(sizes)
    lengths = LENGTHS if ragged else np.full(N, T)
    y, end = run(
        case, x, jax.tree.map(jnp.asarray, carry), w, reverse=reverse, lengths=jnp.asarray(lengths) if ragged else None
    )
    want_y, want_end = looped(step, w, x, carry, lengths, reverse)
    assert_close(y, want_y)
    jax.tree.map(assert_close, end, want_end)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_no_carry_is_zeros_and_pieces_are_the_whole(case):
    _, _, w, sizes = CASES[case]
    x = drawn(N, T, D)
    y, end = run(case, x, None, w)
    zeros = tuple(jnp.zeros((N, k)) for k in sizes)
    assert_close(run(case, x, zeros if len(sizes) > 1 else zeros[0], w)[0], y)
    first, carry = run(case, x[:, :2], None, w)
    second, last = run(case, x[:, 2:], carry, w)
    assert_close(jnp.concatenate([first, second], 1), y)
    jax.tree.map(assert_close, last, end)
    empty, same = run(case, x[:, :0], end, w)
    assert empty.shape == (N, 0, y.shape[-1])
    jax.tree.map(assert_close, same, end)


@pytest.mark.parametrize("filling", [0.0, 1e30, np.nan, np.inf])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_padding_changes_nothing(case, filling):
    """Neither outputs, nor carry, nor the gradients of weights and of what counts; its own gradient is 0."""
    _, _, w, _ = CASES[case]
    counts = np.arange(T) < LENGTHS[:, None]
    x = np.where(counts[..., None], drawn(N, T, D), filling).astype(np.float32)
    clean = np.where(counts[..., None], x, 0).astype(np.float32)
    w = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), w)

    def value(x, w, reverse):
        y, end = CASES[case][0](x, None, **w, lengths=jnp.asarray(LENGTHS), reverse=reverse)
        return sum(jnp.sum(jnp.sin(v)) for v in jax.tree.leaves((y, end))), (y, end)

    both = jax.jit(jax.grad(value, (0, 1), has_aux=True), static_argnums=2)
    for reverse in (False, True):
        grads, out = both(x, w, reverse)
        want_grads, want = both(clean, w, reverse)
        jax.tree.map(np.testing.assert_array_equal, (grads, out), (want_grads, want))
        assert not np.asarray(grads[0])[~counts].any()
        assert not np.asarray(out[0])[~counts].any()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_are_differences(case):
    _, _, w, sizes = CASES[case]
    w, carry = jax.tree.map(jnp.asarray, w), jax.tree.map(jnp.asarray, start(sizes))
    f = jax.jit(lambda x, carry, w: CASES[case][0](x, carry, **w, lengths=jnp.asarray(LENGTHS)))
    check_grads(f, (jnp.asarray(drawn(N, T, D)), carry, w), order=2, eps=1e-4, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_in_low_precision_the_carry_stays_wide(case):
    _, _, w, _ = CASES[case]
    x = jnp.asarray(drawn(N, T, D), jnp.bfloat16)
    y, end = CASES[case][0](x, None, **jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), w))
    assert y.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves(end)} == {jnp.dtype(jnp.float32)}
    want, _ = CASES[case][0](x.astype(jnp.float32), None, **jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), w))
    np.testing.assert_allclose(y.astype(jnp.float32), want, atol=0.05)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_under_vmap_and_scan(case):
    _, _, w, _ = CASES[case]
    w = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), w)
    xs = jnp.asarray(drawn(2, N, T, D), jnp.float32)
    f = lambda x: CASES[case][0](x, None, **w)[0]  # noqa: E731
    each = jnp.stack([f(x) for x in xs])
    assert_close(jax.vmap(f)(xs), each)
    assert_close(jax.lax.map(f, xs), each)


def value(case, w, x, **how):
    y, end = CASES[case][0](x, None, **w, **how)
    return sum(jnp.sum(jnp.sin(v)) for v in jax.tree.leaves((y, end)))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, N])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_the_forms_of_a_cpu_and_of_accelerators_are_equal(case, n):
    """Along each weight and x alone too; one row of 20 features has its products before the scan."""
    d = D if n == N else 20
    w = jax.tree.map(jnp.asarray, CASES[case][2] | {"w_x": drawn(d, CASES[case][2]["b"].size)})
    x = jnp.asarray(drawn(n, T, d))
    f = partial(value, case)

    def derivatives():
        alone = {name: jax.jit(jax.grad(lambda v, name=name: f(w | {name: v}, x)))(v) for name, v in w.items()}
        along = jax.jit(lambda: jax.jvp(f, (w, x), (w, x)))()
        return jax.jit(jax.value_and_grad(f, (0, 1)))(w, x), alone, along

    got = derivatives()
    with nn.compiler.plain_forms():
        want = derivatives()
    jax.tree.map(assert_close, got, want)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_an_activation_may_hold_a_traced_array():
    x, w = jnp.asarray(drawn(N, T, D)), jax.tree.map(jnp.asarray, weights(1))
    f = lambda k: jnp.sum(ops.rnn(x, None, **w, activation=lambda v: jnp.tanh(k * v))[0])  # noqa: E731
    check_grads(f, (jnp.float64(1),), order=1, eps=1e-4, atol=1e-5, rtol=1e-5)


def test_the_program_of_an_accelerator_has_its_products_of_x_before_the_scan():
    """To the letter the one that is written by hand."""
    w = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), weights(4))
    x = jnp.asarray(drawn(N, T, D), jnp.float32)

    def by_hand(x, w_x, w_h, b):
        def step(carry, a):
            h, c = carry
            i, f, g, o = jnp.split(a + jnp.einsum("nh,hk->nk", h, w_h), 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((N, H)), jnp.zeros((N, H))
        a = jnp.einsum("ntd,dk->ntk", x, w_x) + b.reshape(1, 1, -1)
        carry, y = jax.lax.scan(step, start, jnp.moveaxis(a, 1, 0))
        return jnp.moveaxis(y, 0, 1), carry

    def program(op, platform):
        f = jax.grad(lambda w, x: jnp.sum(jnp.sin(op(x, **w)[0])), (0, 1))
        text = jax.jit(f).trace(w, x).lower(lowering_platforms=(platform,)).as_text()
        return re.sub(r"@[\w.]+", "@", text)

    with nn.compiler.plain_forms():
        got = [program(lambda x, **w: ops.lstm(x, None, **w), platform) for platform in ("tpu", "cuda")]
    assert got == [program(by_hand, platform) for platform in ("tpu", "cuda")]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.usefixtures("x64")
def test_conv_lstm_of_one_pixel_is_an_lstm(reverse):
    """With a kernel of 1 every pixel is a sequence of its own."""
    w = weights(4)
    x = drawn(N, T, 2, 3, D)
    each = np.moveaxis(x, 1, 3).reshape(-1, T, D)
    want, (h, c) = run("lstm", each, None, w, reverse=reverse)
    convolved = {k: v[None, None] if v.ndim == 2 else v for k, v in w.items()}
    y, carry = ops.conv_lstm(jnp.asarray(x), None, **jax.tree.map(jnp.asarray, convolved), reverse=reverse)
    assert_close(np.moveaxis(np.asarray(y), 1, 3).reshape(-1, T, H), want)
    assert_close(carry[0].reshape(-1, H), h)
    assert_close(carry[1].reshape(-1, H), c)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_conv_lstm_looks_at_neighbours_and_not_at_padding():
    w = {"w_x": drawn(3, D, 4 * H), "w_h": drawn(3, H, 4 * H), "b": drawn(4 * H)}
    w = jax.tree.map(jnp.asarray, w)
    x, lengths = jnp.asarray(drawn(N, T, 5, D)), jnp.asarray(LENGTHS)
    h, c = jnp.zeros((N, 5, H)), jnp.zeros((N, 5, H))
    for t in range(T):
        i, f, g, o = jnp.split(ops.conv(x[:, t], w["w_x"]) + ops.conv(h, w["w_h"]) + w["b"].reshape(1, 1, -1), 4, -1)
        live = (t < lengths)[:, None, None]
        c = jnp.where(live, jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g), c)
        h = jnp.where(live, jax.nn.sigmoid(o) * jnp.tanh(c), h)
    y, carry = ops.conv_lstm(x, None, **w, lengths=lengths)
    assert_close(carry[0], h)
    assert_close(carry[1], c)
    assert not np.asarray(y)[1, 2:].any()
    check_grads(lambda x, w: ops.conv_lstm(x, None, **w, lengths=lengths)[0], (x, w), order=1, atol=1e-6, rtol=1e-6)


ONES = partial(np.ones, dtype=np.float32)
ERRORS = {
    "rank": (
        lambda: ops.rnn(ONES((2, 3)), None, ONES((3, 2)), ONES((2, 2))),
        "rnn: expected x of shape [n, t, d], got float32[2, 3].",
    ),
    "sizes": (
        lambda: ops.lstm(ONES((2, 3, 4)), None, ONES((4, 8)), ONES((3, 8))),
        "lstm: expected w_x [4, 4 h], w_h [h, 4 h] and b [4 h], got (float32[4, 8], float32[3, 8], None).",
    ),
    "carry": (
        lambda: ops.gru(ONES((2, 3, 4)), ONES((1, 2)), ONES((4, 6)), ONES((2, 6))),
        "gru: expected a carry of shape [2, 2], got float32[1, 2]. Nothing is broadcast.",
    ),
    "lengths": (
        lambda: ops.rnn(ONES((2, 3, 4)), None, ONES((4, 2)), ONES((2, 2)), lengths=np.ones(3, np.int32)),
        "rnn: expected lengths of shape [2], one for each sequence, got int32[3].",
    ),
    "peephole": (
        lambda: ops.lstm(ONES((2, 3, 4)), None, ONES((4, 8)), ONES((2, 8)), peephole=ONES((2, 3))),
        "lstm: expected peephole of shape [3, 2], got float32[2, 3]. Nothing is broadcast.",
    ),
    "conv_lstm": (
        lambda: ops.conv_lstm(ONES((1, 2, 4, 3)), None, ONES((3, 3, 3, 8)), ONES((3, 3, 2, 8))),
        "conv_lstm: expected w_x and w_h with 1 kernel axes, of 1 to 3, got "
        "(float32[3, 3, 3, 8], float32[3, 3, 2, 8]).",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, text = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        wrong()
    assert str(caught.value) == text


def test_lengths_must_be_whole_numbers():
    with pytest.raises(TypeError, match="lengths to be an array of integers"):
        ops.rnn(ONES((2, 3, 4)), None, ONES((4, 2)), ONES((2, 2)), lengths=ONES(2))
