"""The quickstart's digits on raw functions and dicts alone, for the reader who trusts nothing.

    python examples/from_scratch.py

No `Layer`, no trainer: parameters are a dict of arrays, the network is a function of it, the train step is written
out. What comes from the library are arrays in, arrays out (`nn.ops`, activations, losses) and an optimizer's `init` and
`update`. Five seeds are one `vmap`. Every fifth example is the test split; the settings are the quickstart's.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

SEEDS = 5
EPOCHS = 15
BATCH = 32
RATE = 2e-3
DROP = 0.3
MOMENTUM = 0.9
LEAST_ACCURACY = 0.985

OPTIMIZER = nn.adam(RATE)


def init(key: jax.Array) -> tuple[dict, dict]:
    """Params by name, and the running statistics of the three batch norms."""
    keys = jax.random.split(key, 4)
    params: dict = {}
    state: dict = {}
    for i, (c, features) in enumerate([(1, 32), (32, 32), (32, 64)]):
        params[f"w{i}"] = nn.init.he_normal(keys[i], (3, 3, c, features))
        params[f"scale{i}"], params[f"bias{i}"] = jnp.ones(features), jnp.zeros(features)
        state[f"mean{i}"], state[f"var{i}"] = jnp.zeros(features), jnp.ones(features)
    params["w_head"] = nn.init.lecun_normal(keys[3], (2 * 2 * 64, 10))
    params["b_head"] = jnp.zeros(10)
    return params, state


def network(params: dict, state: dict, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, dict]:
    """[n, 8, 8, 1] -> [n, 10] logits; with a key it trains: statistics of the batch, and dropout."""
    state = dict(state)
    for i in range(3):
        x = nn.ops.conv(x, params[f"w{i}"])  # [n, 8, 8, 32] twice, then [n, 4, 4, 64]
        mean, var = state[f"mean{i}"], state[f"var{i}"]
        if key is not None:
            mean, var = nn.ops.moments(x, axis=(0, 1, 2))
            state[f"mean{i}"] = MOMENTUM * state[f"mean{i}"] + (1 - MOMENTUM) * jax.lax.stop_gradient(mean)
            state[f"var{i}"] = MOMENTUM * state[f"var{i}"] + (1 - MOMENTUM) * jax.lax.stop_gradient(var)
        x = nn.relu(nn.ops.normalize(x, mean, var, 1e-5, params[f"scale{i}"], params[f"bias{i}"]))
        if i > 0:
            x = nn.ops.max_pool(x, 2)
    x = x.reshape(x.shape[0], -1)  # [n, 256]
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, 1 - DROP, x.shape), x / (1 - DROP), 0.0)
    return x @ params["w_head"] + params["b_head"][None, :], state


def run(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[dict, dict]:
    """One whole training run: a scan of steps within a scan of epochs."""
    init_key, order_key, drop_key = jax.random.split(key, 3)
    params, state = init(init_key)
    steps = len(x) // BATCH

    def step(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
        params, state, opt_state, t = carry

        def loss(params: dict) -> tuple[jax.Array, dict]:
            logits, new = network(params, state, x[rows], jax.random.fold_in(drop_key, t))
            return nn.losses.softmax_cross_entropy(logits, y[rows]).mean(), new

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state, opt_state, t + 1), value

    def epoch(carry: tuple, i: jax.Array) -> tuple[tuple, jax.Array]:
        order = jax.random.permutation(jax.random.fold_in(order_key, i), len(x))
        carry, losses = jax.lax.scan(step, carry, order[: steps * BATCH].reshape(steps, BATCH))
        return carry, losses.mean()

    (params, state, _, _), _ = jax.lax.scan(epoch, (params, state, OPTIMIZER.init(params), 0), jnp.arange(EPOCHS))
    return params, state


def main() -> None:
    """Trains five seeds in one program and counts what they get right."""
    nn.cache_programs()  # the next start compiles nothing again
    x, y = nn.data.load("digits").train
    test = np.arange(len(x)) % 5 == 0
    keys = jax.random.split(jax.random.key(0), SEEDS)
    start = time.perf_counter()
    train = jax.jit(jax.vmap(run, in_axes=(0, None, None)))
    params, state = jax.block_until_ready(train(keys, jnp.asarray(x[~test]), jnp.asarray(y[~test])))
    seconds = time.perf_counter() - start
    logits = jax.vmap(lambda p, s: network(p, s, jnp.asarray(x[test]), None)[0])(params, state)
    accuracies = np.asarray(logits.argmax(axis=-1) == y[test]).mean(axis=-1)
    each = ", ".join(f"{a:.2%}" for a in accuracies)
    print(f"{SEEDS} seeds in {seconds:.1f} s, compile included; test accuracy {accuracies.mean():.2%} ({each})")
    assert accuracies.mean() >= LEAST_ACCURACY, "below the figure that this example stands for"


if __name__ == "__main__":
    main()
