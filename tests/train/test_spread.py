"""Batches spread over eight devices stay there, and are trained on as on one; a step inside `shard_map` and `vmap`."""

import subprocess
import sys

import pytest

HEAD = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
from functools import partial
import jax.numpy as jnp, numpy as np
import jaxnn as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 3)).astype(np.float32)
y = x[:, :1] - 1
model = nn.serial(nn.dense(8), nn.tanh, nn.dense(1))
make = partial(nn.trainer, model, nn.losses.squared_error, nn.adam(0.1))
drive = partial(nn.drive, make(), jax.random.key(0), epochs=2, progress=False)
mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
close = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6))

def put(a, mesh=mesh):
    return jax.device_put(a, NamedSharding(mesh, P("d")))

seen = []
def watch(key, batch):
    jax.debug.inspect_array_sharding(batch[0], callback=lambda sharding: seen.append(sharding.spec))
    return batch
"""

DRIVEN = """
def feed(place, epoch):
    for i in range(0, 64, 16):
        yield place(x[i : i + 16]), place(y[i : i + 16])

plain = drive(partial(feed, lambda a: a), partial(feed, lambda a: a))
spread = drive(partial(feed, put), partial(feed, put), augment=watch)
assert set(seen) == {P("d")}, seen
assert len(spread.ts.params["dense"]["w"].sharding.device_set) == 8
close(spread.history, plain.history)

big = rng.normal(size=(720, 3)).astype(np.float32)
plain = drive((x, y), (big, big[:, :1]), batch_size=16)
seen.clear()
spread = drive((put(x), put(y)), (put(big), put(big[:, :1])), batch_size=16, augment=watch)
assert P("d") in seen, seen
close(spread.history, plain.history)

explicit = jax.make_mesh((8,), ("d",))
place = partial(put, mesh=explicit)
with jax.set_mesh(explicit):
    plain = drive(partial(feed, lambda a: a))
    close(drive(partial(feed, place)).history, plain.history)
    try:
        drive((place(x), place(y)), batch_size=16)
    except ValueError as error:
        print(error)
"""

STEPPED = """
batch = x, y, np.r_[np.zeros(8), rng.uniform(0, 2, 56)].astype(np.float32)  # nothing counts on the first device
how = {"regularizer": lambda p: 0.1 * jnp.sum(p["dense"]["w"] ** 2), "metrics": {"error": nn.losses.absolute_error}}
for data in (batch, batch[:2]):
    whole, part = make(**how), make(axis_name="d", **how)
    ts = whole.init(jax.random.key(0), data)
    expected = whole.step(ts, data)
    for check in (False, True):
        over = partial(jax.shard_map, mesh=mesh, check_vma=check)
        step = over(part.step, in_specs=(P(), P("d")), out_specs=(P(), P()))
        close(jax.jit(step)(ts, data), expected)
        evaluate = over(part.evaluate, in_specs=(P(), P("d")), out_specs=P())
        close(jax.jit(evaluate)(ts, data), whole.evaluate(ts, data))
    rows = jax.tree.map(lambda a: a.reshape(4, 16, *a.shape[1:]), data)
    got = jax.jit(jax.vmap(part.step, in_axes=(None, 0), axis_name="d"))(ts, rows)
    close(jax.tree.map(lambda a: a[3], got), expected)
nothing = x, y, np.zeros(64, np.float32)
new, metrics = jax.jit(step)(ts, nothing)
close(new._replace(step=ts.step), ts)
"""

EXPLICIT = (
    "drive: expected arrays that may be cut into batches, sharded over Auto axes, got float32[64, 3] on a mesh with "
    "Explicit axes. Feed batches to drive, or make the mesh with axis_types=(AxisType.Auto,).\n"
)


@pytest.mark.slow
@pytest.mark.parametrize(("program", "shown"), [(DRIVEN, EXPLICIT), (STEPPED, "")], ids=["drive", "step"])
def test_on_eight_devices_as_on_one(program, shown):
    ran = subprocess.run([sys.executable, "-c", HEAD + program], capture_output=True, text=True, timeout=400)
    assert (ran.returncode, ran.stdout) == (0, shown), ran.stderr
