"""Proximal policy optimization on the games of `_games.py`, as pure functions of one seed, with CleanRL's settings."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from _games import Outcome, Task, begun, played

import jaxnn as nn

GAMES, STEPS = 4, 128  # games at a time, and steps of each between updates
EPOCHS, BATCHES = 4, 4  # passes over the steps of an update, and minibatches of each
RATE, EPS = 2.5e-4, 1e-5  # of Adam; the rate falls to 0 along a line
DISCOUNT, TRACE = 0.99, 0.95
CLIP, ENTROPY, VALUE, NORM = 0.2, 0.01, 0.5, 0.5


class Step(NamedTuple):
    """A step of all games: its input, actions, their log-probabilities, values and outcomes."""

    seen: Any
    action: Any
    log_prob: Any
    value: Any
    outcome: Outcome


def network(task: Task) -> nn.Layer:
    """Inputs [n, d] -> logits of the actions [n, actions] and values [n, 1], by two networks."""

    def tower(features: int, scale: float) -> nn.Layer:
        drawn = [partial(nn.init.orthogonal, scale=s) for s in (2**0.5, 2**0.5, scale)]
        hidden = [part for draw in drawn[:2] for part in (nn.dense(64, w_init=draw), nn.tanh)]
        return nn.serial(*hidden, nn.dense(features, w_init=drawn[2]))

    return nn.parallel(tower(task.actions, 0.01), tower(1, 1.0), join=lambda *ys: ys)


def act(task: Task, params: Any, games: Any, key: jax.Array) -> tuple[Any, Step]:
    """One step of all games with actions drawn by the policy."""
    key, own = jax.random.split(key)
    seen = jax.vmap(task.seen)(games.state)
    (logits, value), _ = network(task).apply(params, {}, seen)
    action = nn.distributions.categorical_sample(own, logits)
    log_prob = nn.distributions.categorical_log_prob(logits, action)
    games, outcome = jax.vmap(partial(played, task))(games, action, jax.random.split(key, len(action)))
    return games, Step(seen, action, log_prob, value[:, 0], outcome)


def advantages(steps: Step, last: jax.Array) -> jax.Array:
    """Generalized advantage estimation [t, n], with the value after the last step [n].

    A game that the limit cut off is worth as much after its last step as before it.
    """

    def back(later: Any, step: Any) -> Any:
        gain, following = later
        value, outcome = step
        kept = DISCOUNT * (1 - outcome.over)
        gain = outcome.reward + DISCOUNT * value * outcome.cut + kept * (following + TRACE * gain) - value
        return (gain, value), gain

    return jax.lax.scan(back, (jnp.zeros_like(last), last), (steps.value, steps.outcome), reverse=True)[1]


def objective(model: nn.Layer, params: Any, state: Any, batch: Any, **how: Any) -> Any:
    """The clipped objective of PPO, that of the values, clipped likewise, and the entropy."""
    old, gain = batch
    (logits, value), _ = model.apply(params, state, old.seen, **how)
    value, target = value[:, 0], gain + old.value
    ratio = jnp.exp(nn.distributions.categorical_log_prob(logits, old.action) - old.log_prob)
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    policy = -jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gain).mean()
    near = old.value + jnp.clip(value - old.value, -CLIP, CLIP)
    error = jnp.maximum((value - target) ** 2, (near - target) ** 2).mean() / 2
    return policy + VALUE * error - ENTROPY * nn.distributions.categorical_entropy(logits).mean(), (state, {})


def learner(task: Task, updates: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two functions: key -> run, and (run, nothing) -> the run an update later, and the mean return of games in it."""
    model, rate = network(task), optax.linear_schedule(RATE, 0.0, updates * EPOCHS * BATCHES)
    optimizer = optax.chain(optax.clip_by_global_norm(NORM), nn.adam(rate, eps=EPS))
    trainer = nn.objective_trainer(model.init, partial(objective, model), optimizer)

    def start(key: jax.Array) -> Any:
        games = jax.vmap(partial(begun, task))(jax.random.split(jax.random.fold_in(key, 0), GAMES))
        return trainer.init(key, jax.vmap(task.seen)(games.state)), games, jax.random.fold_in(key, 1)

    def update(run: Any, _: Any) -> Any:
        ts, games, key = run
        key, for_games, for_order = jax.random.split(key, 3)
        games, steps = jax.lax.scan(partial(act, task, ts.params), games, jax.random.split(for_games, STEPS))
        last = model.apply(ts.params, {}, jax.vmap(task.seen)(games.state))[0][1][:, 0]
        data = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (steps, advantages(steps, last)))

        def epoch(ts: Any, key: jax.Array) -> Any:
            order = jax.random.permutation(key, GAMES * STEPS).reshape(BATCHES, -1)
            return jax.lax.scan(lambda ts, i: trainer.step(ts, jax.tree.map(lambda a: a[i], data)), ts, order)

        ts, _ = jax.lax.scan(epoch, ts, jax.random.split(for_order, EPOCHS))
        return (ts, games, key), jnp.nanmean(steps.outcome.result)

    return start, update
