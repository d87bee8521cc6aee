"""Descent on all training examples of several splits of a data set at the best of many rates; curvatures of a loss."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT
from jax.flatten_util import ravel_pytree

import jaxnn as nn

STEPS = 300 if SHORT else 1000
GOAL = 0.1  # training loss that a run has to reach
RATES = 10.0 ** np.arange(-6, 1.5, 1 if SHORT else 0.5)
LOSS = nn.losses.softmax_cross_entropy


class Result(NamedTuple):
    """Training loss before each step, the first step at which it is at most GOAL, accuracy on held-out examples."""

    losses: Any
    steps: Any
    accuracy: Any


def run(model: nn.Layer, optimizer: Any, point: dict, data: Any) -> Result:
    """Descent on all training examples of a split, from initial weights of its own."""
    train, test = jax.tree.map(lambda a: a[point["split"]], data)
    trainer = nn.trainer(model, LOSS, optimizer(point["rate"]))
    fitted = nn.fit(trainer, jax.random.fold_in(jax.random.key(1), point["split"]), train, epochs=STEPS)
    losses = fitted.history["train"]["loss"][:, 0]
    steps = jnp.where((losses <= GOAL).any(), jnp.argmax(losses <= GOAL), STEPS)
    logits, _ = model.apply(fitted.ts.params, fitted.ts.state, test[0])
    return Result(losses, steps, nn.metrics.accuracy(logits, test[1]).mean())


@cache
def runner(model: nn.Layer, optimizer: Any) -> Any:
    """`run` of one point: one object for equal models, so that raw and standardised inputs share a program."""
    return partial(run, model, optimizer)


def at_best_rate(model: nn.Layer, optimizer: Any, data: Any) -> Result:
    """Results of all splits, [splits, ...], at the rate of fewest steps to the goal, or else of the lowest loss.

    Args:
      data: training and test parts, each (x [splits, n, d], y [splits, n]).
    """
    splits = len(data[0][1])
    points = nn.points.grid(split=np.arange(splits), rate=RATES)
    found = nn.sweep(runner(model, optimizer), points, data, strategy="vmap").results
    found = jax.tree.map(lambda a: np.asarray(a).reshape(splits, len(RATES), *a.shape[1:]), found)
    last = np.nan_to_num(found.losses[..., -1], nan=np.inf).mean(0)
    best = min(range(len(RATES)), key=lambda k: (found.steps[:, k].mean(), last[k]))
    return jax.tree.map(lambda a: a[:, best], found)


def curvatures(model: nn.Layer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Positive eigenvalues of the Hessian of a linear classifier's training loss at its initial weights, ascending."""
    with jax.enable_x64(True):  # condition numbers are up to 1e12
        x = jnp.asarray(x, jnp.float64)
        params, state = model.init(jax.random.key(0), x)
        vector, back = ravel_pytree(params)

        def loss(v: jax.Array) -> jax.Array:
            return LOSS(model.apply(back(v), state, x, train=True)[0], jnp.asarray(y)).mean()

        hessian = jax.hessian(loss)(vector)
    return np.linalg.eigvalsh(hessian)[x.shape[1] + 1 :]  # equal changes of all logits leave the loss: d + 1 zeros
