"""Batch normalisation whose batch is spread over shards by hand, `batch_norm(axis_name=)`; norms without params."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

# The reference is the layer without axis_name on the whole batch; PyTorch's SyncBatchNorm promises the same.
SHARDED = """
from functools import partial
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec as P
import jaxnn as nn

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def close(got, want, dtype):
    unit = 1e-6 if dtype == jnp.float32 else 2.0**-8
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b, unit_of = np.asarray(a, np.float64), np.asarray(b, np.float64), unit if a.dtype == dtype else 1e-6
        np.testing.assert_allclose(a, b, rtol=unit_of, atol=unit_of * np.abs(b).max())


def of(layer, params, state, x, t):
    def loss(params, x):
        y, new = layer.apply(params, state, x, train=True)
        return jnp.sum(y.astype(jnp.float32) * t), (y, new)

    return jax.grad(loss, (0, 1), has_aux=True)(params, x)


rng = np.random.default_rng(0)
for shape in ((16, 5), (16, 3, 4, 5)):
    for dtype in (jnp.float32, jnp.bfloat16):
        drift = 10 * np.arange(16).reshape(-1, *[1] * (len(shape) - 1))  # the shards differ
        x = jnp.asarray(100 + 3 * rng.standard_normal(shape) + drift, dtype)
        t = jnp.asarray(rng.standard_normal(shape), jnp.float32)
        one, many = nn.batch_norm(), nn.batch_norm(axis_name="d")
        params, state = one.init(jax.random.key(0), x)
        params = {"scale": jnp.asarray(1 + rng.random(5), jnp.float32), "bias": params["bias"] + 1}
        want = of(one, params, state, x, t)
        for n in (2, 8):
            mesh = jax.make_mesh((n,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])
            specs = ((P(), P("d")), (P("d"), P()))  # running statistics alike on all shards: else P() is refused
            spread = {"mesh": mesh, "in_specs": (P(), P(), P("d"), P("d")), "out_specs": specs}
            close(jax.jit(jax.shard_map(partial(of, many), **spread))(params, state, x, t), want, dtype)

            def unchecked(*args):
                (of_params, of_x), aux = of(many, *args)
                return (jax.lax.psum(of_params, "d"), of_x), aux

            close(jax.jit(jax.shard_map(unchecked, check_vma=False, **spread))(params, state, x, t), want, dtype)
        mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
        both = nn.batch_norm(axis_name=("a", "b"))
        at = P(("a", "b"))
        f = jax.shard_map(partial(of, both), mesh=mesh, in_specs=(P(), P(), at, at), out_specs=((P(), at), (at, P())))
        close(jax.jit(f)(params, state, x, t), want, dtype)
"""


@pytest.mark.slow
def test_under_shard_map_it_is_the_layer_on_the_whole_batch():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.slow
def test_under_vmap_it_is_the_layer_on_the_whole_batch(shards):
    x = 3 + jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)), jnp.float32)
    t = jnp.asarray(np.random.default_rng(1).standard_normal((8, 3)), jnp.float32)
    one, many = nn.batch_norm(), nn.batch_norm(axis_name="d")
    params, state = one.init(jax.random.key(0), x)

    def loss(layer, params, x, t):
        y, new = layer.apply(params, state, x, train=True)
        return jnp.sum(y * t), (y, new)

    (_, (y, new)), slope = jax.value_and_grad(partial(loss, one), 1, has_aux=True)(params, x, t)
    cut = lambda v: v.reshape(shards, -1, 3)  # noqa: E731
    spread = jax.vmap(jax.value_and_grad(partial(loss, many), 1, has_aux=True), (None, 0, 0), axis_name="d")
    (_, (y_s, new_s)), slope_s = spread(params, cut(x), cut(t))
    np.testing.assert_allclose(y_s.reshape(8, 3), y, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(slope_s.reshape(8, 3), slope, rtol=2e-6, atol=2e-6)
    for name in ("mean", "var"):
        np.testing.assert_allclose(new_s[name], np.broadcast_to(new[name], (shards, 3)), rtol=1e-6)


def test_recalibrated_over_shards_it_has_the_statistics_of_all():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((12, 3)), jnp.float32)
    many = nn.batch_norm(axis_name="d")
    params, state = many.init(jax.random.key(0), x)
    own = jax.vmap(lambda x: nn.recalibrate(many, params, state, x, batch_size=2), axis_name="d")(x.reshape(3, 4, 3))
    for found, want in ((own["mean"], x.mean(0)), (own["var"], x.var(0))):
        np.testing.assert_allclose(found, np.broadcast_to(want, (3, 3)), rtol=1e-5, atol=1e-6)


def test_not_training_it_needs_no_axis():
    layer = nn.batch_norm(axis_name="d")
    params, state = layer.init(jax.random.key(0), jnp.ones((4, 3)))
    assert layer.apply(params, state, jnp.ones((4, 3)))[0].shape == (4, 3)


def test_an_axis_that_nothing_binds():
    model = nn.serial(nn.batch_norm(axis_name="d", name="norm"))
    params, state = model.init(jax.random.key(0), jnp.ones((4, 3)))
    with pytest.raises(ValueError) as caught:
        model.apply(params, state, jnp.ones((4, 3)), train=True)
    assert str(caught.value) == (
        "norm: expected axis_name='d' to be an axis of a jax.shard_map or a jax.vmap(axis_name=) around it, "
        "got no such axis. Leave axis_name out where the batch is not spread by hand: under jit it is the whole one."
    )


@pytest.mark.parametrize(("given", "got"), [(3, "3"), (("d", 0), "('d', 0)"), (["d"], "['d']")])
def test_axis_names_that_are_none(given, got):
    with pytest.raises(TypeError) as caught:
        nn.batch_norm(axis_name=given)
    assert str(caught.value) == f"batch_norm: expected axis_name to be a name, several or None, got {got}."


PLAIN = {
    "batch_norm": nn.batch_norm,
    "layer_norm": nn.layer_norm,
    "group_norm": partial(nn.group_norm, 2),
    "instance_norm": nn.instance_norm,
}


def test_norms_without_scale_or_bias_are_those_with_ones_and_zeros():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 6)), jnp.float32)
    vectors = {"scale": jnp.full(6, 2.0), "bias": jnp.full(6, -1.0)}

    @jax.jit
    def all_of(x):
        pairs = []
        for make in PLAIN.values():
            ys = []
            for scale, bias in ((True, True), (True, False), (False, True), (False, False)):
                model = make(scale=scale, bias=bias)
                params, state = model.init(jax.random.key(0), x)
                has = [name for name, there in (("scale", scale), ("bias", bias)) if there]
                assert sorted(params) == sorted(has)
                ys.append(model.apply({name: vectors[name] for name in has}, state, x, train=True)[0])
            pairs += [(ys[0], 2 * ys[3] - 1), (ys[1], 2 * ys[3]), (ys[2], ys[3] - 1)]
        rms = nn.rms_norm(scale=False)
        assert rms.init(jax.random.key(0), x) == ({}, {})
        return [*pairs, (rms.apply({}, {}, x)[0], nn.ops.rms_norm(x))]

    for got, want in all_of(x):
        assert_close(got, want)
