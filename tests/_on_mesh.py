"""Layers on eight devices, in a process of its own: `python _on_mesh.py column case...` prints {case: what is wrong}.

Columns: "explicit", a mesh of Explicit axes, the batch sharded; "shards", `shard_map` over the batch; "members",
`shard_map` over params, x the same for all. An empty text means equal to the same without a mesh, forward and backward.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from _close import assert_close
from _layer_cases import ALL, KEY, NOISES, quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn._errors import InvalidType, InvalidValue

DEVICES = 8


def input_of(case):
    make, shape, exempt = ALL[case]
    rng, shape = np.random.default_rng(0), (DEVICES, *shape[1:])
    if "integers" in exempt:
        return make(), jnp.asarray(rng.integers(0, 7, shape), jnp.int32)
    return make(), jnp.asarray(rng.standard_normal(shape), jnp.float32)


def with_gradient(model, state, train):
    """(params, x) -> y, and the gradients of a loss that sees all of it."""

    def loss(params, x):
        y, _ = model.apply(params, state, x, key=KEY(), train=train)
        return jnp.sum(y * (1 + y)), y

    def both(params, x):
        which = (0, 1) if jnp.issubdtype(x.dtype, jnp.floating) else 0
        slopes, y = jax.grad(loss, which, has_aux=True)(params, x)
        return y, slopes

    return both


def explicit(case, compare):
    model, x = input_of(case)
    params, state = model.init(KEY(), x)
    train = "cache" not in case
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        put = jax.device_put((params, state, x), NamedSharding(mesh, P()))
        y, slopes = quick(with_gradient(model, put[1], train))(put[0], jax.sharding.reshard(x, P("d")))
    if compare:
        same((y, slopes), quick(with_gradient(model, state, train))(params, x))


def shards(case, compare):
    model, x = input_of(case)
    params, state = model.init(KEY(), x)
    state_spec = P("d") if "cache" in case else P()
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
    spread = {"mesh": mesh, "in_specs": (P(), state_spec, P("d")), "out_specs": (P("d"), (P(), P("d")))}
    if jnp.issubdtype(x.dtype, jnp.integer):
        spread["out_specs"] = (P("d"), P())
    train = "cache" not in case

    def local(params, state, x):
        state = jax.tree.map(lambda v: v if v.ndim else jax.lax.pcast(v, "d", to="varying"), state)
        return with_gradient(model, state, train)(params, x)

    if "cache" in case:  # its count of steps is one for all
        spread["in_specs"] = (P(), jax.tree.map(lambda v: P("d") if v.ndim else P(), state), P("d"))
    got = quick(jax.shard_map(local, **spread))(params, state, x)
    if compare and not any(name in case for name in ("batch_norm", "serial")):  # without axis_name a shard is a batch
        same(got, quick(with_gradient(model, state, train))(params, x))


def members(case, compare):
    model, x = input_of(case)
    params, state = jax.vmap(model.init, (0, None))(jax.random.split(KEY(), DEVICES), x)
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
    if not params:
        return
    train = "cache" not in case

    def one(params, state, x):
        y, slopes = with_gradient(model, state, train)(params, x)
        return y, slopes[0] if isinstance(slopes, tuple) else slopes

    def local(params, state, x):
        mine = jax.tree.map(lambda v: v[0], (params, state))
        return jax.tree.map(lambda v: v[None], one(*mine, x))

    spread = {"mesh": mesh, "in_specs": (P("d"), P("d"), P()), "out_specs": P("d")}
    got = quick(jax.shard_map(local, **spread))(params, state, x)
    if compare:
        same(got, quick(jax.vmap(one, (0, 0, None)))(params, state, x))


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    largest = max((float(jnp.max(jnp.abs(v), initial=0)) for v in jax.tree.leaves(want[1])), default=0.0)
    assert_close(got[0], want[0])
    for a, b in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        assert_close(a, b, scale=largest)


def outcome(column, case):
    try:
        column(case, not any(noise in case for noise in NOISES))  # other shards draw other numbers
    except (InvalidValue, InvalidType) as error:
        return f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    column = {"explicit": explicit, "shards": shards, "members": members}[sys.argv[1]]
    print(json.dumps({case: outcome(column, case) for case in sys.argv[2:] or ALL}))
