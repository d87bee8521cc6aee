"""Samples of a disparity map with outliers, inputs of its pixels, nearest samples, and its jumps."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

SAMPLES = 10_000  # of 343274 known pixels, 2.9 %: a sample every six pixels, so that edges have to be guessed
OUTLIERS = 0.2
TOO_MUCH = (20.0, 60.0)  # pixels added to an outlier, uniform; never taken away, so that the mean shifts
SEED = 1  # of the samples and the outliers; the settings were chosen with seed 0
NEIGHBOURS = (1, 5, 9, 15, 25)
EDGE = 3.0  # pixels of disparity from one column to the next
NEAR = 3  # columns on either side of an edge


def samples(disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pixels are sampled, bool [h, w]; their disparities [n] as they are and with outliers, row by row."""
    random = np.random.default_rng(SEED)
    known = np.flatnonzero(np.isfinite(disparity))
    sampled = np.zeros(disparity.shape, bool)
    sampled.flat[random.choice(known, SAMPLES, replace=False)] = True
    clean = disparity[sampled]
    wrong = random.random(SAMPLES) < OUTLIERS
    return sampled, clean, np.where(wrong, clean + random.uniform(*TOO_MUCH, SAMPLES), clean).astype(np.float32)


def inputs(photo: np.ndarray) -> np.ndarray:
    """Of each pixel the row and the column, 1 for 370 pixels around the middle, and its colour: [h, w, 5]."""
    height, width, _ = photo.shape
    row, column = np.indices((height, width), np.float32)
    half = width / 2
    return np.concatenate([((row - height / 2) / half)[..., None], ((column - half) / half)[..., None], photo], axis=-1)


def nearest(sampled: np.ndarray) -> np.ndarray:
    """Of each pixel the numbers of the samples next to it, nearest first: [h, w, k]."""
    tree = NearestNeighbors(n_neighbors=max(NEIGHBOURS)).fit(np.argwhere(sampled))
    return tree.kneighbors(np.argwhere(np.ones_like(sampled)), return_distance=False).reshape(*sampled.shape, -1)


def jumps(disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the disparity jumps from a column to the next, bool [h, w - 1], and pixels near to a jump, bool [h, w]."""
    with np.errstate(invalid="ignore"):  # inf - inf, where unknown
        change = np.diff(disparity, axis=1)
    edge = np.isfinite(change) & (np.abs(change) > EDGE)
    near = np.zeros(disparity.shape, bool)
    for row, column in np.argwhere(edge):
        near[row, max(column - NEAR + 1, 0) : column + NEAR + 1] = True
    return edge, near


def lone(disparity: np.ndarray, edge: np.ndarray, flat: int) -> np.ndarray:
    """The jumps that have `flat` even columns on either side, [n, 2] of row and column."""
    places = [p for p in np.argwhere(edge) if flat <= p[1] + 1 <= disparity.shape[1] - flat]
    sides = [(disparity[r, c + 1 - flat : c + 1], disparity[r, c + 1 : c + 1 + flat]) for r, c in places]
    even = [all(np.isfinite(side).all() and np.ptp(side) < 1 for side in pair) for pair in sides]
    return np.array(places)[even]


def kept(prediction: np.ndarray, disparity: np.ndarray, places: np.ndarray) -> float:
    """The share of the true jumps that a map makes within `NEAR` columns on either side; 1 is sharp and in place."""
    rows, columns = places.T

    def jump(values: np.ndarray) -> np.ndarray:
        return values[rows, columns + NEAR] - values[rows, columns + 1 - NEAR]

    return float((jump(prediction) * np.sign(jump(disparity))).sum() / np.abs(jump(disparity)).sum())
