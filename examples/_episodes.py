"""Few-shot tasks: accuracies of vectors when queries get the class with the nearest mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from _pictures import SHORT

EPISODES, QUERIES = 100 if SHORT else 1000, 15  # tasks of three classes, and images of each class in a task
SHOTS = 1, 5


@partial(jax.jit, static_argnames="shots")
def accuracy(z: jax.Array, tasks: jax.Array, shots: int) -> jax.Array:
    """Fraction of queries that are nearest to the mean of the shots of their class; tasks [n, 3, shots + queries]."""

    def one(task: jax.Array) -> jax.Array:
        means, queries = z[task[:, :shots]].mean(1), z[task[:, shots:]]
        further = (means**2).sum(-1) / 2 - queries @ means.T  # [3, queries, 3]
        return (further.argmin(-1) == jnp.arange(3)[:, None]).mean()

    return jax.lax.map(one, tasks, batch_size=50).mean()


def judged(vectors: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
    """Accuracies [splits, shots] on tasks that are the same for every method."""

    def tasks(y: np.ndarray, shots: int) -> np.ndarray:
        random, pools = np.random.default_rng(shots), [np.flatnonzero(y == k) for k in np.unique(y)]
        drawn = [random.permuted(np.broadcast_to(pool, (EPISODES, len(pool))), axis=1) for pool in pools]
        return np.stack(drawn, 1)[..., : shots + QUERIES]

    pairs = zip(vectors, labels, strict=True)
    return np.array([[accuracy(z, tasks(y, shots), shots) for shots in SHOTS] for z, y in pairs])
