"""Two tasks of control as pure functions, with the equations, constants, rewards and limits of Gymnasium."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LIMIT = 500  # steps of a game of both tasks


class Task(NamedTuple):
    """A game, by functions of one state [4]."""

    name: str
    actions: int
    noise: float  # the first state is uniform between - noise and noise
    step: Callable[..., Any]  # state, action -> state
    over: Callable[..., Any]  # state -> bool
    seen: Callable[..., Any]  # state -> input of a policy
    rewards: tuple[float, float]  # of a step, and of the last step


def push(state: jax.Array, action: jax.Array) -> jax.Array:
    """Cart and pole (x, v, angle, its rate) after 0.02 s of a push of 10 N to the left or right, by Euler's rule."""
    _, v, angle, spin = state
    mass, pole, half = 1.1, 0.1, 0.5  # kg of both, kg of the pole, half its length in m
    force = jnp.where(action == 1, 10.0, -10.0) + pole * half * spin**2 * jnp.sin(angle)
    turn = 9.8 * jnp.sin(angle) - jnp.cos(angle) * force / mass
    turn = turn / (half * (4 / 3 - pole * jnp.cos(angle) ** 2 / mass))
    return state + 0.02 * jnp.stack([v, (force - pole * half * turn * jnp.cos(angle)) / mass, spin, turn])


def swing(state: jax.Array, action: jax.Array) -> jax.Array:
    """Two links (angle, bend, their rates) after 0.2 s of a torque of -1, 0 or 1 N m, by a Runge-Kutta step."""

    def rates(state: jax.Array) -> jax.Array:
        angle, bend, spin, turn = state  # links of 1 m, 1 kg and 1 kg m²
        joint = 0.5 * jnp.sin(bend)
        d1, d2 = 3.5 + jnp.cos(bend), 1.25 + 0.5 * jnp.cos(bend)
        pull2 = 4.9 * jnp.sin(angle + bend)
        pull1 = 14.7 * jnp.sin(angle) + pull2 - joint * (turn**2 + 2 * turn * spin)
        faster = (action - 1.0 + d2 / d1 * pull1 - joint * spin**2 - pull2) / (1.25 - d2**2 / d1)
        return jnp.stack([spin, turn, -(d2 * faster + pull1) / d1, faster])

    h = 0.2
    k1 = rates(state)
    k2 = rates(state + h / 2 * k1)
    k3 = rates(state + h / 2 * k2)
    state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + rates(state + h * k3))
    fastest = jnp.pi * jnp.array([4.0, 9.0])
    angles = (state[:2] + jnp.pi) % (2 * jnp.pi) - jnp.pi
    return jnp.concatenate([angles, jnp.clip(state[2:], -fastest, fastest)])


def fallen(state: jax.Array) -> jax.Array:
    """The cart is 2.4 m off, or the pole 12 degrees."""
    return (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > jnp.pi / 15)


def raised(state: jax.Array) -> jax.Array:
    """The end of the second link is 1 m above the pivot of the first."""
    return -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > 1


def angles_seen(state: jax.Array) -> jax.Array:
    """Cosine and sine of both angles, and their rates [6]."""
    c, s = jnp.cos(state[:2]), jnp.sin(state[:2])
    return jnp.concatenate([jnp.stack([c, s], 1).ravel(), state[2:]])


CART_POLE = Task("CartPole-v1", 2, 0.05, push, fallen, lambda state: state, (1.0, 1.0))
ACROBOT = Task("Acrobot-v1", 3, 0.1, swing, raised, angles_seen, (-1.0, 0.0))


class Game(NamedTuple):
    """A game that is being played: its state, and its steps and return so far."""

    state: Any
    steps: Any
    total: Any


class Outcome(NamedTuple):
    """Reward of a step, if it ends the game, if by the limit of steps alone, and then the return, else NaN."""

    reward: Any
    over: Any
    cut: Any
    result: Any


def begun(task: Task, key: jax.Array) -> Game:
    """A game at its start."""
    state = jax.random.uniform(key, (4,), minval=-task.noise, maxval=task.noise)
    return Game(state, jnp.zeros((), jnp.int32), jnp.zeros(()))


def played(task: Task, game: Game, action: jax.Array, key: jax.Array) -> tuple[Game, Outcome]:
    """One step of a game; after the last step a new game starts."""
    state = task.step(game.state, action)
    done = task.over(state)
    reward = jnp.where(done, task.rewards[1], task.rewards[0])
    game = Game(state, game.steps + 1, game.total + reward)
    cut = ~done & (game.steps == LIMIT)
    over = done | cut
    outcome = Outcome(reward, over, cut, jnp.where(over, game.total, jnp.nan))
    return jax.tree.map(lambda a, b: jnp.where(over, a, b), begun(task, key), game), outcome
