"""The frame of an example: its arguments, a figure without a screen, curves with their spread, sheets of images."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHORT = "--short" in sys.argv  # a setting of seconds, which proves that everything runs


def folder() -> Path:
    """The folder for pictures: the first argument that is no option, or `out`."""
    path = Path(next((a for a in sys.argv[1:] if not a.startswith("--")), "out"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def option(name: str, default: float) -> float:
    """The number of an argument such as --seeds=3, or the default without it."""
    return next((float(a.partition("=")[2]) for a in sys.argv if a.startswith(f"--{name}=")), default)


def clock() -> Callable[[], str]:
    """A function that says how long it is since now, compilation included, and how much the processors worked."""
    start, used = time.perf_counter(), time.process_time()
    return lambda: f"{time.perf_counter() - start:.0f} s, {time.process_time() - used:.0f} s of processors"


def figure(size: tuple[float, float] = (9, 5), layout: str | None = "constrained") -> Any:
    """A figure of `size` inches, drawn without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout=layout)


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 5), **settings: Any) -> tuple[Any, Any]:
    """A figure of `size` inches and its axes; further settings are those of matplotlib's `Figure.subplots`."""
    whole = figure(size)
    return whole, whole.subplots(rows, columns, **settings)


def band(axes: Any, x: Any, curves: np.ndarray, label: str, colour: str, **settings: Any) -> None:
    """Mean of curves [seeds, n] as a line, and their range as a band."""
    axes.plot(x, curves.mean(0), color=colour, label=label, **settings)
    axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)


def sheet(images: Sequence[Any], columns: int, gap: int = 2, fill: float = 1.0) -> np.ndarray:
    """Images [h, w] or [h, w, c] side by side in rows, with a gap of the value `fill` between them."""
    pad = ((0, gap), (0, gap), (0, 0))
    tiles = [np.pad(np.atleast_3d(image), pad, constant_values=fill) for image in images]
    tiles += [np.full_like(tiles[0], fill)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    whole = np.concatenate(rows)[:-gap, :-gap] if gap else np.concatenate(rows)
    return whole[..., 0] if whole.shape[-1] == 1 else whole


def spread(values: Any) -> str:
    """Mean and standard deviation of shares over seeds, in percent: 91.5 ± 0.2."""
    values = 100 * np.asarray(values)
    return f"{values.mean():.1f} ± {values.std(ddof=1) if len(values) > 1 else 0:.1f}"
