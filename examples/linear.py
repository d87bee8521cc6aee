"""Linear models: five billion points of 100 features in the memory of a few chunks, and two published figures.

    python examples/linear.py [folder for the picture, by default out] [--points=1e8] [--short]

Points are made as they are needed, by a counter-based generator (`_points.py`), and fed to `nn.linear.stream` on all
cores: each core fills a state with 64 chunks, and merges it into its total. The total has 101 x 101 numbers, whatever
the number of points. Time is measured with the generator and for the generator alone.

With --points=1e8 on two cores of an AMD EPYC "gram" in float64 takes 93 s, 1.07 million points a second, so 1.3 hours
for 5e9 points; memory 525 MiB after the first chunks and 529 MiB after the last. In the same run "gram" in float32
makes 1.34 million points a second, "qr" in float32 515 000, "qr" in float64 421 000, the generator alone 13.4 million.

The accuracy is that of a stream of 8 chunks, against NumPy's least squares in float64, for columns of condition
number 1 to 1e8. With "qr" the error is κ roundings, with "gram" κ² roundings. In float64 "gram" is enough up to 1e6.

The figures of scikit-learn on diabetes and breast_cancer are met to their last digit, in float32.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # LAPACK's threads slow down a QR; the cores are devices instead

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT, folder, option, subplots
from _points import CHUNK, FEATURES, NOISE, points

import jaxnn as nn
from jaxnn import linear

CORES = 2
CHUNKS = 64  # of points in a state before it is merged: rounding adds up over them
POINTS = option("points", 2 * CORES * CHUNK * CHUNKS if SHORT else 2e7)
WANTED = 5e9
HOURS = 3  # at most, for the points wanted
FORMS = [("gram", "float32"), ("gram", "float64"), ("qr", "float32"), ("qr", "float64")]
LONG = FORMS[1]  # the form of the long run: more accurate than "qr" in float32, and faster
CONDITIONS = 10.0 ** np.arange(0, 9, 4 if SHORT else 1)
R2, LOG_LOSS = 0.517748, 0.05339186  # of scikit-learn 1.9: LinearRegression, LogisticRegression on scaled columns
MESH = jax.sharding.PartitionSpec("cores")


def filled(empty: Any, take: Any, total: Any, first: jax.Array) -> Any:
    """The total of each core after CHUNKS more chunks from the number `first` [1]."""
    numbers = first[0] + jnp.arange(CHUNKS)
    varying = jax.tree.map(lambda a: jax.lax.pcast(a, "cores", to="varying"), empty)
    state, _ = jax.lax.scan(lambda state, number: (take(state, *points(number)), None), varying, numbers)
    merged = linear.merge(jax.tree.map(lambda a: a[0], total), state)
    return jax.tree.map(lambda a: a[None], merged)


def generated(state: Any, x: jax.Array, y: jax.Array) -> Any:
    """In place of `linear.update`: all points are made, and only added up."""
    return state._replace(total=state.total + (x.sum() + y.sum()).astype(state.total.dtype))


def memory() -> float:
    """Resident memory of the process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def streamed(method: str, dtype: str, most: float, take: Any = linear.update) -> tuple[Any, list[tuple[float, ...]]]:
    """A regression on `most` points, and after each part of them (points, seconds, MiB)."""
    mesh = jax.make_mesh((CORES,), ("cores",), axis_types=(jax.sharding.AxisType.Auto,))
    empty = linear.stream(FEATURES, method=method, dtype=dtype)
    totals = jax.tree.map(lambda a: jnp.zeros((CORES, *a.shape), a.dtype), empty)
    step = jax.jit(jax.shard_map(partial(filled, empty, take), mesh=mesh, in_specs=MESH, out_specs=MESH))
    jax.block_until_ready(step(totals, jnp.zeros(CORES, jnp.int32)))  # compiles
    part, start, log = CORES * CHUNKS * CHUNK, time.perf_counter(), []
    for i in range(max(1, round(most / part))):
        totals = jax.block_until_ready(step(totals, (CORES * i + jnp.arange(CORES)) * CHUNKS))
        log.append(((i + 1) * part, time.perf_counter() - start, memory()))
    return linear.merge(*(jax.tree.map(lambda a, i=i: a[i], totals) for i in range(CORES))), log


@jax.jit
def added(state: Any, chunks: Any) -> Any:
    """The state after all chunks."""
    return jax.lax.scan(lambda state, chunk: (linear.update(state, *chunk), None), state, chunks)[0]


def errors(condition: float) -> list[float]:
    """Largest error of the weights of each form for columns of a condition number; the true weights are 1."""
    random, n = np.random.default_rng(0), 8 * CHUNK
    u, v = (np.linalg.qr(random.normal(size=(rows, FEATURES)))[0] for rows in (n, FEATURES))
    x = u * np.geomspace(1, 1 / condition, FEATURES) @ v.T
    y = x.sum(1)
    found = []
    for method, dtype in FORMS:
        chunks = jnp.asarray(x.reshape(-1, CHUNK, FEATURES), dtype), jnp.asarray(y.reshape(-1, CHUNK), dtype)
        empty = linear.stream(FEATURES, method=method, dtype=dtype)
        state = added(empty, chunks)
        rows = np.asarray(chunks[0], np.float64).reshape(n, -1), np.asarray(chunks[1], np.float64).reshape(n)
        want = np.linalg.lstsq(*rows)[0]  # of the same rounded points
        found.append(float(np.abs(linear.solve(state, intercept=False, rcond=0.0).weights - want).max()))
    return found


def published() -> tuple[float, float]:
    """R² on diabetes, and log loss on breast_cancer with scaled columns, on the training data."""
    x, y = (jnp.asarray(a, jnp.float32) for a in nn.data.load("diabetes").train)
    r2 = nn.metrics.r2(linear.predict(linear.linear_regression(x, y), x), y)
    x, y = nn.data.load("breast_cancer").train
    x, y = jnp.asarray((x - x.mean(0)) / x.std(0), jnp.float32), jnp.asarray(y, jnp.int32)
    logits = linear.predict(jax.jit(linear.logistic_regression)(x, y), x)
    return float(r2), float(nn.losses.binary_cross_entropy(logits, y).mean())


def picture(path: Path, log: np.ndarray, found: np.ndarray) -> None:
    """Time and memory of the long run by points, up to those wanted; errors by condition number."""
    figure, (left, middle, right) = subplots(1, 3, (15, 4.5))
    n, seconds, mebibytes = log.T
    left.loglog(n, seconds / 60, label="measured")
    left.loglog([n[-1], WANTED], np.array([1, WANTED / n[-1]]) * seconds[-1] / 60, "--", label="projected")
    left.axhline(60 * HOURS, color="0.6", lw=1)
    left.set(xlabel=f"points of {FEATURES} features", ylabel="minutes", title=f"{LONG[0]} in {LONG[1]}")
    left.legend()
    middle.plot(n, mebibytes)
    middle.set(xlabel="points", ylabel="MiB of the process", title="memory", ylim=(0, 1.3 * mebibytes.max()))
    for (method, dtype), error in zip(FORMS, found.T, strict=True):
        right.loglog(CONDITIONS, np.maximum(error, 1e-17), marker="o", ms=4, label=f"{method} in {dtype}")
    right.set(xlabel="condition number", ylabel="largest error of weights of 1", ylim=(1e-16, 1e3), title="accuracy")
    right.legend()
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measures rates, accuracy and the long run, prints them and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    jax.config.update("jax_enable_x64", True)

    r2, log_loss = published()
    print(f"diabetes R² {r2:.6f}, breast_cancer log loss {log_loss:.8f}", flush=True)
    (done, seconds, _) = streamed("gram", "float32", POINTS / 10, generated)[1][-1]
    print(f"generator alone       {done / seconds:12,.0f} points a second", flush=True)
    for method, dtype in FORMS[:1] if SHORT else [f for f in FORMS if f != LONG]:
        (done, seconds, _) = streamed(method, dtype, POINTS / 40)[1][-1]
        print(f"{method:5} in {dtype}      {done / seconds:12,.0f} points a second", flush=True)
    total, log = streamed(*LONG, POINTS)
    log, model = np.array(log), linear.solve(total)
    hours = WANTED / log[-1, 0] * log[-1, 1] / 3600
    wrong = np.abs(model.weights - np.arange(FEATURES) / FEATURES).max()
    print(f"{LONG[0]:5} in {LONG[1]}      {log[-1, 0] / log[-1, 1]:12,.0f} points a second: {log[-1, 0]:.3g} points in "
          f"{log[-1, 1]:.0f} s, so {WANTED:.0e} in {hours:.2f} h")  # fmt: skip
    print(f"error of the weights {wrong:.1e}; memory {log[0, 2]:.0f} MiB at first, {log[-1, 2]:.0f} MiB at the end")
    found = np.array([errors(c) for c in CONDITIONS])
    print("condition  " + "".join(f"{m} in {d}".rjust(18) for m, d in FORMS))
    for condition, row in zip(CONDITIONS, found, strict=True):
        print(f"{condition:9.0e}  " + "".join(f"{e:18.1e}" for e in row))
    picture(folder() / "linear.png", log, found)

    assert abs(r2 - R2) < 1e-5, "another R² than scikit-learn"
    assert abs(log_loss - LOG_LOSS) < 1e-5, "another log loss than scikit-learn"
    assert wrong < 10 * NOISE / np.sqrt(log[-1, 0]), "the weights are further off than the noise explains"
    assert SHORT or log[-1, 2] < log[0, 2] + 100, "the memory grows with the points"


if __name__ == "__main__":
    main()
