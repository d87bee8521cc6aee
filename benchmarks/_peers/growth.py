"""Time of a train step against one size at a time, and the least time that the machine's measured limits allow."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from _peers.rows import DEPTH, GROWTH, VOCABULARY, WIDTH, Row

TOUCHED = 10  # numbers read or written for a parameter: forward, backward, gradient, and p, m, v, g of Adam
LABELS = {"batch": "examples", "depth": "layers", "width": "features", "length": "tokens", "members": "networks"}


def limits() -> tuple[float, float]:
    """Float32 operations a second of a matrix product, and bytes a second of a donated a + b · s."""
    import jax
    import jax.numpy as jnp

    def least(f: Callable, *args: Any) -> float:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            args = (jax.block_until_ready(f(*args)), *args[1:])
            times.append(time.perf_counter() - start)
        return min(times[1:])

    n, m = 2048, 10**8 // 4
    product = jax.jit(lambda a, b: a @ b / n, donate_argnums=0)
    triad = jax.jit(lambda a, b: a + 0.5 * b, donate_argnums=0)
    peak = 2 * n**3 / least(product, jnp.ones((n, n)), jnp.ones((n, n)))
    return peak, 12 * m / least(triad, jnp.zeros(m), jnp.ones(m))


def bound(row: Row, peak: float, bandwidth: float) -> float:
    """Seconds of a step's products at the peak, or of its parameters at the bandwidth, the larger one.

    A product has two derivatives, but for that of the inputs. Causal attention needs half of its scores.
    """
    if row.net == "gpt":
        (length,) = row.sizes
        tokens, params = row.batch * length, 12 * DEPTH * WIDTH**2 + VOCABULARY * WIDTH
        products = 3 * tokens * (params + DEPTH * length * WIDTH)
    else:
        pairs, members = list(pairwise(row.sizes or (64, 32, 10))), max(row.members, 1)
        params = members * sum(a * b for a, b in pairs)
        products = row.batch * (3 * params - members * pairs[0][0] * pairs[0][1])
    return max(2 * products / peak, 4 * TOUCHED * params / bandwidth)


def draw(found: dict[str, list[dict]], file: Path) -> None:
    """A panel for each size; `found` are the lines of the history by row, "batch=16" and so on."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peak, bandwidth = limits()
    axes_of = {axis: rows for axis, rows in GROWTH.items() if any(found[f"{axis}={n}"] for n in rows)}
    figure, panels = plt.subplots(1, len(axes_of), figsize=(4.2 * len(axes_of), 4), layout="constrained", squeeze=False)
    for panel, (axis, rows) in zip(panels[0], axes_of.items(), strict=True):
        values = [n for n in rows if found[f"{axis}={n}"]]
        lines = [(n, line) for n in values for line in found[f"{axis}={n}"]]
        for library in dict.fromkeys(line["library"] for _, line in lines):
            points = [(n, 1e3 * line["seconds"]) for n, line in lines if line["library"] == library]
            panel.plot(*zip(*points, strict=True), "o-", ms=4, lw=1, label=library)
        panel.plot(values, [1e3 * bound(rows[n], peak, bandwidth) for n in values], "k--", lw=1, label="limit")
        panel.set(xscale="log", yscale="log", xlabel=LABELS[axis], title=axis)
        panel.set_xticks(values, map(str, values))
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("ms of a train step")
    panels[0][-1].legend()
    figure.suptitle(f"Limit: products at {peak / 1e9:.0f} GFLOP/s, parameters at {bandwidth / 1e9:.0f} GB/s")
    figure.savefig(file, dpi=110)
