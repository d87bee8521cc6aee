"""ops.conv against loops in float64, and its derivatives, batching and sharding against those of lax."""

import re
import subprocess
import sys
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only
from jax import lax
from jax.test_util import check_grads

from jaxnn import ops

# x, w, what follows them
CASES = {
    "1-d": ((2, 7, 1), (3, 1, 1), {}),
    "1-d even kernel": ((2, 7, 3), (4, 3, 2), {}),
    "1-d same, stride": ((2, 8, 2), (3, 2, 4), {"stride": 2}),
    "1-d same, stride beyond the kernel": ((2, 8, 2), (2, 2, 3), {"stride": 3}),
    "1-d valid, remainder": ((1, 9, 2), (3, 2, 2), {"stride": 4, "padding": "valid"}),
    "1-d dilation": ((2, 9, 2), (3, 2, 2), {"dilation": 3}),
    "1-d asymmetric": ((2, 6, 2), (3, 2, 2), {"padding": [(3, 0)]}),
    "1-d groups": ((2, 6, 4), (3, 2, 6), {"groups": 2}),
    "1-d kernel of x": ((2, 5, 2), (5, 2, 3), {"padding": "valid"}),
    "1-d padding beyond the kernel": ((1, 3, 1), (2, 1, 2), {"padding": 4, "stride": 3}),
    "2-d": ((2, 5, 6, 1), (3, 3, 1, 1), {}),
    "2-d same, uneven": ((2, 5, 6, 3), (2, 3, 3, 4), {"stride": (2, 3)}),
    "2-d valid": ((2, 6, 5, 2), (3, 2, 2, 3), {"padding": "valid", "stride": 2}),
    "2-d number": ((1, 5, 5, 2), (3, 3, 2, 3), {"padding": 1, "stride": 2, "dilation": (1, 2)}),
    "2-d everything": (
        (2, 9, 8, 4),
        (3, 2, 2, 6),
        {"stride": (2, 3), "padding": [(0, 2), 1], "dilation": (2, 3), "groups": 2},
    ),
    "2-d everything, one group": (
        (2, 9, 8, 3),
        (3, 2, 3, 2),
        {"stride": (2, 3), "padding": [(0, 2), 1], "dilation": (2, 3)},
    ),
    "2-d depthwise": ((1, 5, 5, 3), (3, 3, 1, 6), {"groups": 3}),
    "2-d 1 by 1": ((2, 4, 4, 3), (1, 1, 3, 5), {"stride": 2}),
    "3-d": ((2, 4, 5, 3, 2), (2, 3, 3, 2, 2), {"stride": (1, 2, 1)}),
    "3-d explicit": ((1, 4, 5, 3, 2), (2, 2, 2, 2, 3), {"padding": [0, (1, 0), (0, 2)], "dilation": 2}),
    "empty batch": ((0, 5, 5, 2), (3, 3, 2, 3), {"stride": 2}),
}
DIFFERENTIATED = ["1-d same, stride beyond the kernel", "1-d padding beyond the kernel", "2-d everything, one group"]
ONCE_DIFFERENTIATED = [*DIFFERENTIATED, "1-d same, stride", "1-d valid, remainder", "2-d everything", "3-d explicit"]
ONCE_DIFFERENTIATED += ["empty batch"]
BATCHED = ["1-d valid, remainder", "2-d everything, one group"]


def operands(case, dtype=jnp.float64, members=()):
    x_shape, w_shape, how = CASES[case]
    rng = np.random.default_rng(0)
    draw = partial(rng.standard_normal)
    return jnp.asarray(draw((*members, *x_shape)), dtype), jnp.asarray(draw((*members, *w_shape)), dtype), how


def sides(x_shape, w_shape, stride, padding, dilation):
    """TensorFlow's words for "same": ceil(n / s) outputs, the smaller half of the missing steps in front."""
    rank = len(x_shape) - 2
    if padding == "valid":
        return [(0, 0)] * rank
    if padding != "same":
        each = [padding] * rank if isinstance(padding, int) else padding
        return [(p, p) if isinstance(p, int) else p for p in each]
    out = []
    for n, k, s, d in zip(x_shape[1:-1], w_shape[:-2], stride, dilation, strict=True):
        last = (int(np.ceil(n / s)) - 1) * s + (k - 1) * d
        missing = max(0, last - (n - 1))
        out.append((int(np.floor(missing / 2)), int(np.ceil(missing / 2))))
    return out


def explicit(x_shape, w_shape, stride=1, padding="same", dilation=1, groups=1):
    rank = len(x_shape) - 2
    stride, dilation = ((v,) * rank if isinstance(v, int) else v for v in (stride, dilation))
    return stride, sides(x_shape, w_shape, stride, padding, dilation), dilation, groups


def by_loops(x, w, **how):
    """y[n, i, f] = Σ_k Σ_c x[n, i s + k d - before, g C + c] w[k, c, f], f in group g; x is 0 outside."""
    stride, pads, dilation, groups = explicit(x.shape, w.shape, **how)
    *kernel_size, channels, features = w.shape
    out = [
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip(x.shape[1:-1], pads, kernel_size, dilation, stride, strict=True)
    ]
    y = np.zeros((x.shape[0], *out, features))
    for i in product(*map(range, out)):
        for k in product(*map(range, kernel_size)):
            at = [a * s + b * d - p[0] for a, b, s, d, p in zip(i, k, stride, dilation, pads, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:-1], strict=True)):
                for f in range(features):
                    group = f // (features // groups)
                    seen = x[:, *at, group * channels : (group + 1) * channels]
                    y[:, *i, f] += (seen * w[*k, :, f]).sum(axis=-1)
    return y


def by_lax(x, w, **how):
    stride, pads, dilation, groups = explicit(x.shape, w.shape, **how)
    space = "DHW"[: len(stride)]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    return lax.conv_general_dilated(x, w, stride, pads, None, dilation, numbers, groups)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_value_is_the_sum_written_out(case):
    x, w, how = operands(case)
    want = by_loops(np.asarray(x), np.asarray(w), **how)
    assert_close(ops.conv(x, w, **how), want)
    assert_close(jax.jit(partial(ops.conv, **how))(x, w), want)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("case", ["1-d groups", "2-d everything, one group", "3-d"])
def test_narrow_dtypes(case, dtype):
    x, w, how = operands(case, dtype)
    y = ops.conv(x, w, **how)
    assert y.dtype == dtype
    assert_close(y, by_loops(np.asarray(x, np.float64), np.asarray(w, np.float64), **how))
    dx, dw = jax.grad(lambda x, w: ops.conv(x, w, **how).astype(jnp.float32).sum(), (0, 1))(x, w)
    assert (dx.dtype, dw.dtype) == (dtype, dtype)


def test_same_keeps_the_size_and_strides_divide_it_upwards():
    sizes = {
        (n, s): ops.conv(jnp.ones((1, n, 1)), jnp.ones((3, 1, 1)), stride=s).shape[1] for n in (7, 8) for s in (1, 2, 3)
    }
    assert sizes == {(7, 1): 7, (7, 2): 4, (7, 3): 3, (8, 1): 8, (8, 2): 4, (8, 3): 3}


def test_an_x_of_numpy_is_taken_in_the_dtype_that_jax_gives_it():
    x, w = np.ones((1, 3, 1)), np.ones((2, 1, 1))
    y = ops.conv(x, w, padding="valid")
    assert (y.dtype, y.tolist()) == (jnp.float32, [[[2.0], [2.0]]])


# How a derivative is taken -> f, x, w, dx, dw, dy -> arrays
DERIVATIVES = {
    "jvp": lambda f, x, w, dx, dw, dy: jax.jvp(f, (x, w), (dx, dw)),
    "jvp of w alone": lambda f, x, w, dx, dw, dy: jax.jvp(partial(f, x), (w,), (dw,)),
    "vjp": lambda f, x, w, dx, dw, dy: jax.vjp(f, x, w)[1](dy),
    "forward over reverse": lambda f, x, w, dx, dw, dy: jax.jvp(
        lambda x, w, dy: jax.vjp(f, x, w)[1](dy), (x, w, dy), (dx, dw, dy)
    ),
    "reverse over reverse": lambda f, x, w, dx, dw, dy: jax.vjp(lambda x, w, dy: jax.vjp(f, x, w)[1](dy), x, w, dy)[1](
        (dx, dw)
    ),
    "reverse over forward": lambda f, x, w, dx, dw, dy: jax.vjp(lambda x, w: jax.jvp(f, (x, w), (dx, dw))[1], x, w)[1](
        dy
    ),
    "third order": lambda f, x, w, dx, dw, dy: jax.jvp(
        lambda x, w: jax.vjp(lambda x, w, dy: jax.vjp(f, x, w)[1](dy), x, w, dy)[1]((x, w)), (x, w), (dx, dw)
    )[1],
    "linearize": lambda f, x, w, dx, dw, dy: jax.linearize(f, x, w)[1](dx, dw),
    "transpose in x": lambda f, x, w, dx, dw, dy: jax.linear_transpose(lambda x: f(x, w), x)(dy),
    "transpose in w": lambda f, x, w, dx, dw, dy: jax.linear_transpose(lambda w: f(x, w), w)(dy),
    "remat": lambda f, x, w, dx, dw, dy: jax.vjp(jax.checkpoint(f), x, w)[1](dy),
}


@pytest.mark.parametrize(
    ("case", "derivative"),
    [*product(DIFFERENTIATED, DERIVATIVES), *product(ONCE_DIFFERENTIATED[3:], ["reverse over reverse"])],
)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_derivatives_are_those_of_lax(case, derivative):
    x, w, how = operands(case)
    ours, theirs = partial(ops.conv, **how), partial(by_lax, **how)
    rng = np.random.default_rng(1)
    dx, dw, dy = (jnp.asarray(rng.standard_normal(v.shape)) for v in (x, w, theirs(x, w)))
    got, want = (
        jax.tree.leaves(jax.jit(partial(DERIVATIVES[derivative], f))(x, w, dx, dw, dy)) for f in (ours, theirs)
    )
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("case", ["1-d same, stride", "2-d everything, one group"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_derivatives_are_differences(case):
    x, w, how = operands(case)
    check_grads(jax.jit(partial(ops.conv, **how)), (x, w), order=2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("members", [3, 20])
@pytest.mark.parametrize("case", BATCHED)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_vmap_is_one_by_one(case, members, axes):
    x, w, how = operands(case, members=(members,))
    x, w = (v if axis == 0 else v[0] for v, axis in zip((x, w), axes, strict=True))
    rng = np.random.default_rng(1)
    one = partial(ops.conv, **how)
    shape = jax.eval_shape(jax.vmap(one, axes), x, w).shape
    dy = jnp.asarray(rng.standard_normal(shape))

    def with_gradients(f, x, w, dy):
        y, pull = jax.vjp(f, x, w)
        return y, *pull(dy)

    got = jax.jit(jax.vmap(partial(with_gradients, one), (*axes, 0)))(x, w, dy)
    theirs = jax.jit(partial(with_gradients, partial(by_lax, **how)))
    each = [theirs(x[i] if axes[0] == 0 else x, w[i] if axes[1] == 0 else w, dy[i]) for i in range(members)]
    for a, b in zip(got, zip(*each, strict=True), strict=True):
        assert_close(a, np.stack(b))
    outside = jax.jit(partial(with_gradients, jax.vmap(one, axes)))(x, w, dy)  # summed where an operand is shared
    for a, b, axis in zip(outside[1:], got[1:], axes, strict=True):
        assert_close(a, b if axis == 0 else b.sum(axis=0))


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_vmap_in_any_axis_and_nested():
    x, w, how = operands("2-d everything, one group", members=(2, 3))
    f = partial(ops.conv, **how)
    want = np.stack([[by_loops(np.asarray(x[i, j]), np.asarray(w[i, j]), **how) for j in range(3)] for i in range(2)])
    assert_close(jax.vmap(jax.vmap(f))(x, w), want)
    crossed = jax.vmap(jax.vmap(f, (None, 0)), (0, None))(x[:, 0], w[0])
    for i, j in product(range(2), range(3)):
        assert_close(crossed[i, j], f(x[i, 0], w[0, j]))
    moved = jax.vmap(f, (2, 4), 3)(jnp.moveaxis(x[0], 0, 2), jnp.moveaxis(w[0], 0, 4))
    assert_close(jnp.moveaxis(moved, 3, 0), want[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_per_example_and_their_hessian_products():
    x, w, how = operands("2-d same, uneven")
    loss = lambda f: lambda w, x: jnp.sum(jnp.tanh(f(x[None], w, **how)))  # noqa: E731
    per_example = [jax.jit(jax.vmap(jax.grad(loss(f)), (None, 0)))(w, x) for f in (ops.conv, by_lax)]
    assert per_example[0].shape == (2, *w.shape)
    assert_close(*per_example)
    product_ = [jax.jvp(jax.grad(lambda w, f=f: loss(f)(w, x[0])), (w,), (w + 1,))[1] for f in (ops.conv, by_lax)]
    assert_close(*product_)


@pytest.mark.usefixtures("x64")
def test_inside_a_scan_with_its_gradient():
    x, w, _ = operands("2-d 1 by 1")
    w = jnp.asarray(np.random.default_rng(2).standard_normal((3, 3, 3, 3)) / 9)

    def run(f, w, x):
        return jnp.sum(lax.scan(lambda x, _: (jnp.tanh(f(x, w)), None), x, length=4)[0])

    for a, b in zip(*(jax.jit(jax.grad(partial(run, f), (0, 1)))(w, x) for f in (ops.conv, by_lax)), strict=True):
        assert_close(a, b)


def test_a_program_is_compiled_once_also_outside_jit(caplog):
    x, w = jnp.ones((1, 11, 1)), jnp.ones((3, 1, 1))
    ops.conv(x, w, stride=2)
    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        ops.conv(x, w, stride=2)
    assert not [r for r in caplog.records if "ompil" in r.getMessage()]


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import PartitionSpec as P
from jaxnn import ops
import jaxnn as nn

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
rng = np.random.default_rng(0)
x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((16, 6, 5, 2), (3, 3, 2, 4)))
loss = lambda w, x: jnp.sum(jnp.square(ops.conv(x, w, stride=2)))
want_w, want_x = jax.grad(loss, (0, 1))(w, x)

y = jax.jit(jax.shard_map(partial(ops.conv, stride=2), mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data")))(x, w)
np.testing.assert_allclose(y, ops.conv(x, w, stride=2), rtol=1e-5, atol=1e-5)
last = P(None, None, None, "data")
features = jax.shard_map(ops.conv, mesh=mesh, in_specs=(P(), last), out_specs=last)
wide = jnp.concatenate([w, -w], axis=-1)
np.testing.assert_allclose(jax.jit(features)(x, wide), ops.conv(x, wide), rtol=1e-5, atol=1e-5)

outer = lambda check: jax.shard_map(
    lambda w, x: jax.lax.psum(loss(w, x), "data"), mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check
)
for check in (True, False):
    got_w, got_x = jax.jit(jax.grad(outer(check), (0, 1)))(w, x)
    np.testing.assert_allclose(got_w, want_w, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got_x, want_x, rtol=1e-4, atol=1e-4)

inner = jax.shard_map(jax.grad(loss, (0, 1)), mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P("data")))
for got, want in zip(jax.jit(inner)(w, x), (want_w, want_x)):  # w does not vary, so its gradient is summed
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
own = jax.shard_map(
    lambda w, x: jax.lax.psum(jax.grad(loss)(w, x), "data"),
    mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False,
)
np.testing.assert_allclose(jax.jit(own)(w, x), want_w, rtol=1e-4, atol=1e-4)

drop = lambda key, x: nn.dropout(0.5).apply({}, {}, x, key=key, train=True)[0]
ones, key = jnp.ones((8, 512)), jax.random.key(0)
for check in (True, False):
    sharded = jax.shard_map(drop, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=check)
    masks = np.asarray(jax.jit(sharded)(key, ones)) > 0
    assert len({m.tobytes() for m in masks}) == 8
    assert 0.45 < masks.mean() < 0.55
    assert np.array_equal(masks, np.asarray(jax.jit(sharded)(key, ones)) > 0)
print("sharded", len(jax.devices()))
"""


@pytest.mark.slow
def test_under_shard_map_a_shared_w_gets_the_summed_gradient_and_each_shard_its_own_dropout_mask():
    setup = 'import jax; jax.config.update("jax_num_cpu_devices", 8); jax.config.update("jax_platforms", "cpu")\n'
    strict = 'jax.config.update("jax_numpy_dtype_promotion", "strict")\n'
    ran = subprocess.run([sys.executable, "-c", setup + strict + SHARDED], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, "sharded 8\n"), ran.stderr


ERRORS = {
    "w of rank 2": (
        lambda: ops.conv(np.zeros((1, 5, 2)), np.zeros((3, 2))),
        ValueError,
        "conv: expected w of shape [*kernel_size, c / groups, features] with 1 to 3 kernel axes, got float64[3, 2].",
    ),
    "w of four space axes": (
        lambda: ops.conv(np.zeros((1, 5, 2)), np.zeros((1, 1, 1, 1, 2, 2), np.float32)),
        ValueError,
        "conv: expected w of shape [*kernel_size, c / groups, features] with 1 to 3 kernel axes, "
        "got float32[1, 1, 1, 1, 2, 2].",
    ),
    "w a list": (
        lambda: ops.conv(np.zeros((1, 5, 2)), [1.0]),
        ValueError,
        "conv: expected w of shape [*kernel_size, c / groups, features] with 1 to 3 kernel axes, got [1.0].",
    ),
    "x a list": (
        lambda: ops.conv([1.0], np.zeros((3, 2, 4))),
        TypeError,
        "conv: expected x to be an array of shape [n, h, c], got [1.0]. Convert it: np.asarray(x, np.float32).",
    ),
    "x of integers": (
        lambda: ops.conv(np.zeros((1, 5, 5, 2), np.uint8), np.zeros((3, 3, 2, 4))),
        TypeError,
        "conv: expected x of shape [n, h, w, c] and a floating dtype, got uint8[1, 5, 5, 2]. "
        "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes.",
    ),
    "x without a batch": (
        lambda: ops.conv(np.zeros((5, 5, 5, 2), np.float32), np.zeros((3, 3, 3, 2, 4))),
        ValueError,
        "conv: expected x of shape [n, h, w, d, c], got float32[5, 5, 5, 2].",
    ),
    "dtypes": (
        lambda: ops.conv(np.zeros((1, 5, 2), np.float16), np.zeros((3, 2, 4), np.float32)),
        TypeError,
        "conv: expected w of x's dtype float16, got float32[3, 2, 4]. Cast one of them.",
    ),
    "channels": (
        lambda: ops.conv(np.zeros((1, 5, 3), np.float32), np.zeros((3, 2, 4), np.float32)),
        ValueError,
        "conv: expected c / groups = 2 channels for w, and features in 1 equal groups, "
        "got (float32[1, 5, 3], float32[3, 2, 4]).",
    ),
    "groups": (
        lambda: ops.conv(np.zeros((1, 5, 4), np.float32), np.zeros((3, 2, 5), np.float32), groups=2),
        ValueError,
        "conv: expected c / groups = 2 channels for w, and features in 2 equal groups, "
        "got (float32[1, 5, 4], float32[3, 2, 5]).",
    ),
    "too short": (
        lambda: ops.conv(np.zeros((1, 4, 2)), np.zeros((3, 2, 4)), padding="valid", dilation=2),
        ValueError,
        "conv: expected a kernel_size that fits in x, 5 steps long, got 4 steps, padding included. "
        "Use padding='same', a smaller kernel_size or a smaller dilation.",
    ),
}
# several numbers at once; one number that is wrong is a row of tests/conformance/test_errors.py
WRONG = {
    "stride": [(1, 2, 3), (1, 0), [1, 1.0]],
    "dilation": [(1,)],
    "padding": [(1, 2, 3), [(1, 2), (1,)], [(0, 1), (0, -1)], ["a", "b"]],
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    wrong, kind, text = ERRORS[case]
    with pytest.raises(kind) as caught:
        wrong()
    assert str(caught.value) == text


@pytest.mark.parametrize(("argument", "value"), [(a, v) for a, values in WRONG.items() for v in values])
def test_several_numbers_that_do_not_fit(argument, value):
    expected = {
        "padding": "padding to be 'same', 'valid', an integer >= 0, or 2 of them or of pairs",
    }.get(argument, f"{argument} to be an integer >= 1, or 2 of them")
    with pytest.raises(TypeError if value in ([1, 1.0], ["a", "b"]) else ValueError) as caught:
        ops.conv(jnp.zeros((1, 5, 5, 1)), jnp.zeros((2, 2, 1, 1)), **{argument: value})
    fix = " x is [n, *space, c] with 2 space axes; images of one channel need its axis, x[..., None]."
    more = argument != "padding" and value == (1, 2, 3)
    assert str(caught.value) == f"conv: expected {expected}, got {value!r}.{fix * more}"


# What is handed to each platform's compiler.


def lowered(f, platform, *arrays):
    return jax.jit(jax.grad(lambda *a: (f(*a) ** 2).sum(), (0, 1))).trace(*arrays).lower(lowering_platforms=(platform,))


def convolutions(text):
    """The convolutions of a program, without the names of values, sorted; and how many transposes are around them."""
    lines = [re.sub(r"%[\w#]+", "%", line).strip() for line in text.splitlines() if "stablehlo.convolution" in line]
    return sorted(lines), text.count("stablehlo.transpose")


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("how", [{}, {"stride": 2}, {"dilation": 2, "padding": "valid"}, {"groups": 2}], ids=str)
def test_elsewhere_than_on_a_cpu_the_gradients_are_laxs_own(how, platform):
    x, w = jnp.ones((4, 9, 9, 4)), jnp.ones((3, 3, 4 // how.get("groups", 1), 8))
    got = lowered(lambda x, w: ops.conv(x, w, **how), platform, x, w).as_text()
    want = lowered(lambda x, w: by_lax(x, w, **how), platform, x, w).as_text()
    assert convolutions(got) == convolutions(want)
    assert len(convolutions(got)[0]) == 3


def test_on_a_cpu_every_convolution_is_in_canonical_order():
    x, w = jnp.ones((4, 9, 9, 4)), jnp.ones((3, 3, 4, 8))
    lines, _ = convolutions(lowered(ops.conv, "cpu", x, w).as_text())
    assert len(lines) == 3
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in lines)


def test_depthwise_elsewhere_than_on_a_cpu_is_one_grouped_convolution():
    x, w = jnp.ones((4, 9, 9, 4)), jnp.ones((3, 3, 4, 1))
    program = jax.jit(ops.depthwise_conv).trace(x, w)
    assert len(convolutions(program.lower(lowering_platforms=("tpu",)).as_text())[0]) == 1
    assert not convolutions(program.lower(lowering_platforms=("cpu",)).as_text())[0]


@pytest.mark.parametrize("groups", [2, 3, 18])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_groups_in_value_and_gradients_under_scan_and_vmap(groups):
    """18 groups are more than are taken one by one."""
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.standard_normal((2, 5, 4, 2 * groups))), jnp.asarray(rng.standard_normal((3, 2, 2, groups)))
    f = partial(ops.conv, groups=groups, stride=(2, 1))
    g = partial(by_lax, groups=groups, stride=(2, 1))
    assert_close(f(x, w), g(x, w))
    check_grads(f, (x, w), order=2, atol=1e-6, rtol=1e-6)
    want = jax.grad(lambda x, w: jnp.sin(g(x, w)).sum(), (0, 1))(x, w)
    _, got = jax.lax.scan(
        lambda c, _: (c, jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))(x, w)), 0, None, length=1
    )
    jax.tree.map(lambda a, b: assert_close(a[0], b), got, want)
    xs, ws = jnp.stack([x, 2 * x]), jnp.stack([w, w / 2])
    for axes in [(0, 0), (0, None), (None, 0)]:
        pairs = [(xs[i] if axes[0] == 0 else x, ws[i] if axes[1] == 0 else w) for i in range(2)]
        members = (xs if axes[0] == 0 else x, ws if axes[1] == 0 else w)
        assert_close(jax.vmap(f, axes)(*members), jnp.stack([g(*pair) for pair in pairs]))
        slopes = jax.grad(lambda x, w: jnp.sin(g(x, w)).sum(), (0, 1))
        got = jax.vmap(jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1)), axes)(*members)
        jax.tree.map(assert_close, got, jax.tree.map(lambda *v: jnp.stack(v), *(slopes(*pair) for pair in pairs)))


# Convolutions of few channels, and to few features, of results or inputs that a CPU computes in forms of their own
FEW = {
    "1 channel": ((2, 64, 64, 1), (3, 3, 1, 16), {}),
    "3 channels, stride": ((4, 64, 50, 3), (3, 2, 3, 12), {"stride": (2, 1)}),
    "4 channels, dilation, valid": ((4, 40, 40, 4), (3, 3, 4, 16), {"dilation": (2, 3), "padding": "valid"}),
    "1 channel over time": ((8, 1024, 1), (5, 1, 9), {"padding": [(4, 0)]}),
    "1 channel in space": ((2, 16, 16, 16, 1), (3, 3, 3, 1, 8), {}),
    "1 feature": ((2, 64, 64, 16), (3, 3, 16, 1), {}),
    "3 features, dilation": ((2, 40, 60, 17), (3, 3, 17, 3), {"dilation": (1, 4), "padding": [(0, 2), 3]}),
    "2 features over time": ((5, 1024, 16), (7, 16, 2), {"padding": "valid"}),
    "4 features in space": ((1, 16, 16, 16, 16), (2, 2, 2, 16, 4), {}),
}


@pytest.mark.parametrize("case", only(("3 channels, stride", "3 features, dilation"), FEW))
def test_few_channels_or_features_are_sums(case):
    x_shape, w_shape, how = FEW[case]
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (x_shape, w_shape))
    assert "stablehlo.convolution" not in jax.jit(partial(ops.conv, **how)).lower(x, w).as_text()

    def results(conv, x, w):
        y, pull = jax.vjp(partial(conv, **how), x, w)
        members = jax.vmap(partial(conv, **how), (None, 0))(x, jnp.stack([w, -2 * w]))
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape))), members

    got = jax.jit(partial(results, ops.conv))(x, w)
    with jax.enable_x64(True):
        want = jax.jit(partial(results, by_lax))(x.astype(jnp.float64), w.astype(jnp.float64))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.slow
def test_few_channels_or_features_in_other_dtypes():
    with jax.enable_x64(True):
        for x_shape, w_shape in (((2, 64, 64, 1), (3, 3, 1, 16)), ((2, 64, 64, 16), (3, 3, 16, 2))):
            x, w = jnp.ones(x_shape), jnp.full(w_shape, 1 / 3)
            assert ops.conv(x, w).dtype == jnp.float64
            np.testing.assert_allclose(ops.conv(x, w), by_lax(x, w), rtol=1e-14)
            narrow = ops.conv(x.astype(jnp.float32), w.astype(jnp.float32), preferred_element_type=jnp.float64)
            assert narrow.dtype == jnp.float64
            half = ops.conv(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
            assert half.dtype == jnp.bfloat16
