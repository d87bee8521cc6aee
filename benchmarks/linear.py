"""Logistic regression on a million examples of 50 features, over scikit-learn's, and the accuracy of both.

    python benchmarks/linear.py [rounds, by default 5]

All rows alternate in one process, each from the same float32 data. scikit-learn runs with its default tolerance and
solver, "lbfgs", and with "newton-cholesky". The ratio is that of the medians, its range that over the rounds. The
excess is that of the mean objective over the lowest found, in float64. Compile time is apart.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

from jaxnn import linear

EXAMPLES, FEATURES = 1_000_000, 50
OURS = "jaxnn"
Model = tuple[np.ndarray, float]


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """x [n, d] of deviation 1, and labels with the odds of a linear score of deviation 2."""
    random = np.random.default_rng(0)
    x = random.standard_normal((EXAMPLES, FEATURES), np.float32)
    score = x @ random.standard_normal(FEATURES, np.float32) * (2 / FEATURES**0.5)
    return x, (random.random(EXAMPLES) < 1 / (1 + np.exp(-score))).astype(np.int32)


def objective(x: np.ndarray, y: np.ndarray, model: Model) -> float:
    """Mean loss and penalty in float64."""
    w, b = (np.asarray(a, np.float64) for a in model)
    z = x.astype(np.float64) @ w + b
    return float(np.mean(np.logaddexp(0, np.where(y == 1, -z, z))) + (w @ w) / 2 / len(x))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    x, y = drawn()
    on_device = jnp.asarray(x), jnp.asarray(y)
    start = time.perf_counter()
    program = jax.jit(linear.logistic_regression).lower(*on_device).compile()
    compiled = time.perf_counter() - start

    def ours() -> Model:
        model = jax.block_until_ready(program(*on_device))
        return np.asarray(model.weights), float(model.intercept)

    def peer(solver: str) -> Callable[[], Model]:
        def run() -> Model:
            model = LogisticRegression(solver=solver).fit(x, y)
            return model.coef_[0], float(model.intercept_[0])

        return run

    rows = {OURS: ours, "scikit-learn, lbfgs": peer("lbfgs"), "scikit-learn, newton-cholesky": peer("newton-cholesky")}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    values = {name: objective(x, y, run()) for name, run in rows.items()}
    for i in range(rounds):
        for name in list(rows)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            rows[name]()
            seconds[name].append(time.perf_counter() - start)
    device = jax.devices()[0].device_kind
    print(
        f"jax {jax.__version__}, scikit-learn {sklearn.__version__}, {device}, {os.cpu_count()} cores; {rounds} rounds"
    )
    print(f"{EXAMPLES} x {FEATURES}; compile {compiled:.1f} s")
    print(f"{'':32}{'s':>8}   over jaxnn{'':12}excess")
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, seconds[OURS], strict=True)]
        ratio = statistics.median(own) / statistics.median(seconds[OURS])
        over = f"{ratio:.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        print(f"{name:32}{statistics.median(own):8.2f}   {over:20}{values[name] - min(values.values()):8.1e}")


if __name__ == "__main__":
    main()
