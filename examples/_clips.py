"""Windows of real clips: those for training and those held out, and the motion in them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxnn as nn

CUTS = (30, 76, 137, 187, 242)  # frames of "bikes" at which a scene begins
HEIGHT, WIDTH = 36, 44  # half of the data's
FRAMES = 5  # of a window, 0.2 s
STRETCH = 6  # frames; scenes are cut into stretches, and one of three is held out
FOLDS = 3  # each holds out other stretches; together they hold out all
SLOPE = 0.05  # added to the slope of the brightness, whose direction is noise where it is small


def frames() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Frames of all clips [m, h, w, 1], the clip of each [m], and the names of the clips."""
    loaded = nn.data.load("video_clips")
    x, clip = loaded.train
    return x.reshape(-1, HEIGHT, 2, WIDTH, 2, 1).mean((2, 4)), clip, loaded.classes


def starts(clip: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """First frames of all training windows, and of all held-out windows; the two have no frame in common."""
    begin = np.flatnonzero(np.diff(clip, prepend=-1))
    scenes = np.sort(np.append(begin, begin[1] + np.array(CUTS)))
    scene = np.searchsorted(scenes, np.arange(len(clip)), side="right")
    stretch = (np.arange(len(clip)) - scenes[scene - 1]) // STRETCH
    scene, held = (np.lib.stride_tricks.sliding_window_view(a, FRAMES) for a in (scene, stretch % FOLDS == fold))
    inside = scene[:, 0] == scene[:, -1]
    return np.flatnonzero(inside & ~held.any(1)), np.flatnonzero(inside & held.all(1))


def windows(x: Any, first: Any) -> Any:
    """Windows [n, t, h, w, 1] of the frames [m, h, w, 1], which begin with the given ones [n]."""
    return x[first[:, None] + np.arange(FRAMES)]


def motion(x: jax.Array) -> jax.Array:
    """Normal flow -dx/dt grad x / (|grad x| + slope), windows [n, t, h, w, 1] -> [n, t - 1, h, w, 2]: down, right."""
    slopes = jnp.concatenate(jnp.gradient((x[:, 1:] + x[:, :-1]) / 2, axis=(2, 3)), -1)
    return (x[:, :-1] - x[:, 1:]) * slopes / (jnp.linalg.norm(slopes, axis=-1, keepdims=True) + SLOPE)


def features(of_motion: bool, x: np.ndarray) -> np.ndarray:
    """Windows forward, then reversed -> means of the motion over time and areas, or all changes, [2 n, d]."""
    both = np.concatenate([x, x[:, ::-1]])
    if not of_motion:
        return np.diff(both, axis=1).reshape(len(both), -1)
    areas = np.asarray(jax.jit(motion)(both)).mean(1).reshape(-1, HEIGHT // 4, 4, WIDTH // 4, 4, 2)
    return areas.mean((2, 4)).reshape(len(both), -1)


def right(forward: np.ndarray) -> np.ndarray:
    """Fraction of right answers for each window [n], from the probability of forward [2, n] for it and its reverse."""
    return ((forward[0] > 0.5).astype(float) + (forward[1] <= 0.5)) / 2
