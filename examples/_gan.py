"""A conditional GAN of images of 28×28 pixels: networks, the trainers of both, and epochs that step them in turn."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

CLASSES, LATENT = 10, 32
WIDE, NARROW = 32, 16  # channels at 7×7 and at 14×14 pixels: a step takes 50 ms on two cores
BATCH = 64  # small, since the number of steps is what so short a training lacks
RATE, B1, B2 = 1e-3, 0.5, 0.99  # of Adam; a b1 of 0.9 lets the pair oscillate
AVERAGE = 0.998  # decay of the average of the generator's params


def generator() -> nn.Layer:
    """Codes [n, 42] -> images [n, 28, 28, 1] in (0, 1)."""

    def norm() -> nn.Layer:
        return nn.serial(nn.batch_norm(), nn.relu)

    square = nn.lift(lambda x: x.reshape(-1, 7, 7, WIDE), name="square")
    first = nn.dense(49 * WIDE, bias=False), square, norm(), nn.conv(4 * NARROW, 3, bias=False)
    second = nn.depth_to_space(2), norm(), nn.conv(NARROW, 3, bias=False), norm(), nn.conv(4, 3)
    return nn.serial(*first, *second, nn.depth_to_space(2), nn.sigmoid)


def discriminator() -> nn.Layer:
    """Images [n, 28, 28, 1] -> logits [n, 10] of being a real image of each class."""
    leaky = partial(nn.leaky_relu, negative_slope=0.2)
    convs = [nn.conv(NARROW, 3), leaky, nn.conv(WIDE, 3, stride=2), leaky, nn.conv(WIDE, 3), leaky]
    return nn.serial(nn.space_to_depth(2), *convs, nn.flatten(), nn.dense(CLASSES))


def codes(key: jax.Array, y: Any) -> jax.Array:
    """Inputs of the generator [n, 42]: standard normal latent vectors beside one-hot classes."""
    return jnp.concatenate([jax.random.normal(key, (len(y), LATENT)), jax.nn.one_hot(y, CLASSES)], 1)


def trainers() -> tuple[nn.Trainer, nn.Trainer]:
    """Trainers of the generator and of the discriminator: the batch of one holds params of the other.

    The losses are the cross-entropies of the logits, and the non-saturating one for the generator.
    """
    making, judging, bce = generator(), discriminator(), nn.losses.binary_cross_entropy

    def logits(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.take_along_axis(judging.apply(params, {}, x)[0], y[:, None], 1)[:, 0]

    def deceive(params: Any, state: Any, batch: Any, *, key: Any, train: bool) -> Any:
        y, judge = batch
        images, state = making.apply(params, state, codes(key, y), train=train)
        return bce(logits(judge, images, y), jnp.ones(len(y))).mean(), (state, {})

    def tell(params: Any, state: Any, batch: Any, *, key: Any, train: bool) -> Any:
        x, y, (maker, statistics) = batch
        images, _ = making.apply(maker, statistics, codes(key, y), train=train)
        real, fake = logits(params, x, y), logits(params, images, y)
        loss = bce(real, jnp.ones(len(y))).mean() + bce(fake, jnp.zeros(len(y))).mean()
        right = jnp.concatenate([real > 0, fake < 0]).astype(jnp.float32).mean()
        return loss, (state, {"accuracy": right})

    adam = nn.adam(RATE, b1=B1, b2=B2)
    maker = nn.objective_trainer(
        lambda key, batch: making.init(key, codes(key, batch[0])), deceive, adam, average=AVERAGE
    )
    return maker, nn.objective_trainer(lambda key, batch: judging.init(key, batch[0]), tell, adam)


def learn(seed: int, data: Any, epochs: int, turns: int) -> tuple[Any, dict[str, np.ndarray]]:
    """A function, codes -> images, and losses and accuracy by step; `turns` are the generator's steps to one."""
    makers, judges = trainers()

    def step(pair: Any, i: jax.Array) -> Any:
        maker, judge = pair
        x, y = jax.tree.map(lambda a: a[i], data)
        judge, seen = judges.step(judge, (x, y, (maker.params, maker.state)))
        maker, tricked = jax.lax.scan(lambda m, _: makers.step(m, (y, judge.params)), maker, length=turns)
        return (maker, judge), {**seen, "generator": tricked["loss"][-1]}

    epoch = jax.jit(lambda *a: jax.lax.scan(step, *a), donate_argnums=0, compiler_options=nn.compiler_options())
    for_maker, for_judge, for_order = jax.random.split(jax.random.key(seed), 3)
    x, y = jax.tree.map(lambda a: a[:BATCH], data)
    maker = makers.init(for_maker, (y, {}))
    pair, history = (maker, judges.init(for_judge, (x, y, (maker.params, maker.state)))), []
    for k in range(epochs):
        order = jax.random.permutation(jax.random.fold_in(for_order, k), len(data[1]))
        pair, seen = epoch(pair, order[: len(order) // BATCH * BATCH].reshape(-1, BATCH))
        history.append(jax.tree.map(np.asarray, seen))
        last = ", ".join(f"{name} {values[-100:].mean():.3f}" for name, values in history[-1].items())
        print(f"seed {seed}, epoch {k + 1}/{epochs}: {last}", flush=True)
    maker, model = pair[0], generator()
    state = nn.recalibrate(model, maker.average, maker.state, codes(for_order, data[1][:2048]))
    curves = {name: np.concatenate([seen[name] for seen in history]) for name in history[0]}
    return partial(nn.predict, model, maker.average, state), curves
