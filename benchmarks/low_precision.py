"""What few bits cost: weights in bfloat16 and moments in 8 bits, on a problem that plain bfloat16 fails and on a text.

    python benchmarks/low_precision.py                least squares, 8 draws of it, under a minute
    python benchmarks/low_precision.py shakespeare    a transformer on characters, 2000 steps for each row and seed
    python benchmarks/low_precision.py mixed          a small CNN on Fashion-MNIST, by `trainer(precision=)`, 5 minutes

Least squares: y = x w + noise of deviation 0.2, x [4096, 64] and w [64] standard normal, from weights of 0 by 5000
steps of full gradients at rate 1e-3. The best possible is a mean squared error near 0.04, the noise; a bfloat16 weight
past 0.5 moves in steps of 1/256, of which 1e-3 is less than half. The arithmetic of the loss is float32 in all rows.

Shakespeare: the character after each of 64, by two pre-norm blocks of width 64 with 4 heads, batches of 16, Adam at
3e-3 falling to 0 along a cosine. In bfloat16 all of it is: weights, activations, gradients; moments are float32. A seed
gives the first weights and the batches, the same in every row, and the loss is that of 512 windows of the last 5 %. The
second row is the noise of such pairs: float32 again, with first weights off by a millionth.

Mixed: two convolutions of stride 2 with batch norms, 60 000 images, batches of 128, Adam at 2e-3 falling to 0 along a
cosine. Params and optimizer are float32 in all rows. A seed gives first weights and order; rows of a seed are paired.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn as nn

F32, BF16 = jnp.float32, jnp.bfloat16

EXAMPLES, FEATURES, NOISE = 4096, 64, 0.2
DRAWS = 8
FIT_STEPS, FIT_RATE = 5000, 1e-3  # a weight of 3 is 3000 steps away from 0

WIDTH, HEADS, BLOCKS, WINDOW, BATCH = 64, 4, 2, 64, 16
STEPS, RATE = 2000, 3e-3
HELD = 0.05  # of the text, at its end
WINDOWS = 512  # of it for the loss
SEEDS = 2
OFF = 1e-6

EPOCHS, IMAGES, PAIRS = 3, 128, 5  # epochs, batch size, seeds

Make = Callable[[Any, jax.Array], optax.GradientTransformation]  # a rate and a key -> an optimizer

ROWS: dict[str, tuple[Any, Make]] = {
    "float32  optax.adam": (F32, lambda rate, key: optax.adam(rate)),
    "float32  adam": (F32, lambda rate, key: nn.adam(rate)),
    "float32  quantized(adam)": (F32, lambda rate, key: nn.quantized(nn.adam(rate), min_size=1)),
    "bfloat16 optax.adam": (BF16, lambda rate, key: optax.adam(rate)),
    "bfloat16 adam": (BF16, lambda rate, key: nn.adam(rate)),
    "bfloat16 compensated(adam)": (BF16, lambda rate, key: nn.compensated(nn.adam(rate))),
    "bfloat16 compensated(optax.adam)": (BF16, lambda rate, key: nn.compensated(optax.adam(rate))),
    "bfloat16 stochastic_rounding(adam)": (BF16, lambda rate, key: nn.stochastic_rounding(nn.adam(rate), key)),
    "bfloat16 compensated(quantized(adam))": (
        BF16,
        lambda rate, key: nn.compensated(nn.quantized(nn.adam(rate), min_size=1)),
    ),
}


def nbytes(opt: optax.GradientTransformation, params: Any) -> int:
    """The memory of an optimizer's state."""
    return sum(x.nbytes for x in jax.tree.leaves(opt.init(params)))


# ---- least squares


def fitted(dtype: Any, make: Make, key: jax.Array) -> jax.Array:
    """The mean squared error after FIT_STEPS, one draw of the problem."""
    of_x, of_w, of_noise, of_optimizer = jax.random.split(key, 4)
    x = jax.random.normal(of_x, (EXAMPLES, FEATURES))
    y = x @ jax.random.normal(of_w, (FEATURES,)) + NOISE * jax.random.normal(of_noise, (EXAMPLES,))
    opt = make(FIT_RATE, of_optimizer)

    def loss(w: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(x @ w.astype(F32) - y))

    def step(carry: tuple, _: None) -> tuple:
        w, state = carry
        updates, state = opt.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros(FEATURES, dtype)
    (w, _), _ = jax.lax.scan(step, (w, opt.init(w)), None, length=FIT_STEPS)
    return loss(w)


def least_squares() -> None:
    """The table of the first problem."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    print(f"{'least squares':40}{'mean MSE':>10}{'lowest':>10}{'highest':>10}")
    for name, (dtype, make) in ROWS.items():
        run = jax.jit(lambda key, dtype=dtype, make=make: fitted(dtype, make, key))
        errors = [run(key).item() for key in keys]
        print(f"{name:40}{statistics.mean(errors):10.4f}{min(errors):10.4f}{max(errors):10.4f}", flush=True)


# ---- Shakespeare


def model(symbols: int) -> nn.Layer:
    """[n, t] characters -> [n, t, symbols] logits of the next."""
    blocks = [nn.encoder_block(HEADS, causal=True) for _ in range(BLOCKS)]
    return nn.serial(
        nn.embed(symbols, WIDTH), nn.learned_positions(WINDOW), *blocks, nn.layer_norm(), nn.dense(symbols)
    )


def windows(text: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The WINDOW characters from each of `at` on, and those after them, [n, WINDOW] each."""
    rows = text[at[:, None] + jnp.arange(WINDOW + 1)[None]]
    return rows[:, :-1], rows[:, 1:]


def trained(net: nn.Layer, dtype: Any, make: Make, off: Any, key: jax.Array, train: jax.Array, held: jax.Array) -> Any:
    """Losses of the last 100 steps, their mean, and of the held part, after STEPS."""
    of_params, of_batches, of_optimizer, of_noise = jax.random.split(key, 4)
    params, state = net.init(of_params, jnp.zeros((1, WINDOW), jnp.int32))
    leaves, structure = jax.tree.flatten(params)
    noise = [jax.random.normal(jax.random.fold_in(of_noise, i), p.shape) for i, p in enumerate(leaves)]
    params = structure.unflatten([(p * (1 + off * z)).astype(dtype) for p, z in zip(leaves, noise, strict=True)])
    opt = make(optax.cosine_decay_schedule(RATE, STEPS), of_optimizer)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits, _ = net.apply(params, state, x)
        return jnp.mean(nn.losses.softmax_cross_entropy(logits.astype(F32), y))

    def step(carry: tuple, key: jax.Array) -> tuple:
        params, slots = carry
        batch = windows(train, jax.random.randint(key, (BATCH,), 0, len(train) - WINDOW))
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, slots = opt.update(grads, slots, params)
        return (optax.apply_updates(params, updates), slots), value

    carry, losses = jax.lax.scan(step, (params, opt.init(params)), jax.random.split(of_batches, STEPS))
    even = jnp.linspace(0, len(held) - WINDOW - 1, WINDOWS).astype(jnp.int32)
    x, y = (a.reshape(8, -1, WINDOW) for a in windows(held, even))
    return losses[-100:].mean(), jax.lax.map(lambda batch: loss(carry[0], *batch), (x, y)).mean()


def shakespeare() -> None:
    """Trains each row on the same seeds, and prints the table."""
    text = nn.data.load("shakespeare")
    codes = text.train[0].astype(np.int32)
    cut = int(len(codes) * (1 - HELD))
    train, held = jnp.asarray(codes[:cut]), jnp.asarray(codes[cut:])
    net = model(len(text.classes))
    rows = {"float32  adam": 0.0, f"float32  adam from weights {OFF:g} off": OFF}
    rows |= {name: 0.0 for name in ROWS if "optax" not in name}
    programs = {}
    for name in rows:
        dtype, make = row_of(name)
        programs[name] = jax.jit(
            lambda off, key, train, held, dtype=dtype, make=make: trained(net, dtype, make, off, key, train, held),
            compiler_options=nn.compiler_options(),
        )
    ends: dict[str, list] = {name: [] for name in rows}
    for key in jax.random.split(jax.random.key(0), SEEDS):  # rows that are compared share what the machine does besides
        for name, program in programs.items():
            start = time.perf_counter()
            last, loss = map(float, program(rows[name], key, train, held))
            ends[name].append((last, loss, time.perf_counter() - start))
            print(f"{name:40}{last:8.4f}{loss:8.4f}{ends[name][-1][2]:6.0f} s", file=sys.stderr, flush=True)
    table(ends, net)


def row_of(name: str) -> tuple[Any, Make]:
    """The dtype and the optimizer of a row, which may have more to its name."""
    return ROWS[name] if name in ROWS else ROWS["float32  adam"]


def table(ends: dict[str, list], net: nn.Layer) -> None:
    """Prints (training loss, loss on the held part, seconds) of each row and seed, over float32's of the same seed."""
    params, _ = net.init(jax.random.key(0), jnp.zeros((1, WINDOW), jnp.int32))
    exact = np.array(ends["float32  adam"])[:, 1]
    print(f"{sum(p.size for p in jax.tree.leaves(params))} params; {STEPS} steps; bytes of the optimizer's state;")
    print("mean training loss of the last 100 steps; loss on the held part, and over float32's of the same seed")
    over = "".join(f"{f'seed {i}':>9}" for i in range(len(exact)))
    print(f"{'shakespeare':40}{'bytes':>9}{'training':>10}{'held':>8}{'mean':>9}{over}{'s':>6}")
    for name, numbers in ends.items():
        last, loss, seconds = np.array(numbers).T
        dtype, make = row_of(name)
        size = nbytes(make(RATE, jax.random.key(0)), jax.tree.map(lambda p, dtype=dtype: p.astype(dtype), params))
        ratio = loss / exact - 1
        each = "".join(f"{r:+9.2%}" for r in (ratio.mean(), *ratio))
        print(f"{name:40}{size:9}{last.mean():10.4f}{loss.mean():8.4f}{each}{seconds.mean():6.0f}")
    print(f"deviation of float32's loss between seeds: {exact.std(ddof=1) / exact.mean():.2%}")


# ---- mixed precision


def classified(precision: str, off: Any, key: jax.Array, train: Any, test: Any) -> tuple[jax.Array, ...]:
    """Accuracy and loss on the test set, the training loss of the last epoch, and the last loss scale."""
    net = nn.serial(
        *(part for width in (16, 32) for part in (nn.conv(width, 3, stride=2, bias=False), nn.batch_norm(), nn.relu)),
        nn.flatten(),
        nn.dense(10),
    )
    steps = EPOCHS * (len(train[0]) // IMAGES)
    optimizer = nn.adam(optax.cosine_decay_schedule(2e-3, steps))
    metrics = {"accuracy": nn.metrics.accuracy}
    t = nn.trainer(net, nn.losses.softmax_cross_entropy, optimizer, metrics=metrics, precision=precision)
    params = t.init(key, jax.tree.map(lambda a: a[:IMAGES], train)).params
    noise = jax.random.normal(jax.random.fold_in(key, 1), params["dense"]["w"].shape)
    params["dense"]["w"] = params["dense"]["w"] * (1 + off * noise)
    run = nn.fit(t, key, train, epochs=EPOCHS, batch_size=IMAGES, params=params)
    measured = jax.lax.map(partial(t.evaluate, run.ts), jax.tree.map(lambda a: a.reshape(10, -1, *a.shape[1:]), test))
    scale = jnp.float32(1) if run.ts.loss_scale is None else run.ts.loss_scale.value
    return measured["accuracy"].mean(), measured["loss"].mean(), run.history["train"]["loss"][-1].mean(), scale


def mixed() -> None:
    """Trains each precision on the same seeds, and prints the table."""
    fashion = nn.data.load("fashion_mnist")
    train, test = jax.tree.map(jnp.asarray, (fashion.train, fashion.test))
    rows = {"float32": 0.0, f"float32, {OFF:g} off": OFF, "bfloat16": 0.0, "float16": 0.0}
    programs = {
        name: jax.jit(partial(classified, name.split(",")[0]), compiler_options=nn.compiler_options()) for name in rows
    }
    ends: dict[str, list] = {name: [] for name in rows}
    for key in jax.random.split(jax.random.key(0), PAIRS):
        for name, off in rows.items():
            start = time.process_time()
            ends[name].append([*map(float, programs[name](off, key, train, test)), time.process_time() - start])
            print(f"{name:24}{ends[name][-1]}", file=sys.stderr, flush=True)
    compared(ends)


def compared(ends: dict[str, list]) -> None:
    """Prints what `classified` returned for each row and seed, with differences from float32's of the same seed."""
    exact = np.array(ends["float32"])[:, 0]
    print(f"{EPOCHS} epochs; test accuracy in %, and its difference from float32's of the same seed: mean, standard")
    print("error of the mean, and each seed; loss on the test set, and of the last epoch; the last loss scale of the")
    print("last seed; processor seconds of a run after the first")
    head = "".join(f"{name:>9}" for name in ("accuracy", "mean", "error", *(f"seed {i}" for i in range(PAIRS))))
    print(f"{'fashion_mnist':22}{head}{'loss':>9}{'training':>9}{'scale':>8}{'s':>6}")
    for name, numbers in ends.items():
        accuracy, loss, last, scale, seconds = np.array(numbers).T
        over = 100 * (accuracy - exact)
        error = over.std(ddof=1) / PAIRS**0.5
        each = "".join(f"{d:+9.2f}" for d in over)
        print(
            f"{name:22}{100 * accuracy.mean():9.2f}{over.mean():+9.3f}{error:9.3f}{each}{loss.mean():9.4f}"
            f"{last.mean():9.4f}{scale[-1]:8.0f}{seconds[1:].mean():6.0f}"
        )
    print(f"deviation of float32's accuracy between seeds: {100 * exact.std(ddof=1):.2f}")


def main() -> None:
    """The table that is asked for."""
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores")
    if sys.argv[1:] == ["shakespeare"]:
        shakespeare()
    elif sys.argv[1:] == ["mixed"]:
        mixed()
    else:
        least_squares()


if __name__ == "__main__":
    main()
