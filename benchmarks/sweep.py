"""Successive halving beside the whole grid: the digits, 45 points of rate and weight decay, seeds of runs apart.

    python benchmarks/sweep.py

benchmarks/sweep.txt has a run of it. The noise is the standard deviation, over seeds, of the value of the best point.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxnn as nn

EPOCHS = 54  # rungs at 6 and 18
SEEDS = 5
BATCH = 64
POINTS = nn.points.grid(rate=np.geomspace(1e-4, 1e-1, 9), decay=[0.0, 1e-3, 1e-2, 1e-1, 1.0])
MODEL = nn.serial(nn.dense(64), nn.relu, nn.dropout(0.2), nn.dense(64), nn.relu, nn.dense(10))


def make(point: Any) -> nn.train.Trainer:
    optimizer = nn.adamw(point["rate"], weight_decay=point["decay"])
    metrics = {"accuracy": nn.metrics.accuracy}
    return nn.trainer(MODEL, nn.losses.softmax_cross_entropy, optimizer, metrics=metrics)


def alone(key: jax.Array, point: Any, train: Any, valid: Any) -> Any:
    return nn.fit(make(point), key, train, valid, epochs=EPOCHS, batch_size=BATCH)


def taken(search: Callable[[], nn.Sweep]) -> tuple[nn.Sweep, float]:
    """A search and its seconds, compiled before."""
    jax.block_until_ready(search().results)
    began = time.perf_counter()
    found = search()
    jax.block_until_ready(found.results)
    return found, time.perf_counter() - began


def main() -> None:
    digits = load_digits()
    data = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target, jnp.int32)
    train, valid = nn.data.split(0, data, 0.3, stratify=data[1])
    n = len(POINTS["rate"])
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}; {n} points, {EPOCHS} epochs of {len(train[1])} digits")
    print("seed  search    winner: rate  decay   valid loss  accuracy  its rank in the grid   steps  seconds")
    grids, winners = [], []
    for seed in range(SEEDS):
        key = jax.random.key(seed)
        run = partial(alone, key)
        searches = {
            "grid": partial(nn.sweep, run, POINTS, train, valid),
            "halving": partial(nn.halving, make, POINTS, key, train, valid, epochs=EPOCHS, batch_size=BATCH),
        }
        for name, search in searches.items():
            found, seconds = taken(search)
            steps = int(found.results.ts.step.sum())
            if name == "grid":
                grids.append(np.asarray(found.results.best_value))
                whole = steps
            best = found.best()
            winners.append((name, best.row))
            at = int(np.nanargmin(best.result.history["valid"]["loss"]))
            accuracy = float(best.result.history["valid"]["accuracy"][at])
            rank = int((grids[-1] < grids[-1][best.row]).sum()) + 1
            rate, decay = (float(best.point[name]) for name in ("rate", "decay"))
            print(
                f"{seed:4}  {name:8}{rate:14.5f}{decay:8.3f}{float(best.value):12.4f}{accuracy:10.4f}{rank:14}"
                f"{steps / whole:16.2f}{seconds:9.2f}",
                flush=True,
            )
    values = np.stack(grids)  # [seeds, points]
    loss = {
        name: np.mean([values[i // 2, row] for i, (s, row) in enumerate(winners) if s == name]) for name in searches
    }
    noise = values[:, values.mean(0).argmin()].std(ddof=1)
    print(f"mean loss of the winners: grid {loss['grid']:.4f}, halving {loss['halving']:.4f}; noise {noise:.4f}")
    assert loss["halving"] - loss["grid"] <= noise, (loss, noise)


if __name__ == "__main__":
    main()
