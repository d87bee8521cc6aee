"""Universal approximation: a disparity map by networks of growing width and depth, and by splines.

    python examples/approximation.py [folder for the picture, by default out] [--short]

Any continuous function is within any error of a wide enough hidden layer. The theorem is about weights that exist, not
about those that training finds. The disparity map of a stereo pair is a function of the place, fitted at 2435 pixels:
networks of tanh layers by 400 steps of L-BFGS, splines (products of linear ones in each direction) by one linear solve.
Root of the mean squared error for a map of deviation 1, by params; mean ± deviation of four seeds:

    splines           35: 0.462              126: 0.365           260: 0.308           504: 0.265       1014: 0.200
    1 hidden layer    33: 0.477 ± 0.025      129: 0.431 ± 0.009   257: 0.422 ± 0.010
    2 hidden layers   37: 0.449 ± 0.021      105: 0.363 ± 0.024   337: 0.334 ± 0.003   697: 0.339 ± 0.008
    3 hidden layers   57: 0.421 ± 0.030      177: 0.364 ± 0.033   361: 0.310 ± 0.017   609: 0.275 ± 0.005

At equal training depth is worth more than width: two layers of 8 are better than one of 64. Wider layers than 16 add
nothing to two: the limit is training. Splines are as good up to some 100 params and better with more, as a linear solve
uses every coefficient. Two layers of 8 were expected to be 5 % better than splines of as many params; they are 3 %
better, less than the deviation of the seeds. Networks pay off where splines do not exist: for functions of 64 pixels,
as in `perceptron.py`, a grid of k knots in each direction has k^64 coefficients.

Cybenko, Approximation by Superpositions of a Sigmoidal Function, 1989.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _pictures import SHORT, band, clock, folder, subplots

import jaxnn as nn

CORES = 2
SEEDS = 2 if SHORT else 4  # an even number for the cores
APART = 12  # pixels of the disparity map are so far apart in both directions
WIDTHS = {2: (4, 8)} if SHORT else {1: (4, 8, 16, 32, 64), 2: (4, 8, 16, 24), 3: (4, 8, 12, 16)}  # by hidden layers
STEPS = 30 if SHORT else 400  # of L-BFGS on all pixels
GRIDS = [(4, 5), (5, 7), (7, 10), (9, 14), (13, 20), (18, 28), (26, 39)]  # knots of the splines


def network(depth: int, widest: int, width: Any) -> nn.Layer:
    """tanh layers and one output; units beyond the width are 0, so that one program serves every width."""

    def first(units: jax.Array) -> jax.Array:
        return units * jnp.where(jnp.arange(widest) < width, (widest / width) ** 0.5, 0).astype(units.dtype)[None]

    hidden = [part for _ in range(depth) for part in (nn.dense(widest, preset="torch"), nn.tanh, first)]
    return nn.serial(*hidden, nn.dense(1, preset="torch"))


def size(depth: int, width: int) -> int:
    """Params of a network on places in the plane."""
    return 3 * width + (depth - 1) * (width + 1) * width + width + 1


def disparity() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map of a stereo pair: where it is known, [h, w], the places, [n, 2], and values of deviation 1, [n, 1]."""
    whole = np.asarray(nn.data.load("motorcycle").train[1])[0, APART // 2 :: APART, APART // 2 :: APART]
    known = np.isfinite(whole)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in whole.shape), indexing="ij"), -1)[known]
    values = (whole[known] - whole[known].mean()) / whole[known].std()
    return known, places.astype(np.float32), values[:, None].astype(np.float32)


def approximate(depth: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares by networks of one depth: errors [widths, SEEDS], and values [widths, SEEDS, n]."""
    widths = WIDTHS[depth]

    def one(point: dict, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = network(depth, widths[-1], point["width"])
        trainer = nn.trainer(model, nn.losses.squared_error, optax.lbfgs())
        values = model.apply(nn.fit(trainer, point["key"], (x, y), epochs=STEPS).ts.params, {}, x)[0]
        return jnp.sqrt(nn.losses.squared_error(values, y).mean()), values[:, 0]

    points = nn.points.grid(width=np.float32(widths), key=jax.random.split(jax.random.key(3), SEEDS))
    found = nn.sweep(one, points, jnp.asarray(x), jnp.asarray(y), progress=True).results
    errors, values = (np.asarray(a).reshape(len(widths), SEEDS, *a.shape[1:]) for a in found)
    return errors, values


def spline(grid: tuple[int, int], x: np.ndarray, y: np.ndarray) -> float:
    """Error of least squares by products of linear splines in each direction; cubic ones are worse on this map."""
    rows, columns = (
        np.maximum(0, 1 - abs((u[:, None] + 1) * (k - 1) / 2 - np.arange(k))) for u, k in zip(x.T, grid, strict=True)
    )
    design = (rows[:, :, None] * columns[:, None]).reshape(len(x), -1)
    left = design @ np.linalg.lstsq(design, y[:, 0], rcond=1e-6)[0] - y[:, 0]
    return float(np.sqrt(np.mean(left**2)))


def picture(path: Path, known: np.ndarray, shown: dict, curves: dict) -> None:
    """The map, two approximations, and errors against params: mean and range of the seeds."""
    figure, axes = subplots(1, 4, (19, 4.4))
    for place, (title, values) in zip(axes, shown.items(), strict=False):
        image = np.full(known.shape, np.nan)
        image[known] = values
        place.imshow(image, cmap="magma", vmin=-1.6, vmax=2)
        place.set_title(title)
    for place in axes[:3]:
        place.axis("off")
    last, colours = axes[3], ("0.2", "tab:orange", "tab:blue", "tab:green")
    for (name, (counts, errors)), colour in zip(curves.items(), colours, strict=False):
        band(last, counts, errors, name, colour, marker="o", ms=4)
    last.set(xscale="log", yscale="log", xlabel="params", ylabel="root of the mean squared error")
    last.set_yticks((0.2, 0.3, 0.4, 0.5, 0.6), labels=["0.2", "0.3", "0.4", "0.5", "0.6"])
    last.tick_params(which="minor", labelleft=False)
    last.grid(alpha=0.3)
    last.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Fits splines and networks, prints the table and draws the picture."""
    nn.cache_programs()  # the next start compiles nothing again
    nn.cores_as_devices(CORES)
    out, took = folder(), clock()
    known, places, heights = disparity()
    sizes = [rows * columns for rows, columns in GRIDS]
    smooth = np.array([spline(grid, places, heights) for grid in GRIDS])
    shown, curves = {"disparity map": heights[:, 0]}, {"products of splines": (sizes, smooth[None])}
    print(
        "params: error  " + "  ".join(f"{n}: {error:.3f}" for n, error in zip(sizes, smooth, strict=True)) + "  splines"
    )
    for depth, widths in WIDTHS.items():
        errors, values = approximate(depth, places, heights)
        name, counts = f"{depth} hidden layer{'s' * (depth > 1)}", [size(depth, width) for width in widths]
        curves[name] = counts, errors.T
        shown |= {f"{name} of {widths[-1]}, {counts[-1]} params": values[-1, 0]} if depth != 2 or SHORT else {}
        row = zip(counts, errors.mean(1), errors.std(1, ddof=1), strict=True)
        print(
            "               " + "  ".join(f"{n}: {mean:.3f} ± {dev:.3f}" for n, mean, dev in row) + f"  {name}",
            flush=True,
        )
    picture(out / "approximation.png", known, shown, curves)
    print(f"{took()}; picture: {out / 'approximation.png'}")

    means = [errors.mean(0) for _, errors in curves.values()]
    assert all(mean[-1] < mean[0] for mean in means), "more params do not help"
    if not SHORT:
        assert means[1].min() > means[2].min() > means[3].min(), "layers do not help"
        assert means[0].min() < means[3].min(), "the largest grid of splines is no longer best"


if __name__ == "__main__":
    main()
