"""Layers with products on eight devices: no collective and no product more than plain einsum's, in both directions."""

import subprocess
import sys

import pytest

HEAD = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
import re
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jaxnn as nn

def on(mesh, v, *axes):
    return jax.device_put(v, NamedSharding(mesh, P(*axes)))

x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 16, 32)), jnp.float32)
"""
# Plain JAX as a user would write it, and what of it is compared: the collectives of the compiled train step and its
# FLOPs, which differ by what is no product (the softmax and its gradient).
AUTO = """
def dense(p, x):
    return jnp.einsum("ntd,dk->ntk", x, p["w"]) + p["b"].reshape(1, 1, -1)

def attention(p, x):
    part = lambda c: (jnp.einsum("ntd,dk->ntk", x, p["w_" + c]) + p["b_" + c].reshape(1, 1, -1)).reshape(8, 16, 4, 8)
    scores = jnp.einsum("nthd,nshd->nhts", part("q"), part("k")) * 8**-0.5
    y = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), part("v")).reshape(8, 16, 32)
    return jnp.einsum("ntd,dk->ntk", y, p["w_o"]) + p["b_o"].reshape(1, 1, -1)

def lstm(p, x):
    a = jnp.einsum("ntd,dk->ntk", x, p["w_x"]) + p["b"].reshape(1, 1, -1)
    def step(carry, a):
        h, c = carry
        i, f, g, o = jnp.split(a + jnp.einsum("nh,hk->nk", h, p["w_h"]), 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    zero = jnp.zeros((8, 16), jnp.float32)
    return jnp.moveaxis(jax.lax.scan(step, (zero, zero), jnp.moveaxis(a, 1, 0))[1], 0, 1)

COLLECTIVES = "all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"

def cost(f, params, x):
    loss = lambda p, x: jnp.sum(jnp.square(f(p, x)))
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    text = compiled.as_text()
    counts = {c: len(re.findall(rf"= \\S+ {c}(?:-start)?\\(", text)) for c in COLLECTIVES}
    return counts, compiled.cost_analysis()["flops"]

mesh = jax.make_mesh((2, 2, 2), ("d", "s", "m"), axis_types=(AxisType.Auto,) * 3)
models = {"dense": (nn.dense(64), dense), "attention": (nn.attention(4), attention), "lstm": (nn.lstm(16), lstm)}
for name, (model, plain) in models.items():
    params, _ = model.init(jax.random.key(0), x)
    for batch, features in ((("d", "s"), ()), (("d", None, "m"), ()), (("d", "s"), (None, "m"))):
        if name == "lstm" and "s" in batch:
            continue
        placed = {k: on(mesh, v, *(features if v.ndim == 2 else features[1:])) for k, v in params.items()}
        ours = lambda p, x: model.apply(p, {}, x)[0]
        (got, flops), (want, plain_flops) = (cost(f, placed, on(mesh, x, *batch)) for f in (ours, plain))
        assert got == want, (name, batch, features, got, want)
        assert flops <= 1.02 * plain_flops, (name, batch, features, flops, plain_flops)
"""
# On an Explicit mesh, the default of jax.make_mesh: gradients are those of one device, and lie as their params.
EXPLICIT = """
models = {
    "dense": nn.dense(16),
    "maxout": nn.maxout(8),
    "attention": nn.attention(4, causal=True, rotary=True, kv_heads=2),
    "cache": nn.attention(4, causal=True, cache=16),
    "encoder_block": nn.encoder_block(4, rate=0.1, dropout=0.1),
    "rnn": nn.rnn(8),
    "lstm": nn.lstm(8, bidirectional=True, peephole=True),
    "gru": nn.gru(8, reset="before", last=True),
    "learned_positions": nn.learned_positions(16),
    "patches": nn.serial(nn.lift(lambda x: x.reshape(8, 16, 8, 4)), nn.patches(6, 4)),
    "pixels": nn.serial(nn.lift(lambda x: x.reshape(8, 16, 8, 4)), nn.depth_to_space(2), nn.upsample(2), nn.prelu()),
    "lora": nn.lora(nn.dense(16)),
    "spectral_norm": nn.spectral_norm(nn.dense(16)),
    "weight_norm": nn.weight_norm(nn.dense(16)),
}
mesh = jax.make_mesh((2, 2, 2), ("d", "s", "m"))
for name, model in models.items():
    params, state = model.init(jax.random.key(0), x)
    def loss(p, x):
        return jnp.sum(jnp.sin(model.apply(p, state, x, key=jax.random.key(1), train=True)[0]))
    want = jax.jit(jax.grad(loss, (0, 1)))(params, x)
    with jax.set_mesh(mesh):
        for batch, rows, columns in ((("d", "s"), None, "m"), (("d", None, "m"), "d", None)):
            if name in ("patches", "pixels"):
                batch = "d", "s"
            def placed(v):
                matrix = v.ndim > 1 and v.shape[0] % 2 == 0
                return on(mesh, v, *(rows, *(None,) * (v.ndim - 2), columns) if matrix else ())
            p = jax.tree.map(placed, params)
            got = jax.jit(jax.grad(loss, (0, 1)))(p, on(mesh, x, *batch))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3, err_msg=name), got, want)
            jax.tree.map(lambda g, v: np.testing.assert_equal(jax.typeof(g), jax.typeof(v)), got[0], p)
"""


def ran(program):
    done = subprocess.run([sys.executable, "-c", HEAD + program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_collectives_and_flops_are_those_of_plain_einsums():
    ran(AUTO)


@pytest.mark.slow
def test_on_an_explicit_mesh_gradients_are_those_of_one_device_and_lie_as_their_params():
    ran(EXPLICIT)
