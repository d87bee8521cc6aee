"""Exact search among a million vectors of 128 numbers, over NumPy's and scikit-learn's, and the ranks that they find.

    python benchmarks/retrieval.py [rounds, by default 7] [numbers of queries, by default 1 100]

The ten nearest by Euclidean distance, for 1 and for 100 queries, from the same float32 data. NumPy has one product, the
squared lengths computed before, `argpartition` and a sort; scikit-learn is `NearestNeighbors(algorithm="brute")`;
"lax.top_k" is that of the same product in one program. All rows alternate in one process. The ratio is that of the
medians; in brackets the interval around the median of the ratios by round. Other programs disturb processor seconds
less than wall time. "Same" is the fraction of the results of five queries that are those of float64, in order. Compile
time is apart.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from _ratios import interval
from sklearn.neighbors import NearestNeighbors

from jaxnn import retrieval

VECTORS, FEATURES, K = 1_000_000, 128, 10
CHECKED = 5  # queries that are searched in float64
OURS = "jaxnn"


def numpys(x: np.ndarray, halves: np.ndarray, queries: np.ndarray) -> np.ndarray:
    scores = halves - queries @ x.T
    at = np.argpartition(scores, K, axis=1)[:, :K]
    return np.take_along_axis(at, np.argsort(np.take_along_axis(scores, at, axis=1), axis=1), axis=1)


@jax.jit
def plain(x: jax.Array, halves: jax.Array, queries: jax.Array) -> jax.Array:
    return jax.lax.top_k(jnp.matmul(queries, x.T, precision="highest") - halves, K)[1]


def exact(x: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The nearest by float64 differences."""
    found = []
    for query in queries.astype(np.float64):
        squares = np.concatenate([((part - query) ** 2).sum(1) for part in np.array_split(x, 50)])
        found.append(np.argsort(squares, kind="stable")[:K])
    return np.array(found)


def compare(x: np.ndarray, queries: np.ndarray, rounds: int) -> None:
    halves = (x**2).sum(1) / 2
    index, on_device = jax.block_until_ready(retrieval.index(x, metric="euclidean")), jnp.asarray(queries)
    start = time.perf_counter()
    search = jax.jit(partial(retrieval.nearest, k=K)).lower(index, on_device).compile()
    compiled = time.perf_counter() - start
    peer = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x)
    rows: dict[str, Callable[[], np.ndarray]] = {
        OURS: lambda: np.asarray(search(index, on_device).indices),
        "lax.top_k": lambda: np.asarray(plain(index.vectors, jnp.asarray(halves), on_device)),
        "scikit-learn": lambda: peer.kneighbors(queries, return_distance=False),
        "NumPy": lambda: numpys(x, halves, queries),
    }
    want = exact(x, queries[:CHECKED])
    same = {name: (run()[:CHECKED] == want).mean() for name, run in rows.items()}
    wall: dict[str, list[float]] = {name: [] for name in rows}
    used: dict[str, list[float]] = {name: [] for name in rows}
    for i in range(rounds):
        for name in list(rows)[:: 1 if i % 2 else -1]:
            start, worked = time.perf_counter(), time.process_time()
            rows[name]()
            wall[name].append(time.perf_counter() - start)
            used[name].append(time.process_time() - worked)
    print(f"\n{len(queries)} queries; compile {compiled:.1f} s")
    print(f"{'':16}{'ms':>8}   over jaxnn{'':16}{'processors, ms':>16}   over jaxnn{'':14}same")
    for name in rows:
        cells = ""
        for seconds, width in ((wall, 8), (used, 16)):
            low, high = interval(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True))
            median = statistics.median(seconds[name])
            over = f"{median / statistics.median(seconds[OURS]):.2f} ({low:.2f}, {high:.2f})"
            cells += f"{1e3 * median:{width}.0f}   {over:26}"
        print(f"{name:16}{cells}{same[name]:.3f}", flush=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    random = np.random.default_rng(0)
    x = random.standard_normal((VECTORS, FEATURES), np.float32)
    device = jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}"
    print(f"{versions}, {device}, {os.cpu_count()} cores; {rounds} rounds")
    for count in [int(a) for a in sys.argv[2:]] or (1, 100):
        compare(x, random.standard_normal((count, FEATURES), np.float32), rounds)


if __name__ == "__main__":
    main()
