"""Members of a sweep in chunks: what is done stays when one fails or is interrupted."""

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import invalid
from jaxnn._paths import first_difference
from jaxnn.train.interrupt import Signals
from jaxnn.train.leaderboard import best_value
from jaxnn.train.progress import Count, Reporter

Best = tuple[float, str] | None  # the best value so far, and whether the least or the greatest is best


class Done(NamedTuple):
    """The members that ran, the first ones of all.

    Attributes:
      parts: their results, a tree for each chunk.
      number: how many they are.
      error: what ended the sweep before its end.
    """

    parts: list[Any]
    number: int
    error: BaseException | None


def run_chunks(program: Callable[[np.ndarray], Any], points: Any, n: int, size: int, report: Reporter | None) -> Done:
    """Runs `program(rows)` for chunks of `size` of n members, the last one filled up with its last member.

    An interrupt or an exception ends it, and comes back with what is done.
    """
    parts: list[Any] = []
    done, best, began = 0, None, perf_counter()
    with Signals(terminates=False) as signals:
        try:
            while done < n:
                rows = np.minimum(np.arange(done, done + size), n - 1)
                part, real = program(rows), min(size, n - done)
                for leaf in jax.tree.leaves(part):
                    if hasattr(leaf, "is_ready"):  # keys have none
                        signals.wait(leaf)
                part = jax.block_until_ready(part)
                with signals.held():
                    parts.append(part if real == size else jax.tree.map(lambda a, real=real: a[:real], part))
                    done += real
                if report is not None:
                    best = _better(best, jax.tree.map(lambda a, rows=rows[:real]: a[rows], points), parts[-1])
                    report(Count(done, done / (perf_counter() - began), _shown(best)))
        except (KeyboardInterrupt, Exception) as error:
            return Done(parts, done, error)
    return Done(parts, done, None)


def joined(parts: list[Any]) -> Any:
    """The parts as one tree, leaf after leaf: the memory of the parts is given back on the way."""
    if len(parts) == 1:
        return parts[0]
    structure = jax.tree.structure(parts[0])
    columns = [jax.tree.leaves(part) for part in parts]
    parts.clear()
    return jax.tree.unflatten(structure, [jnp.concatenate([c.pop(0) for c in columns]) for _ in list(columns[0])])


def placed(rows: np.ndarray, part: Any, n: int, whole: Any = None) -> Any:
    """Rows [n] of results: those of `part` at `rows`, the others of `whole`, or NaN, and 0 where there is no NaN."""

    def leaf(a: jax.Array, old: jax.Array | None) -> jax.Array:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            old = None if old is None else jax.random.key_data(old)
            return jax.random.wrap_key_data(leaf(jax.random.key_data(a), old), impl=jax.random.key_impl(a))
        if old is None:
            old = jnp.full((n, *a.shape[1:]), np.nan if jnp.issubdtype(a.dtype, jnp.inexact) else 0, a.dtype)
        return old.at[rows].set(a)

    if whole is None:
        return jax.tree.map(lambda a: leaf(a, None), part)
    return jax.tree.map(leaf, part, whole)


def check_alike(results: Any, known: Any) -> None:
    """Raises unless a sweep that is resumed has the results, by path, that its run gives."""
    if (found := first_difference(results, known)) is not None:
        path, new, old = found
        expected = f"resume to be a sweep of this run, with {new} at {path or 'its results'}"
        raise invalid("sweep", expected, told=old)


def _better(best: Best, points: Any, part: Any) -> Best:
    """The best value so far, where the results tell which value is meant and which way is better."""
    with suppress(ValueError, TypeError):
        new = best_value(points, part)
        if best is None or (new[0] < best[0] if new[1] == "min" else new[0] > best[0]) or np.isnan(best[0]):
            return new
    return best


def _shown(best: Best) -> dict[str, dict[str, np.ndarray]]:
    return {} if best is None else {"best": {"value": np.asarray(best[0])}}
