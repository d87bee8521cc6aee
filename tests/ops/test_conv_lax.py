"""ops.conv as a citizen of JAX: on an accelerator its program is that of lax.conv_general_dilated, to the letter."""

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
from jax import export, lax
from jax.experimental import checkify
from jax.experimental.jet import jet

import jaxnn as nn
from jaxnn import ops


def by_lax(x, w, *, stride=1, padding="same", dilation=1, groups=1, **how):
    rank = x.ndim - 2
    space = "DHW"[3 - rank :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    each = [(padding, padding)] * rank if isinstance(padding, int) else padding.upper()
    return lax.conv_general_dilated(
        x, w, (stride,) * rank, each, None, (dilation,) * rank, numbers, feature_group_count=groups, **how
    )


def depthwise_by_lax(x, w, **how):
    *kernel_size, c, m = w.shape
    return by_lax(x, w.reshape(*kernel_size, 1, c * m), groups=c, **how)


def texts(f, *args, platforms=("tpu",)):
    """The program for each platform without the names of functions."""
    traced = jax.jit(f).trace(*args)
    lowered = (traced.lower(lowering_platforms=(platform,)) for platform in platforms)
    return [re.sub(r"@[\w.]+", "@", program.as_text()) for program in lowered]


def loss(conv, w, x):
    return jnp.sum(jnp.tanh(conv(jnp.tanh(conv(x, w[0])), w[1])))


def stepped(conv, w, x):
    return jax.tree.map(lambda w, g: w - 0.01 * g, w, jax.grad(partial(loss, conv))(w, x))


def total(conv, axes, w, x):
    return jax.vmap(partial(loss, conv), axes)(w, x).sum()


# name -> whether w and x have members, and the program of a train step by a convolution
PROGRAMS = {
    "value and gradients": (False, False, lambda c: jax.value_and_grad(partial(loss, c), (0, 1))),
    "vmap of grad, both": (True, True, lambda c: jax.vmap(jax.grad(partial(loss, c), (0, 1)))),
    "vmap of grad, w": (True, False, lambda c: jax.vmap(jax.grad(partial(loss, c), (0, 1)), (0, None))),
    "vmap of grad, x": (False, True, lambda c: jax.vmap(jax.grad(partial(loss, c), (0, 1)), (None, 0))),
    "grad of vmap, both": (True, True, lambda c: jax.grad(partial(total, c, (0, 0)), (0, 1))),
    "grad of vmap, w": (True, False, lambda c: jax.grad(partial(total, c, (0, None)), (0, 1))),
    "grad of vmap, x": (False, True, lambda c: jax.grad(partial(total, c, (None, 0)), (0, 1))),
    "jvp of grad": (False, False, lambda c: lambda w, x: jax.jvp(jax.grad(partial(loss, c)), (w, x), (w, x))),
    "scan": (
        False,
        False,
        lambda c: lambda w, x: lax.scan(lambda w, _: (stepped(c, w, x), None), w, None, length=3)[0],
    ),
    "vmap of scan": (
        True,
        True,
        lambda c: jax.vmap(lambda w, x: lax.scan(lambda w, _: (stepped(c, w, x), None), w, None, length=3)[0]),
    ),
    "remat": (
        False,
        False,
        lambda c: jax.grad(jax.checkpoint(partial(loss, c), policy=jax.checkpoint_policies.dots_saveable), (0, 1)),
    ),
}
FORMS = {
    "plain": {},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2, "padding": "valid"},
    "padding": {"padding": 2, "stride": 2},
    "groups": {"groups": 2},
    "precision": {"precision": "highest"},
}


def operands(rank, groups=1, w_members=False, x_members=False, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    draw = lambda lead, shape: jnp.asarray(rng.standard_normal((*lead, *shape)) / 4, dtype)  # noqa: E731
    lead = (3,) if w_members else ()
    w = [draw(lead, (*(3,) * rank, c // groups, f)) for c, f in ((4, 6), (6, 4))]
    return w, draw((3,) if x_members else (), (2, *(13, 12, 11)[:rank], 4))


@pytest.mark.parametrize(
    ("program", "form", "rank"),
    [
        *product(PROGRAMS, FORMS, [2]),
        *product(["value and gradients", "vmap of grad, both"], ["plain", "stride"], [1, 3]),
    ],
)
@pytest.mark.slow
def test_the_program_for_an_accelerator_is_that_of_lax(program, form, rank):
    w_members, x_members, make = PROGRAMS[program]
    how = FORMS[form]
    args = operands(rank, how.get("groups", 1), w_members, x_members)
    got, want = (texts(make(partial(f, **how)), *args, platforms=("tpu", "cuda")) for f in (ops.conv, by_lax))
    assert all("stablehlo.convolution" in text for text in want)
    assert got == want


@pytest.mark.parametrize("program", [p for p in PROGRAMS if "scan" not in p])
def test_the_program_of_a_depthwise_one_too(program):
    w_members, x_members, make = PROGRAMS[program]
    _, x = operands(2, 1, w_members, x_members)
    w = [jnp.ones((*((3,) if w_members else ()), 3, 3, 4, 1))] * 2
    got, want = (texts(make(f), w, x) for f in (ops.depthwise_conv, depthwise_by_lax))
    assert got == want


def test_the_program_of_a_transposed_one_is_lax_conv_transposes():
    x, w = jnp.ones((2, 5, 6, 4)), jnp.ones((3, 3, 8, 4))

    def theirs(x, w):
        w = lax.rev(w, (0, 1))
        pads = [(2, 1), (2, 1)]
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, jnp.swapaxes(w, 2, 3), (1, 1), pads, (2, 2), (1, 1), numbers)

    ours = partial(ops.conv_transpose, stride=2)
    assert_close(ours(x, w), lax.conv_transpose(x, w, (2, 2), "SAME", transpose_kernel=True))
    step = lambda conv: jax.grad(lambda *a: jnp.sin(conv(*a)).sum(), (0, 1))  # noqa: E731
    got, want = (texts(step(f), x, w) for f in (ours, theirs))
    assert got == want


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("form", ["stride", "groups"])
@pytest.mark.slow
def test_values_on_a_cpu_are_laxs(program, form):
    w_members, x_members, make = PROGRAMS[program]
    how = FORMS[form]
    args = operands(2, how.get("groups", 1), w_members, x_members)
    got, want = (jax.jit(make(partial(f, **how)))(*args) for f in (ops.conv, by_lax))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), got, want)


@pytest.mark.parametrize(
    ("n", "dtype", "parts"), [(64, "float32", 8), (72, "float32", 9), (68, "float32", 1), (64, "bfloat16", 1)]
)
def test_a_gradient_with_a_long_sum_is_a_sum_over_parts_of_the_batch(n, dtype, parts):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((n, 15, 14, 2), (3, 3, 2, 4)))

    def slope(conv):
        return jax.jit(jax.grad(lambda w: jnp.sum(jnp.sin(conv(x, w)))))

    assert slope(ops.conv).lower(w).as_text().count("stablehlo.convolution") == 1 + parts
    assert_close(slope(ops.conv)(w), slope(by_lax)(w), scale=30.0)


# kernel size, stride, space, padding
NO_LARGER_THAN_ITS_STRIDE = [
    (1, 1, (3, 4), "valid"),
    (1, 2, (5, 4), "same"),
    (1, 3, (1, 7), "valid"),
    (2, 2, (6, 4), "valid"),
    (2, 2, (5, 7), "valid"),
    (2, 2, (5, 7), "same"),
    (2, 3, (7, 8), "valid"),
    ((2, 1), (2, 3), (4, 6), "valid"),
    (3, 4, (11,), "same"),
    (2, 2, (2, 4, 3), "valid"),
]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel_size", "stride", "space", "padding"), NO_LARGER_THAN_ITS_STRIDE)
@pytest.mark.usefixtures("x64")
def test_gradients_of_a_kernel_no_larger_than_its_stride_are_products(kernel_size, stride, space, padding, transposed):
    rng, rank = np.random.default_rng(0), len(space)
    sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * rank
    conv = partial(ops.conv_transpose if transposed else ops.conv, stride=stride, padding=padding)
    x, dx = (jnp.asarray(rng.standard_normal((2, *space, 3))) for _ in range(2))
    w, dw = (jnp.asarray(rng.standard_normal((*sizes, *((4, 3) if transposed else (3, 4))))) for _ in range(2))

    def all_orders(x, w):
        def slopes(x, w):
            return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w))), (0, 1))(x, w)

        return conv(x, w), slopes(x, w), jax.jvp(slopes, (x, w), (dx, dw))[1]

    got = jax.jit(all_orders)(x, w)
    with nn.compiler.plain_forms():
        jax.tree.map(assert_close, got, jax.jit(lambda x, w: all_orders(x, w))(x, w))
    if not transposed or kernel_size == stride:
        backward = jax.jit(lambda x, w, dy: jax.vjp(conv, x, w)[1](dy)).lower(x, w, got[0]).as_text()
        assert "stablehlo.convolution" not in backward


def test_members_are_laid_out_one_by_one_in_the_program_of_a_cpu_alone():
    w, x = operands(2, 1, True, True)
    f = jax.vmap(ops.conv)
    platforms = ("cpu", "tpu", "cuda")
    programs = zip(platforms, texts(f, x, w[0], platforms=platforms), strict=True)
    count = {platform: program.count("stablehlo.convolution") for platform, program in programs}
    assert count == {"cpu": 3, "tpu": 1, "cuda": 1}


@pytest.mark.parametrize("precision", ["highest", "high", "default", "BF16_BF16_F32"])
def test_the_precision_in_force_when_traced_is_kept_and_none_leaks_in_later(precision):
    (w, _), x = operands(2)

    def under(conv):
        def f(x, w):
            with jax.default_matmul_precision(precision):
                return jnp.square(conv(x, w)).sum()

        return jax.grad(f, (0, 1))

    assert texts(under(ops.conv), x, w) == texts(under(by_lax), x, w)
    traced = jax.jit(ops.conv).trace(x, w)
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" not in traced.lower(lowering_platforms=("tpu",)).as_text()


LAYERS = {
    "conv": lambda p: nn.conv(4, 3, precision=p),
    "conv_transpose": lambda p: nn.conv_transpose(4, 3, stride=2, precision=p),
    "depthwise_conv": lambda p: nn.depthwise_conv(3, precision=p),
    "separable_conv": lambda p: nn.separable_conv(4, 3, precision=p),
    "conv_lstm": lambda p: nn.conv_lstm(4, 3, precision=p),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.slow
def test_layers_hand_their_precision_to_every_product(name):
    x = jnp.ones((1, 2, 8, 8, 4) if name == "conv_lstm" else (1, 8, 8, 4))
    for precision, word in (("highest", "HIGHEST"), (None, "DEFAULT")):
        layer = LAYERS[name](precision)
        params, state = layer.init(jax.random.key(0), x)
        f = jax.grad(lambda params, layer=layer, state=state: jnp.sum(layer.apply(params, state, x)[0]))
        lines = [line for line in texts(f, params)[0].splitlines() if "stablehlo.convolution" in line]
        assert lines
        assert all(line.count(word) == 2 for line in lines)


def test_a_preferred_type_is_the_type_of_the_sums_and_of_the_result():
    (w, _), x = operands(2, dtype=jnp.bfloat16)
    wide = ops.conv(x, w, preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32
    assert_close(wide, by_lax(x.astype(jnp.float32), w.astype(jnp.float32)))
    each = w[:, :, 0, :4, None]
    assert ops.depthwise_conv(x, each, preferred_element_type=jnp.float32).dtype == jnp.float32
    assert ops.conv_transpose(x, w[..., :4], preferred_element_type=jnp.float32).dtype == jnp.float32
    f = lambda conv: jax.grad(lambda *a: jnp.sin(conv(*a, preferred_element_type=jnp.float32)).sum(), (0, 1))  # noqa: E731
    assert texts(f(ops.conv), x, w) == texts(f(by_lax), x, w)


def test_disable_jit_jet_and_nan_checks():
    (w, _), x = operands(2)
    with jax.disable_jit():
        assert_close(jax.grad(lambda w: ops.conv(x, w).sum())(w), jax.grad(lambda w: by_lax(x, w).sum())(w))
    series = ((x, w), ([x, 2 * x], [w, -w]))
    for got, want in zip(*(jax.tree.leaves(jet(f, *series)) for f in (ops.conv, by_lax)), strict=True):
        assert_close(got, want)
    checked = checkify.checkify(jax.jit(ops.conv), errors=checkify.float_checks)
    assert checked(x, w)[0].get() is None
    assert "nan generated by primitive: jaxnn_conv" in checked(x.at[0, 0, 0, 0].set(jnp.nan), w)[0].get()
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jax.jit(ops.conv)(x.at[0, 0, 0, 0].set(jnp.nan), w)


@pytest.mark.parametrize(
    ("policy", "count"), [("dots_saveable", 6), ("nothing_saveable", 8), ("everything_saveable", 6)]
)
def test_rematerialization_policies_take_it_for_laxs_convolution(policy, count):
    w, x = operands(2)
    policy = getattr(jax.checkpoint_policies, policy)
    program = jax.make_jaxpr(jax.grad(jax.checkpoint(partial(loss, ops.conv), policy=policy), (0, 1)))(w, x)
    assert str(program).count("jaxnn_conv[") == count


B, H, W = "b", "h", "w"
EXPORTED = {
    "conv": (ops.conv, (3, 3, 4, 6)),
    "conv, same, stride": (partial(ops.conv, stride=2), (3, 3, 4, 6)),
    "conv, valid, stride": (partial(ops.conv, stride=2, padding="valid"), (3, 3, 4, 6)),
    "conv, groups": (partial(ops.conv, groups=2), (3, 3, 2, 6)),
    "conv_transpose": (partial(ops.conv_transpose, stride=2), (3, 3, 6, 4)),
    "conv_transpose, padding": (partial(ops.conv_transpose, stride=2, padding=1), (2, 2, 6, 4)),
    "depthwise_conv": (partial(ops.depthwise_conv, stride=2), (3, 3, 4, 2)),
    "gradients": (jax.grad(lambda x, w: jnp.sin(ops.conv(x, w)).sum(), (0, 1)), (3, 3, 4, 6)),
}


@pytest.mark.parametrize("case", EXPORTED)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_export_with_symbolic_batch_and_space(case):
    f, w_shape = EXPORTED[case]
    b, h, w = export.symbolic_shape("b, h, w", constraints=["h>=2", "w>=2"])
    shapes = jax.ShapeDtypeStruct((b, h, w, 4), jnp.float64), jax.ShapeDtypeStruct(w_shape, jnp.float64)
    exported = export.export(jax.jit(f), platforms=("cpu", "tpu", "cuda"))(*shapes)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.standard_normal(w_shape))
    for shape in ((2, 7, 6, 4), (1, 8, 9, 4)):
        x = jnp.asarray(rng.standard_normal(shape))
        jax.tree.map(assert_close, exported.call(x, weights), f(x, weights))


@pytest.mark.parametrize("op", [ops.conv, partial(ops.conv, stride=2), partial(ops.conv, padding="causal")])
def test_a_sequence_without_steps_stays_one(op):
    x, w = jnp.ones((2, 0, 3)), jnp.ones((3, 3, 4))
    assert op(x, w).shape == (2, 0, 4)
    assert not jax.grad(lambda w: op(x, w).sum())(w).any()


MESH = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxnn import ops

mesh = jax.make_mesh((8,), ("data",))
rng = np.random.default_rng(0)
x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((16, 6, 5, 4), (3, 3, 4, 4)))
FORMS = {
    "conv": (ops.conv, w), "stride": (partial(ops.conv, stride=2), w),
    "groups": (partial(ops.conv, groups=2), w[:, :, :2]),
    "transpose": (partial(ops.conv_transpose, stride=2), w), "depthwise": (ops.depthwise_conv, w[..., :2]),
    "max_pool": (lambda x, w: ops.max_pool(x, 3, stride=2, padding=1) * w.sum(), w),
    "dilated": (lambda x, w: ops.max_pool(x, 2, dilation=2) * w.sum(), w),
    "indices": (lambda x, w: ops.max_pool_with_indices(x, 2)[0] * w.sum(), w),
    "unpool": (lambda x, w: ops.max_unpool(*ops.max_pool_with_indices(x, 2), (6, 5)) * w.sum(), w),
    "avg_pool": (lambda x, w: ops.avg_pool(x, 2, padding=1) * w.sum(), w),
    "lp_pool": (lambda x, w: ops.lp_pool(x, 2) * w.sum(), w),
}
for name, (f, v) in FORMS.items():
    step = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
    want = step(x, v)
    with jax.set_mesh(mesh):
        args = jax.device_put(x, NamedSharding(mesh, P("data"))), jax.device_put(v, NamedSharding(mesh, P()))
        for g in (step, jax.jit(step)):
            got = g(*args)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)
        assert jax.typeof(got[0]).sharding.spec[0] == "data", name
print("explicit", len(jax.devices()))
"""


@pytest.mark.slow
def test_under_an_explicit_mesh_batches_stay_sharded_forward_and_backward():
    setup = 'import jax; jax.config.update("jax_num_cpu_devices", 8); jax.config.update("jax_platforms", "cpu")\n'
    strict = 'jax.config.update("jax_numpy_dtype_promotion", "strict")\n'
    ran = subprocess.run([sys.executable, "-c", setup + strict + MESH], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "explicit 8\n"), ran.stderr
