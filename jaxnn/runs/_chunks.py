"""Chunked execution of the members of a sweep: results of completed chunks survive a failure or an interrupt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import invalid
from jaxnn._paths import first_difference
from jaxnn.runs._leaderboard import best_value
from jaxnn.train._interrupt import Signals
from jaxnn.train._progress import Count, Reporter
from jaxnn.types import Arrays

Best = tuple[float, str] | None  # the best value so far and its mode, "min" or "max"; None without a value


class Done(NamedTuple):
    """The completed members of a sweep, always the first ones.

    Attributes:
      parts: results, one tree per chunk.
      number: number of completed members.
      error: the exception or interrupt that ended the sweep early; None if it completed.
    """

    parts: list[Any]
    number: int
    error: BaseException | None


def run_chunks(
    program: Callable[[np.ndarray], Any], points: Arrays, n: int, size: int, report: Reporter | None
) -> Done:
    """Runs `program(rows)` on successive chunks of the members 0 to n - 1 and collects the results.

    An interrupt or an exception ends the loop. It is returned in `Done` together with the completed chunks, not raised.

    Args:
      program: maps the member indices [size] to a tree of results [size, ...].
      points: tree of arrays [n, ...], used only to report the best value.
      n: number of members.
      size: members per chunk. The last chunk is padded to it by repeating the last member.
      report: shows a `Count` after each chunk; None for no reports.
    """
    parts: list[Any] = []
    done, best, began = 0, None, perf_counter()
    with Signals(terminates=False) as signals:
        try:
            while done < n:
                rows = np.minimum(np.arange(done, done + size), n - 1)
                part, real = program(rows), min(size, n - done)
                for leaf in jax.tree.leaves(part):
                    if hasattr(leaf, "is_ready"):  # key arrays have no is_ready
                        signals.wait(leaf)
                part = jax.block_until_ready(part)
                with signals.held():
                    parts.append(part if real == size else jax.tree.map(lambda a, real=real: a[:real], part))
                    done += real
                if report is not None:
                    best = _better(best, jax.tree.map(lambda a, rows=rows[:real]: a[rows], points), parts[-1])
                    report.show(Count(done, done / (perf_counter() - began), _shown(best)))
        except (KeyboardInterrupt, Exception) as error:
            return Done(parts, done, error)
    return Done(parts, done, None)


def joined(parts: list[Any]) -> Arrays:
    """Concatenation of the parts along axis 0, leaf by leaf; empties `parts` to free its memory along the way."""
    if len(parts) == 1:
        return parts[0]
    structure = jax.tree.structure(parts[0])
    columns = [jax.tree.leaves(part) for part in parts]
    parts.clear()
    return jax.tree.unflatten(structure, [jnp.concatenate([c.pop(0) for c in columns]) for _ in list(columns[0])])


def placed(rows: np.ndarray, part: Arrays, n: int, whole: Arrays = None) -> Arrays:
    """Results [n, ...] with `part` at the indices `rows`, and elsewhere `whole` or, without it, NaN (integers: 0)."""

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


def check_alike(results: Arrays, known: Any) -> None:
    """Raises unless a resumed sweep has the paths, shapes and dtypes of the results that its run would return."""
    if (found := first_difference(results, known)) is not None:
        path, new, old = found
        expected = f"resume to be a sweep of this run, with {new} at {path or 'its results'}"
        raise invalid("sweep", expected, told=old)


def _better(best: Best, points: Arrays, part: Arrays) -> Best:
    """The better of `best` and the best value of a chunk; `best` if the results do not determine value and mode."""
    with suppress(ValueError, TypeError):
        new = best_value(points, part)
        if best is None or (new[0] < best[0] if new[1] == "min" else new[0] > best[0]) or np.isnan(best[0]):
            return new
    return best


def _shown(best: Best) -> dict[str, dict[str, np.ndarray]]:
    return {} if best is None else {"best": {"value": np.asarray(best[0])}}
