"""Loops whose carry begins as what every device has and becomes what each has of its own."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxnn as nn

# The reference is the same without a mesh, one member or shard after the other.
PROGRAM = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec as P
import jaxnn as nn
from jaxnn._mesh import scan

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
mesh = jax.make_mesh((2, 2), ("d", "m"), axis_types=(AxisType.Auto,) * 2)
close = lambda got, want: jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6), got, want)

# repeat: params that vary, an x that does not, and both over other axes
model, x = nn.repeat(nn.serial(nn.dense(6), nn.tanh), 3), jnp.linspace(-1.0, 1.0, 24).reshape(4, 6)
params = jax.vmap(lambda key: model.init(key, x)[0])(jax.random.split(jax.random.key(0), 2))
loss = lambda p, x: model.apply(p, {}, x)[0].sum()
member = lambda p: jax.tree.map(lambda v: v[0], p)
for at_x in (P(), P("d")):
    f = lambda p, x: model.apply(member(p), {}, x)[0][None]
    got = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=(P("m"), at_x), out_specs=P("m", *at_x)))(params, x)
    close(got, jax.vmap(lambda p: model.apply(p, {}, x)[0])(params))
    g = lambda p, x: jax.grad(lambda p: loss(member(p), x))(p)
    slopes = jax.jit(jax.shard_map(g, mesh=mesh, in_specs=(P("m"), at_x), out_specs=P("m")))(params, x)
    close(slopes, jax.vmap(lambda p: jax.grad(loss)(p, x))(params))

# a block whose output varies less than what it computes with: each device has half of the hidden units
w, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(((3, 6, 8), (3, 8, 6))))
halves = nn.layer(
    lambda key, x: ({}, {}),
    lambda p, s, x, *, key, train: (jax.lax.psum(jnp.tanh(x @ p["w"]) @ p["v"], "m"), s),
    "halves",
)
f = lambda w, v, x: nn.repeat(halves, 3).apply({"w": w, "v": v}, {}, x)[0]
specs = (P(None, None, "m"), P(None, "m"), P("d"))
want = x
for i in range(3):
    want = jnp.tanh(want @ w[i]) @ v[i]
close(jax.jit(jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P("d")))(w, v, x), want)

# ops that loop: weights that do not vary, examples that do; scores that do not, boxes that do
xs, ys = jax.random.normal(jax.random.key(0), (4, 5, 3)), jnp.tile(jnp.array([0.0, 1.0]), (4, 5, 1))
learn = lambda x, y: nn.ops.perceptron_update(jnp.zeros((3, 2)), jnp.zeros(2), x, y)[:2]
f = lambda x, y: jax.tree.map(lambda v: v[None], learn(x[0], y[0]))
at = P(("d", "m"))
close(jax.jit(jax.shard_map(f, mesh=mesh, in_specs=(at, at), out_specs=at))(xs, ys), jax.vmap(learn)(xs, ys))
boxes = jnp.sort(jax.random.uniform(jax.random.key(1), (4, 6, 2, 2)), -2).reshape(4, 6, 4)
keep = lambda boxes: nn.ops.non_maximum_suppression(boxes, jnp.linspace(0.1, 0.9, 6), 4, iou_threshold=0.2)
f = lambda boxes: keep(boxes[0])[None]
close(jax.jit(jax.shard_map(f, mesh=mesh, in_specs=at, out_specs=at))(boxes), jax.vmap(keep)(boxes))

# a mesh of Explicit axes: zeros that become sharded, any number of steps
explicit = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    rows = jax.device_put(jnp.ones((8, 3)), P("d"))
    add = lambda steps: scan(lambda c, _: (c + rows, None), jnp.zeros((8, 3)), None, length=steps)[0]
    for steps in (0, 3):
        total = jax.jit(add, static_argnums=0)(steps)
        assert total.sharding.spec[0] == "d", total.sharding
        np.testing.assert_array_equal(total, np.full((8, 3), steps))
"""


@pytest.mark.slow
def test_loops_on_a_mesh():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


BOXES = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [3.0, 3.0, 4.0, 4.0]]])
LOOPS = {
    "gru": (nn.gru(4), jnp.ones((2, 5, 3))),
    "lstm": (nn.lstm(4, bidirectional=True), jnp.ones((2, 5, 3))),
    "repeat": (nn.repeat(nn.dense(3), 2), jnp.ones((2, 3))),
    "boxes": (
        nn.lift(lambda b: nn.ops.non_maximum_suppression(b[0], jnp.ones(3), 2, iou_threshold=0.5)),
        BOXES,
    ),
}


@pytest.mark.parametrize("case", LOOPS)
@pytest.mark.slow
def test_loops_in_a_shard_map_that_checks_nothing(case):
    """As `sweep` has them: the types of such a program, and of what is jitted in it, say nothing of mesh axes."""
    model, x = LOOPS[case]
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    params, state = model.init(jax.random.key(0), x)
    apply = jax.jit(lambda x: model.apply(params, state, x)[0])
    one = PartitionSpec()
    here = lambda x: jax.lax.map(apply, x[None])[0]  # noqa: E731
    got = jax.jit(jax.shard_map(here, mesh=mesh, in_specs=one, out_specs=one, check_vma=False))(x)
    np.testing.assert_allclose(got, apply(x), rtol=1e-6)
