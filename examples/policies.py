"""Reinforcement learning: PPO on CartPole and Acrobot, simulation included, 16 seeds in one program.

    python examples/policies.py [folder for the picture, by default out] [--short]
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, folder, subplots

import jaxnn as nn

SEEDS = 4 if SHORT else 16
CORES = 2  # the seeds are shared out to them
GAMES, STEPS = 4, 128  # games at a time, and steps of each between updates; these and the next are those of CleanRL
EPOCHS, BATCHES = 4, 4  # passes over the steps of an update, and minibatches of each
RATE, EPS = 2.5e-4, 1e-5  # of Adam; the rate falls to 0 along a line
DISCOUNT, TRACE = 0.99, 0.95
CLIP, ENTROPY, VALUE, NORM = 0.2, 0.01, 0.5, 0.5
TOTAL = 61_440 if SHORT else 500_000  # steps of a seed
UPDATES = TOTAL // (GAMES * STEPS)
PIECES = 5 if SHORT else 20  # of a run: after each the progress is shown
LIMIT = 500  # steps of a game of both tasks
LEAST_RISE = 20 if SHORT else 100  # of the return over that of random actions
MARGIN = 0.0  # over CleanRL's figure, whose settings these are: the same algorithm should be as good
JUDGED = 100  # games by which a trained policy is judged, its actions drawn as in training


class Task(NamedTuple):
    """A game: its first state from a key, its next state from a state and an action, its end, and what is seen of it."""

    name: str
    actions: int
    start: Callable[..., Any]
    step: Callable[..., Any]
    over: Callable[..., Any]
    seen: Callable[..., Any]
    reward: Callable[..., Any]
    solved: float  # mean return from which Gymnasium calls the task solved
    published: tuple[float, float]  # mean returns after as many steps: CleanRL's PPO, OpenAI Baselines' PPO


def push(state: jax.Array, action: jax.Array) -> jax.Array:
    """Cart and pole (x, v, angle, its rate) after 0.02 s of a push of 10 N to the left or right, by Euler's rule."""
    _, v, angle, spin = state
    mass, pole, half = 1.1, 0.1, 0.5  # of cart and pole, of the pole, half its length
    force = jnp.where(action == 1, 10.0, -10.0) + pole * half * spin**2 * jnp.sin(angle)
    turn = 9.8 * jnp.sin(angle) - jnp.cos(angle) * force / mass
    turn = turn / (half * (4 / 3 - pole * jnp.cos(angle) ** 2 / mass))
    return state + 0.02 * jnp.stack([v, (force - pole * half * turn * jnp.cos(angle)) / mass, spin, turn])


def swing(state: jax.Array, action: jax.Array) -> jax.Array:
    """Two links (two angles, their rates) after 0.2 s of a torque of -1, 0 or 1 at the joint, by a Runge-Kutta step."""

    def rate(state: jax.Array) -> jax.Array:
        first, second, spin, turn = state
        joint = 0.5 * jnp.sin(second)
        d1, d2 = 3.5 + jnp.cos(second), 1.25 + 0.5 * jnp.cos(second)
        pull2 = 4.9 * jnp.sin(first + second)
        pull1 = 14.7 * jnp.sin(first) + pull2 - joint * (turn**2 + 2 * turn * spin)
        bend = (action - 1.0 + d2 / d1 * pull1 - joint * spin**2 - pull2) / (1.25 - d2**2 / d1)
        return jnp.stack([spin, turn, -(d2 * bend + pull1) / d1, bend])

    h = 0.2
    k1 = rate(state)
    k2 = rate(state + h / 2 * k1)
    k3 = rate(state + h / 2 * k2)
    state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(state + h * k3))
    fastest = jnp.pi * jnp.array([4.0, 9.0])
    angles = (state[:2] + jnp.pi) % (2 * jnp.pi) - jnp.pi
    return jnp.concatenate([angles, jnp.clip(state[2:], -fastest, fastest)])


CART_POLE = Task(
    "CartPole-v1",
    actions=2,
    start=lambda key: jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05),
    step=push,
    over=lambda state: (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > jnp.pi / 15),
    seen=lambda state: state,
    reward=lambda over: 1.0,
    solved=475,
    published=(492.4, 497.5),
)
ACROBOT = Task(
    "Acrobot-v1",
    actions=3,
    start=lambda key: jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1),
    step=swing,
    over=lambda state: -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > 1,
    seen=lambda s: jnp.stack([jnp.cos(s[0]), jnp.sin(s[0]), jnp.cos(s[1]), jnp.sin(s[1]), s[2], s[3]]),
    reward=lambda over: jnp.where(over, 0.0, -1.0),
    solved=-100,
    published=(-89.9, -81.8),
)


class Game(NamedTuple):
    """A game that is being played: its state, the steps and the return so far."""

    state: jax.Array
    steps: Any = 0
    total: Any = 0.0


class Step(NamedTuple):
    """What a step was and what came of it; the result is the return of a game that it ended, or NaN."""

    seen: Any
    action: Any
    log_prob: Any
    value: Any
    reward: Any = None
    over: Any = None
    result: Any = None


def network(task: Task) -> nn.Layer:
    """What is seen [n, d] -> logits of the actions [n, actions] and value [n, 1], by two networks."""

    def tower(features: int, scale: float) -> nn.Layer:
        hidden = [(nn.dense(64, w_init=partial(nn.init.orthogonal, scale=2**0.5)), nn.tanh) for _ in range(2)]
        last = nn.dense(features, w_init=partial(nn.init.orthogonal, scale=scale))
        return nn.serial(*hidden[0], *hidden[1], last)

    return nn.parallel(tower(task.actions, 0.01), tower(1, 1.0), join=lambda *ys: ys)


def played(task: Task, act: Callable[..., Step], games: Game, key: jax.Array) -> tuple[Game, Step]:
    """One step of all games; one that ends, or reaches the limit of steps, starts again."""
    key, own = jax.random.split(key)
    step = act(own, jax.vmap(task.seen)(games.state))

    def one(game: Game, action: jax.Array, key: jax.Array) -> tuple[Any, ...]:
        state = task.step(game.state, action)
        over = task.over(state)
        reward = jnp.asarray(task.reward(over))
        game = Game(state, game.steps + 1, game.total + reward)
        over |= game.steps == LIMIT
        result = jnp.where(over, game.total, jnp.nan)
        new = Game(task.start(key), jnp.zeros_like(game.steps), jnp.zeros_like(game.total))
        return jax.tree.map(lambda a, b: jnp.where(over, a, b), new, game), reward, over, result

    games, *after = jax.vmap(one)(games, step.action, jax.random.split(key, len(games.steps)))
    return games, Step(*step[:4], *after)


def begun(task: Task, key: jax.Array, n: int) -> Game:
    """That many games at their start."""
    return Game(jax.vmap(task.start)(jax.random.split(key, n)), jnp.zeros(n, jnp.int32), jnp.zeros(n))


def actor(model: nn.Layer, params: Any, key: jax.Array, seen: jax.Array) -> Step:
    """Actions drawn by the policy."""
    (logits, value), _ = model.apply(params, {}, seen)
    action = nn.distributions.categorical_sample(key, logits)
    return Step(seen, action, nn.distributions.categorical_log_prob(logits, action), value[:, 0])


def advantages(steps: Step, last: jax.Array) -> jax.Array:
    """Generalized advantage estimation [t, n], with the value of what is seen after the last step [n]."""

    def back(later: Any, step: Any) -> Any:
        gain, following = later
        reward, value, over = step
        goes_on = 1 - over.astype(value.dtype)
        gain = reward + DISCOUNT * following * goes_on - value + DISCOUNT * TRACE * goes_on * gain
        return (gain, value), gain

    start = jnp.zeros_like(last), last
    return jax.lax.scan(back, start, (steps.reward, steps.value, steps.over), reverse=True)[1]


def objective(model: nn.Layer, params: Any, state: Any, batch: Any, **how: Any) -> Any:
    """PPO's clipped objective, with that of the values, clipped likewise, and the entropy."""
    old, gain = batch
    (logits, value), _ = model.apply(params, state, old.seen, **how)
    value, target = value[:, 0], gain + old.value
    ratio = jnp.exp(nn.distributions.categorical_log_prob(logits, old.action) - old.log_prob)
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    policy = -jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gain).mean()
    near = old.value + jnp.clip(value - old.value, -CLIP, CLIP)
    error = jnp.maximum((value - target) ** 2, (near - target) ** 2).mean() / 2
    return policy + VALUE * error - ENTROPY * nn.distributions.categorical_entropy(logits).mean(), (state, {})


def learner(task: Task) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two functions of one seed: its start from a key, and a piece of its run with the results of the games."""
    model = network(task)
    rate = optax.linear_schedule(RATE, 0.0, UPDATES * EPOCHS * BATCHES)
    optimizer = optax.chain(optax.clip_by_global_norm(NORM), nn.adam(rate, eps=EPS))
    trainer = nn.objective_trainer(lambda key, seen: model.init(key, seen), partial(objective, model), optimizer)

    def start(key: jax.Array) -> Any:
        games = begun(task, jax.random.fold_in(key, 0), GAMES)
        return trainer.init(key, jax.vmap(task.seen)(games.state)), games, jax.random.fold_in(key, 1)

    def update(run: Any, _: Any) -> Any:
        ts, games, key = run
        key, for_games, for_order = jax.random.split(key, 3)
        act = partial(actor, model, ts.params)
        games, steps = jax.lax.scan(partial(played, task, act), games, jax.random.split(for_games, STEPS))
        last = model.apply(ts.params, {}, jax.vmap(task.seen)(games.state))[0][1][:, 0]
        data = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (steps, advantages(steps, last)))

        def epoch(ts: Any, key: jax.Array) -> Any:
            order = jax.random.permutation(key, GAMES * STEPS).reshape(BATCHES, -1)
            return jax.lax.scan(lambda ts, i: trainer.step(ts, jax.tree.map(lambda a: a[i], data)), ts, order)

        ts, _ = jax.lax.scan(epoch, ts, jax.random.split(for_order, EPOCHS))
        return (ts, games, key), jnp.nanmean(steps.result)

    return start, lambda run: jax.lax.scan(update, run, length=UPDATES // PIECES)


def judged(task: Task, act: Callable[..., Step], key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean return of many games, what is seen in one of them [t, d], and its number of steps."""
    key, own = jax.random.split(key)
    _, steps = jax.lax.scan(partial(played, task, act), begun(task, own, JUDGED), jax.random.split(key, LIMIT))
    first = jnp.argmax(steps.over, 0)
    return jnp.take_along_axis(steps.result, first[None], 0).mean(), steps.seen[:, 0], first[0] + 1


def chance(task: Task, key: jax.Array, seen: jax.Array) -> Step:
    """Actions drawn without a policy."""
    return Step(seen, jax.random.randint(key, seen.shape[:1], 0, task.actions), None, None)


class Found(NamedTuple):
    """Returns in training [seeds, pieces], after it [seeds] and at random, one game [t, d] and its seed's params."""

    curves: np.ndarray
    after: np.ndarray
    at_random: float
    game: np.ndarray
    params: Any


def learned(task: Task) -> Found:
    """All seeds of a task, trained and judged."""
    start, piece = learner(task)
    keys, curves, seconds = jax.random.split(jax.random.key(0), SEEDS), [], 0.0
    mesh = jax.make_mesh((CORES,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,))
    run = jax.device_put(jax.jit(jax.vmap(start))(keys), jax.NamedSharding(mesh, jax.P("seeds")))
    advance = jax.jit(jax.vmap(piece), donate_argnums=0).lower(run).compile(nn.compiler_options())
    print(f"{task.name}: return in training, mean of {SEEDS} seeds, by steps of each")
    for i in range(PIECES):
        began = time.perf_counter()
        run, returns = jax.block_until_ready(advance(run))
        seconds += time.perf_counter() - began
        curves.append(np.nanmean(returns, 1))
        print(f"{(i + 1) * TOTAL / PIECES:9,.0f} {curves[-1].mean():8.1f}", end="\n" if i % 5 == 4 else "", flush=True)
    judge = jax.jit(jax.vmap(lambda params, key: judged(task, partial(actor, network(task), params), key)))
    after, games, lengths = (np.asarray(a) for a in judge(run[0].params, keys))
    at_random = jax.jit(partial(judged, task, partial(chance, task)))(jax.random.key(1))[0]
    print(
        f"{SEEDS * UPDATES * GAMES * STEPS / seconds:,.0f} steps a second. Return of {JUDGED} games after training "
        f"{after.mean():.1f} ± {after.std(ddof=1):.1f}, worst seed {after.min():.1f}; at random {at_random:.1f}; CleanRL "
        f"{task.published[0]}, OpenAI Baselines {task.published[1]}\n",
        flush=True,
    )
    best = int(np.argmax(after))
    params = jax.tree.map(lambda a: a[best], run[0].params)
    return Found(np.stack(curves, 1), after, float(at_random), games[best, : lengths[best]], params)


def picture(path: Path, found: dict[Task, Found]) -> None:
    """Returns in training, with the published ones; CartPole's policy and a game of it; a game of Acrobot."""
    figure, axes = subplots(2, 2, (13, 8.5), width_ratios=(1.2, 1))
    for left, (task, of) in zip(axes[:, 0], found.items(), strict=True):
        steps = (np.arange(PIECES) + 0.5) * TOTAL / PIECES
        band(left, steps, of.curves, f"PPO in training, mean and range of {SEEDS} seeds", "tab:blue")
        levels = (*task.published, task.solved), ("CleanRL", "OpenAI Baselines", "solved"), ("-", "--", ":")
        for value, label, style in zip(*levels, strict=True):
            left.axhline(value, color="0.3", ls=style, lw=1, label=f"{label}: {value}")
        left.axhline(of.at_random, color="tab:red", ls=":", lw=1, label=f"random actions: {of.at_random:.1f}")
        left.set(xlabel="steps of each seed", ylabel="return of a game", title=task.name)
        left.grid(alpha=0.3)
        left.legend(fontsize=8, loc="lower right")

    pole, links = axes[:, 1]
    of = found[CART_POLE]
    angle, spin = np.meshgrid(np.linspace(-12, 12, 121), np.linspace(-2, 2, 121))
    seen = np.stack([0 * angle, 0 * angle, np.radians(angle), spin], -1).reshape(-1, 4)
    right = jax.nn.softmax(network(CART_POLE).apply(of.params, {}, jnp.asarray(seen, jnp.float32))[0][0])[:, 1]
    extent = (-12, 12, -2, 2)
    shown = pole.imshow(right.reshape(angle.shape), cmap="RdBu", origin="lower", extent=extent, aspect="auto")
    figure.colorbar(shown, ax=pole, label="probability of a push to the right")
    pole.plot(np.degrees(of.game[:, 2]), of.game[:, 3], "k.-", lw=0.5, ms=3)
    pole.set(xlabel="angle of the pole, degrees", ylabel="its rate, radians a second", title="policy, and one game")

    game = found[ACROBOT].game
    down, bend = np.arctan2(game[:, 1], game[:, 0]), np.arctan2(game[:, 3], game[:, 2])
    elbow = np.stack([np.sin(down), -np.cos(down)], 1)
    hand = elbow + np.stack([np.sin(down + bend), -np.cos(down + bend)], 1)
    chosen = np.unique(np.linspace(0, len(game) - 1, 24).astype(int))
    for place, i in enumerate(chosen):
        x, y = np.stack([0 * elbow[i], elbow[i], hand[i]], 1)
        at = 3.2 * (place % 8), -5 * (place // 8)
        links.plot(x + at[0], y + at[1], "-", color="tab:blue", lw=2.5, marker="o", ms=4, mfc="k", mec="k")
        links.plot([at[0] - 1.3, at[0] + 1.3], [at[1] + 1] * 2, color="tab:red", lw=0.8)
        links.text(at[0], at[1] - 2.6, str(i), ha="center", va="center", fontsize=8, color="0.4")
    links.set(aspect="equal", title="one game by its steps; the red line is to be passed", xticks=[], yticks=[])
    links.spines[:].set_visible(False)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Trains and judges all seeds of both tasks, and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    jax.config.update("jax_num_cpu_devices", CORES)
    out, start, processors = folder(), time.perf_counter(), time.process_time()
    found = {task: learned(task) for task in (CART_POLE, ACROBOT)}
    picture(out / "policies.png", found)
    seconds, processors = time.perf_counter() - start, time.process_time() - processors
    print(f"{seconds:.0f} s, compile included; {processors:.0f} s of processors; the picture is {out / 'policies.png'}")

    for task, of in found.items():
        assert of.after.mean() > of.at_random + LEAST_RISE, f"{task.name}: hardly better than random actions"
        if not SHORT:
            assert of.after.mean() > task.solved, f"{task.name} is not solved"
            assert of.after.mean() > task.published[0] + MARGIN, f"{task.name}: below CleanRL's figure"


if __name__ == "__main__":
    main()
