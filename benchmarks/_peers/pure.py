"""Jobs of a network that is two pure functions, trained by optax: by hand, flax linen and haiku, and ours where apt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from _peers.rows import B1, B2, EPS, RATE, Job, Row

adam = optax.adam(RATE, B1, B2, EPS)


class Net(NamedTuple):
    """A network.

    Attributes:
      init: `(key, x) -> params, state`.
      apply: `(params, state, x) -> outputs, state`, for training.
      predict: `(params, state, x) -> outputs`.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]
    predict: Callable[..., Any]


def size(params: Any) -> int:
    """Number of parameters."""
    return sum(a.size for a in jax.tree.leaves(params))


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """The mean cross-entropy of labels."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train_step(net: Net, carry: Any, batch: Any) -> Any:
    """One step of Adam: (params, state, opt_state), (x, y) -> the same, loss."""
    params, state, opt_state = carry
    x, y = batch

    def loss(params: Any) -> Any:
        logits, new = net.apply(params, state, x)
        return cross_entropy(logits, y), new

    (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = adam.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), state, opt_state), value


def begin(net: Net, key: jax.Array, x: Any) -> Any:
    """The carry before the first step."""
    params, state = net.init(key, x)
    return params, state, adam.init(params)


def stepping(step: Callable, carry: Any, batch: Any, params: int, memory: Callable | None = None) -> Job:
    """A job of `step(carry, batch) -> carry, loss`, its carry handed from call to call."""
    seen: dict[str, Any] = {}

    def run() -> Any:
        nonlocal carry
        carry, loss = step(carry, batch)
        seen.setdefault("first", loss)
        seen["last"] = loss
        return loss

    return Job(run, params, lambda: (mean(seen["first"]), mean(seen["last"])), memory)


def mean(loss: Any) -> float:
    """A loss, or the mean of those of several members."""
    return float(np.mean(jax.device_get(loss)))


def running(run: Callable, params: int) -> Job:
    """A job of `run() -> anything, losses of its steps`."""
    seen: list[Any] = [None]

    def call() -> Any:
        out, seen[0] = run()
        return out, seen[0]

    def losses() -> tuple[float, float]:
        each = np.asarray(jax.device_get(seen[0])).ravel()
        part = max(1, len(each) // 10)
        return float(each[:part].mean()), float(each[-part:].mean())

    return Job(call, params, losses)


def order(key: jax.Array, n: int, batch: int) -> jax.Array:
    """The examples of each step of an epoch, [steps, batch]."""
    return jax.random.permutation(key, n).reshape(-1, batch)


def bytes_of(compiled: Any) -> int:
    """Bytes that a compiled program needs at its peak: arguments, results that are not donated, and temporaries."""
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    )


def jobs(net: Net, row: Row, x: np.ndarray, y: np.ndarray) -> dict[str, Job]:
    """The jobs of a row."""
    key = jax.random.key(0)
    x, y = jnp.asarray(x), jnp.asarray(y)
    step = partial(train_step, net)
    if row.kind == "outputs":
        params, state = jax.jit(net.init)(key, x)
        predict = jax.jit(net.predict)
        return {"jit": Job(lambda: predict(params, state, x), size(params))}
    if row.kind == "members":
        keys = jax.random.split(key, row.members)
        carry = jax.jit(jax.vmap(partial(begin, net)))(keys, x)
        count = size(carry[0]) // row.members
        vmap = jax.jit(jax.vmap(step), donate_argnums=0)
        turn = jax.jit(lambda carry, batch: jax.lax.map(lambda each: step(*each), (carry, batch)), donate_argnums=0)
        return {
            "vmap": stepping(vmap, carry, (x, y), count),
            "lax.map": stepping(turn, jax.tree.map(jnp.copy, carry), (x, y), count),
        }
    if row.kind == "run":
        return epochs(net, row, key, x, y)
    carry = jax.jit(partial(begin, net))(key, x)
    count = size(carry[0])
    jitted = jax.jit(step, donate_argnums=0)
    shapes = jax.eval_shape(lambda: (carry, (x, y)))
    return {"jit": stepping(jitted, carry, (x, y), count, lambda: bytes_of(jitted.lower(*shapes).compile()))}


def epochs(net: Net, row: Row, key: jax.Array, x: jax.Array, y: jax.Array) -> dict[str, Job]:
    """A run as one program with a scan, and as a loop over a jitted step."""
    step = partial(train_step, net)

    def chosen(carry: Any, i: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        return step(carry, (x[i], y[i]))

    @jax.jit
    def scan(key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        first, second = jax.random.split(key)
        carry = begin(net, first, x[: row.batch])
        return jax.lax.scan(lambda carry, i: chosen(carry, i, x, y), carry, order(second, len(x), row.batch))

    start, shuffled = jax.jit(partial(begin, net)), jax.jit(order, static_argnums=(1, 2))
    one = jax.jit(chosen, donate_argnums=0)
    sample = x[: row.batch]

    def loop() -> Any:
        first, second = jax.random.split(key)
        carry, losses = start(first, sample), []
        for i in np.asarray(shuffled(second, len(x), row.batch)):
            carry, loss = one(carry, i, x, y)
            losses.append(loss)
        return carry, losses

    count = size(jax.eval_shape(net.init, key, sample)[0])
    return {"scan": running(lambda: scan(key, x, y), count), "loop": running(loop, count)}
