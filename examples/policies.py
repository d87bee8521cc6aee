"""Reinforcement learning: PPO on CartPole and Acrobot, simulation included, 16 seeds in one program.

    python examples/policies.py [folder for the picture, by default out] [--short]

The games (`_games.py`) are pure functions with the equations of Gymnasium: a step in float32 differs from that of
Gymnasium by at most 1.3e-7 in CartPole and 1.4e-6 in Acrobot. PPO (`_ppo.py`) consists of pure functions, too. So
games, policies, updates and seeds compile to one program. Network, settings and number of steps are those of CleanRL,
with one difference: a game that the limit of 500 steps cuts off keeps its value. Return of 100 games after 500 000
steps, mean ± deviation of 16 seeds, actions drawn as in training:

                             CartPole-v1      Acrobot-v1
    before training                 22.7          -498.9
    PPO                      500.0 ± 0.0     -83.7 ± 2.1
    CleanRL's PPO           492.4 ± 13.1     -89.9 ± 6.3
    OpenAI Baselines' PPO    497.5 ± 4.0     -81.8 ± 5.6
    Gymnasium: solved                475            -100

Where cut games count as ended, as in CleanRL, CartPole ends at 488.2 ± 9.3, worst seed 461.4: the value of a balanced
pole then depends on the number of steps, which the policy does not see. On Acrobot OpenAI Baselines is 2 points better,
which is one deviation, and a rule of one line, a torque with the sign of the joint's rate, is as good:
-84.4 in 100 games.

16 million steps take 127 s of processor time, compile and updates included: 126 000 a second on one core. Gymnasium
alone, without a policy, makes 126 000 steps of CartPole a second there, and 20 000 of Acrobot.

Schulman et al., Proximal Policy Optimization Algorithms, 2017, arXiv:1707.06347.
Lu et al., Discovered Policy Optimisation, 2022, arXiv:2210.05639: a whole run as one program, and seeds by vmap.
Huang et al., CleanRL, 2022, JMLR 23(274), and its documentation of ppo.py: the figures of both implementations.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _games import ACROBOT, CART_POLE, LIMIT, Task, begun
from _pictures import SHORT, band, clock, folder, subplots
from _ppo import GAMES, STEPS, act, learner, network

import jaxnn as nn

SEEDS = 4 if SHORT else 16
CORES = 2  # the seeds are shared out to them
TOTAL = 30_720 if SHORT else 500_000  # steps of a seed
UPDATES = TOTAL // (GAMES * STEPS)
PIECES = 5 if SHORT else 20  # of a run: after each the progress is shown
JUDGED = 100  # games by which a policy is judged, its actions drawn as in training
LEAST_RISE = 10 if SHORT else 100  # of the return in training
CLEANRL = {CART_POLE: 492.4, ACROBOT: -89.9}  # returns of its PPO after as many steps, deviations 13.1 and 6.3
BASELINES = {CART_POLE: 497.5, ACROBOT: -81.8}  # of OpenAI Baselines' PPO, deviations 4.0 and 5.6
SOLVED = {CART_POLE: 475, ACROBOT: -100}  # Gymnasium's thresholds
MARGIN = 0.0  # over CleanRL's figures: with its settings the same algorithm is at least as good


class Found(NamedTuple):
    """Returns in training [seeds, pieces], before and after it [seeds]; a game [t, d], and its seed's params."""

    curves: np.ndarray
    before: np.ndarray
    after: np.ndarray
    game: np.ndarray
    params: Any


def judged(task: Task, params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean return of many games; the inputs in one of them [t, d], and its number of steps."""
    games = jax.vmap(partial(begun, task))(jax.random.split(key, JUDGED))
    _, steps = jax.lax.scan(partial(act, task, params), games, jax.random.split(jax.random.fold_in(key, 1), LIMIT))
    end = jnp.argmax(steps.outcome.over, 0)
    return jnp.take_along_axis(steps.outcome.result, end[None], 0).mean(), steps.seen[:, 0], end[0] + 1


def learned(task: Task) -> Found:
    """All seeds of a task, trained and judged."""
    start, update = learner(task, UPDATES)
    piece = partial(jax.lax.scan, update, length=UPDATES // PIECES)
    keys, curves, seconds = jax.random.split(jax.random.key(0), SEEDS), [], 0.0
    quick = nn.compiler_options(quick=True)
    mesh = jax.make_mesh((CORES,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,))
    run = jax.jit(jax.vmap(start), compiler_options=quick)(keys)
    run = jax.device_put(run, jax.NamedSharding(mesh, jax.P("seeds")))
    judge = jax.jit(jax.vmap(partial(judged, task)), compiler_options=quick)
    before = np.asarray(judge(run[0].params, keys)[0])
    advance = jax.jit(jax.vmap(piece), donate_argnums=0).lower(run).compile(quick)
    print(f"{task.name}: return in training, mean of {SEEDS} seeds, by steps of each")
    for i in range(PIECES):
        began = time.perf_counter()
        run, returns = jax.block_until_ready(advance(run))
        seconds += time.perf_counter() - began
        curves.append(np.nanmean(returns, 1))
        print(f"{(i + 1) * TOTAL / PIECES:9,.0f} {curves[-1].mean():8.1f}", end="\n" if i % 5 == 4 else "", flush=True)
    after, games, lengths = (np.asarray(a) for a in judge(run[0].params, keys))
    print(f"{SEEDS * UPDATES * GAMES * STEPS / seconds:,.0f} steps a second")
    print(f"return of {JUDGED} games: before training {before.mean():.1f}, after it {after.mean():.1f} ± "
          f"{after.std(ddof=1):.1f}, worst seed {after.min():.1f}; CleanRL {CLEANRL[task]}\n", flush=True)  # fmt: skip
    best = int(np.argmax(after))
    params = jax.tree.map(lambda a: a[best], run[0].params)
    return Found(np.stack(curves, 1), before, after, games[best, : lengths[best]], params)


def picture(path: Path, found: dict[Task, Found]) -> None:
    """Returns in training, with the published ones; CartPole's policy and a game of it; a game of Acrobot."""
    figure, axes = subplots(2, 2, (13, 8.5), width_ratios=(1.2, 1))
    for left, (task, of) in zip(axes[:, 0], found.items(), strict=True):
        steps = (np.arange(PIECES) + 0.5) * TOTAL / PIECES
        band(left, steps, of.curves, f"PPO in training, mean and range of {SEEDS} seeds", "tab:blue")
        for level, label, style in (
            (CLEANRL, "CleanRL", "-"),
            (BASELINES, "OpenAI Baselines", "--"),
            (SOLVED, "solved", ":"),
        ):
            left.axhline(level[task], color="0.3", ls=style, lw=1, label=f"{label}: {level[task]}")
        left.axhline(of.before.mean(), color="tab:red", ls=":", lw=1, label=f"before training: {of.before.mean():.1f}")
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
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()
    found = {task: learned(task) for task in (CART_POLE, ACROBOT)}
    picture(out / "policies.png", found)
    print(f"{took()}; the picture is {out / 'policies.png'}")
    for task, of in found.items():
        assert of.after.mean() > of.before.mean() + LEAST_RISE, f"{task.name}: hardly better than before training"
        assert SHORT or of.after.mean() > SOLVED[task], f"{task.name} is not solved"
        assert SHORT or of.after.mean() > CLEANRL[task] + MARGIN, f"{task.name}: below CleanRL's figure"


if __name__ == "__main__":
    main()
