"""Many runs as one program: a function of one point run on all points, in the way that suits the machine."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from time import perf_counter
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._flops import contractions
from jaxnn._inputs import MEMBERS
from jaxnn.compiler import compiler_options
from jaxnn.train._chunks import Done, check_alike, joined, placed, run_chunks
from jaxnn.train._memory import available, in_words, needed
from jaxnn.train.leaderboard import Leaderboard, Member, leaderboard
from jaxnn.train.progress import reporter

Strategy = Literal["auto", "measure", "vmap", "map", "shard"]

# FLOPs of a member's mean matrix product or convolution from which on it keeps a CPU busy by itself: some 50 µs, beside
# which the few µs that it takes to start an operation do not count.
BUSY = 10_000_000
MOST_CALLS = 64  # of the program in one sweep: each waits for the one before


class Sweep(NamedTuple):
    """What `sweep` found: the points, and what came of each.

    Attributes:
      points: the points, [n, ...].
      results: what `run` returned for each, [n, ...].
      strategy: how the members ran, "vmap", "map" or "shard"; "auto" and "measure" chose one of them.
      chunk: members that ran together, on one device; 1 is one after the other.
      seconds: by "measure" alone: what each way took, compilation apart.
      done: bools [n], False for members that did not run because the sweep was interrupted: their results are NaN, or 0
        for integers and keys.

    >>> import jaxnn as nn
    >>> found = nn.sweep(lambda p: (p["x"] - 2) ** 2, nn.points.grid(x=[0.0, 1.0, 2.0, 3.0]))
    >>> found.results.tolist(), found.best().point["x"].item()
    ([4.0, 1.0, 0.0, 1.0], 2.0)
    """

    points: Any
    results: Any
    strategy: str
    chunk: int
    seconds: dict[str, float]
    done: np.ndarray

    def leaderboard(
        self, value: str | Callable[[Any], Any] | None = None, mode: Literal["min", "max"] | None = None
    ) -> Leaderboard:
        """The points that are done as a table with one value each, the best first and NaN last; it prints.

        Args:
          value: the path of an array [n] in `results`, such as "best_value", or a function of `results` that gives one,
            such as `lambda r: r.history["valid"]["accuracy"].max(axis=1)`; None is "best_value", or the only leaf.
          mode: whether "min" or "max" is better. None knows it for a path that ends in the name of a metric or loss of
            `nn`, for "best_value" where the run monitored one, and takes results that are one array for an objective
            that is minimised; anything else raises.
        """
        if self.done.all():
            return leaderboard(self.points, self.results, value, mode)
        rows = np.flatnonzero(self.done)
        points, results = jax.tree.map(lambda a: a[rows], (self.points, self.results))
        return leaderboard(points, results, value, mode, rows)

    def best(
        self, value: str | Callable[[Any], Any] | None = None, mode: Literal["min", "max"] | None = None
    ) -> Member:
        """The first member of the leader board: its index, value, point and result."""
        first = self.leaderboard(value, mode).rows[0]
        point, result = jax.tree.map(lambda a: a[first[0]], (self.points, self.results))
        return Member(first[0], first[-1], point, result)


class Layout(NamedTuple):
    """How members lie on the machine: how many run together, and over how many devices, if they are spread at all."""

    chunk: int
    devices: int | None = None

    @property
    def strategy(self) -> str:
        """The name of it."""
        return "shard" if self.devices else "map" if self.chunk == 1 else "vmap"

    def together(self, n: int) -> int:
        """Members in one call of the program: evened out over the calls, and several chunks in each if n is large."""
        devices = self.devices or 1
        width = self.chunk * devices
        calls = -(-n // width)
        if calls > MOST_CALLS:
            return width * -(-calls // MOST_CALLS)
        return -(-n // (calls * devices)) * devices

    def __str__(self) -> str:
        return f"{self.strategy} by {self.chunk}"


def sweep(
    run: Callable[..., Any],
    points: Any,
    *shared: Any,
    strategy: Strategy = "auto",
    chunk: int | None = None,
    progress: bool = False,
    resume: Sweep | None = None,
) -> Sweep:
    """`run(point, *shared)` for each of the points, compiled here as one program: seeds, rates, strengths, folds.

    | strategy | members run | |
    |-|-|-|
    | "vmap" | together, or `chunk` at a time | small models; accelerators |
    | "map" | one after the other | large models on a CPU; least memory; each stops early by itself |
    | "shard" | spread over the devices of this process, `chunk` at a time on each | several devices |
    | "auto" | in one of these ways, chosen from backend and shapes alone | |
    | "measure" | in all of these ways, one after the other; the fastest is kept | a sweep that is run often |

    "auto" is "shard" where there are several devices. On each, members run together, fewer at a time if memory asks for
    it; on a CPU one after the other, where a mean matrix product or convolution of one member keeps it busy.

    Each chunk is kept when it is done. An interrupt (Ctrl-C) ends the sweep: the chunks that are done are returned,
    with a RuntimeWarning, and `done` says which members they are; any other exception has such a `Sweep` as its
    attribute `sweep`. Pass it as `resume` to run the others. If no chunk is done, the interrupt is raised.

    A member equals the same run alone up to rounding. By "map" on a CPU it is that run to the bit, when it is jitted
    with `compiler_options(quick=True)`. Random layers draw under "shard" what they draw elsewhere.

    Args:
      run: traceable, of one point, typically one that calls `fit`. The same function compiles once for the same shapes.
      points: a tree of arrays stacked on axis 0, keys among them; `points.grid` and `points.random` make such.
      shared: trees of arrays for all members; there is one copy of them on each device.
      chunk: members at a time, >= 1, on each device; None is all for "vmap", and what suits for "auto" and "shard".
        More than 64 chunks are kept a few at a time.
      progress: shows members done, the best value, rate and time left after each chunk: a live line in a terminal,
        plain lines elsewhere.
      resume: an earlier sweep over the same points; only members that are not done run. The caller must pass the same
        run, points and shared arrays: shapes and dtypes alone are checked.

    Raises TypeError under a trace, and ValueError for points of different lengths, for another strategy or chunk, for
    `resume` with another number of points or other results, and, before it starts, for a sweep that does not fit in
    memory.

    >>> import jaxnn as nn
    >>> def run(point, x, y):
    ...     t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(point["rate"]))
    ...     return nn.fit(t, point["key"], (x, y), epochs=20)
    >>> points = nn.points.grid(rate=np.geomspace(1e-4, 0.1, 4), key=jax.random.split(jax.random.key(0), 2))
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> found = nn.sweep(run, points, x, x[:, :1])
    >>> found.results.history["train"]["loss"].shape, round(found.best().point["rate"].item(), 1)
    ((8, 20, 1), 0.1)
    """
    check.function("sweep", "run", run, "(point, *shared) -> result", "The order is sweep(run, points, *shared).")
    check.flags("sweep", progress=progress)
    points, shared = checked("sweep", points, shared, strategy, chunk)
    how: dict[str, Any] = {"strategy": strategy, "chunk": chunk, "progress": progress}
    if resume is None:
        found = sweep_members("sweep", run, points, shared, **how)
    else:
        found = _resumed(resume, run, points, shared, **how)
    if not found.done.all():
        warn_interrupted("sweep", found)
    return found


def checked(where: str, points: Any, shared: tuple, strategy: str, chunk: int | None) -> tuple[Any, tuple]:
    """Points and shared data as JAX's arrays; raises for what no sweep takes."""
    check.eager(where, (points, shared), "Inside jit, vmap or grad call jax.vmap(run).")
    check.choice(where, "strategy", strategy, get_args(Strategy))
    if chunk is not None:
        chunk = check.count(where, "chunk", chunk)
        if strategy == "map" and chunk > 1:
            fix = "For some members at a time take strategy 'vmap'."
            raise invalid(where, "no chunk with strategy 'map'", told=f"chunk={chunk}", fix=fix)
    check.examples(where, "points", points)
    points, shared = jax.tree.map(jnp.asarray, (points, shared))
    return points, shared


def warn_interrupted(where: str, found: Sweep) -> None:
    """Says, at the caller of `where`, that not all was done."""
    fix = " Pass it as resume= to run the others." if where == "sweep" else ""
    text = f"{where}: interrupted with {found.done.sum()} of {found.done.size} members done.{fix}"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def sweep_members(
    where: str,
    run: Callable[..., Any],
    points: Any,
    shared: tuple,
    *,
    strategy: Strategy,
    chunk: int | None,
    progress: bool,
) -> Sweep:
    """The sweep of what was checked; after an interrupt it is as far as it got."""
    n = len(jax.tree.leaves(points)[0])
    if strategy != "measure":
        layout = _chosen(strategy, chunk, run, points, shared)
        shrink = strategy == "auto" and chunk is None
        layout, program = _fitting(layout, run, points, shared, where=where, shrink=shrink)
        with reporter(progress, n) as report:
            done = run_chunks(program, points, n, layout.together(n), report if progress else None)
        return _found(where, points, layout, done)
    seconds: dict[str, float] = {}
    for layout in _ways(n, chunk):
        program = _fitting(layout, run, points, shared, where=where)[1]
        began = perf_counter()
        found = _found(where, points, layout, run_chunks(program, points, n, layout.together(n), None))
        if not found.done.all():
            return found
        jax.block_until_ready(found.results)
        seconds[str(layout)] = perf_counter() - began
        if seconds[str(layout)] == min(seconds.values()):
            fastest = found._replace(seconds=seconds)
        del found  # the next one may need its memory
    return fastest


def _found(where: str, points: Any, layout: Layout, done: Done) -> Sweep:
    """The sweep as far as it got; raises what ended it if that was no interrupt, or if nothing is done."""
    n, number, error = len(jax.tree.leaves(points)[0]), done.number, done.error
    if not number and error is not None:
        raise error
    results = joined(done.parts)
    ran = np.arange(n) < number
    if number < n:
        results = placed(np.flatnonzero(ran), results, n)
    found = Sweep(points, results, layout.strategy, layout.chunk, {}, ran)
    if isinstance(error, Exception):
        with suppress(AttributeError):  # a class may have no room for it
            error.sweep = found  # type: ignore[attr-defined]
            error.add_note(f"{where}: {number} of {n} members are done, in the attribute `sweep` of this exception.")
        raise error
    return found


def _resumed(earlier: Any, run: Callable[..., Any], points: Any, shared: tuple, **how: Any) -> Sweep:
    """The earlier sweep with the members that it lacked."""
    n = len(jax.tree.leaves(points)[0])
    if not isinstance(earlier, Sweep):
        raise wrong_type("sweep", "resume to be a Sweep", earlier)
    old = len(jax.tree.leaves(earlier.points)[0])
    if old != n:
        raise invalid("sweep", f"resume to be a sweep over {n} points", told=f"one over {old}")
    if earlier.done.all():
        return earlier
    known = earlier.done
    rows = np.flatnonzero(~known)
    check_alike(jax.eval_shape(jax.vmap(lambda point: run(point, *shared)), points), earlier.results)

    def whole(rest: Sweep) -> Sweep:
        ran = rows[rest.done]
        results = placed(ran, jax.tree.map(lambda a: a[rest.done], rest.results), n, earlier.results)
        done = known | np.isin(np.arange(n), ran)
        return rest._replace(points=points, results=results, done=done)

    try:
        return whole(sweep_members("sweep", run, jax.tree.map(lambda a: a[rows], points), shared, **how))
    except Exception as error:
        if isinstance(getattr(error, "sweep", None), Sweep):
            error.sweep = whole(error.sweep)  # type: ignore[attr-defined]
        raise


def _chosen(strategy: str, chunk: int | None, run: Callable[..., Any], points: Any, shared: tuple) -> Layout:
    n = len(jax.tree.leaves(points)[0])
    devices, each = _spread(n)
    if strategy == "map":
        return Layout(1)
    if strategy == "vmap":
        return Layout(min(n, chunk or n))
    chunk = chunk or (1 if _busy(run, points, shared) else n)
    return Layout(min(each, chunk), devices) if devices > 1 or strategy == "shard" else Layout(min(n, chunk))


def _ways(n: int, chunk: int | None) -> list[Layout]:
    """All that "measure" tries."""
    devices, each = _spread(n)
    ways = [Layout(min(n, chunk or n)), Layout(1)]
    if devices > 1:
        ways += [Layout(min(each, chunk or each), devices), Layout(1, devices)]
    return list(dict.fromkeys(ways))


def _spread(n: int) -> tuple[int, int]:
    """Over how many devices n members are spread, and the most that one of them gets."""
    devices = min(n, len(jax.local_devices()))
    return devices, -(-n // devices)


def _busy(run: Callable[..., Any], points: Any, shared: tuple) -> bool:
    """Whether one member keeps a CPU busy, so that others beside it only drive its numbers out of the cache."""
    if jax.default_backend() != "cpu":
        return False
    point = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), points)
    flops, number = contractions(jax.jit(run).trace(point, *shared).jaxpr)
    return flops > BUSY * number


def _fitting(
    layout: Layout, run: Callable[..., Any], points: Any, shared: tuple, *, where: str, shrink: bool = False
) -> tuple[Layout, Callable[[np.ndarray], Any]]:
    """The layout, with fewer members at a time if they may `shrink`, and its program; raises if that does not fit."""
    n = len(jax.tree.leaves(points)[0])
    devices = jax.local_devices()[: layout.devices or 1]
    shared = _placed(layout.devices, shared, PartitionSpec())
    while True:
        size = layout.together(n)
        some = _members(layout, points, np.minimum(np.arange(size), n - 1))
        program = _program().lower(run, layout, some, shared).compile()
        takes, free = needed(program, devices, -(-n // size)), available(devices)
        if free is None or takes <= free:
            return layout, partial(_called, program, layout, points, shared)
        if not shrink or layout.chunk == 1:
            break
        layout = layout._replace(chunk=max(1, min(layout.chunk // 2, layout.chunk * free // takes)))
    fix = "Sweep over fewer points at a time, or return less from run."
    if layout.chunk > 1:
        fix = f"Run fewer at a time, chunk={layout.chunk // 2}, or one after the other, strategy='map'."
    got = f"one that takes {in_words(takes)}, {n} members by {layout.strategy} with chunk={layout.chunk}"
    raise invalid(where, f"a sweep that fits into the {in_words(free)} of free memory", told=got, fix=fix)


def _called(program: Any, layout: Layout, points: Any, shared: tuple, rows: np.ndarray) -> Any:
    return program(_members(layout, points, rows), shared)


def _members(layout: Layout, points: Any, rows: np.ndarray) -> Any:
    """The points of some members, where they are needed."""
    whole = len(rows) == len(jax.tree.leaves(points)[0]) and rows[-1] == len(rows) - 1
    some = points if whole else jax.tree.map(lambda a: a[rows], points)
    return _placed(layout.devices, some, PartitionSpec(MEMBERS))


def _placed(devices: int | None, arrays: Any, spec: PartitionSpec) -> Any:
    return arrays if devices is None else jax.device_put(arrays, NamedSharding(_mesh(devices), spec))


@cache
def _mesh(devices: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), (MEMBERS,))


@cache
def _program() -> Any:
    """Made at the first sweep: which options there are is known once JAX has its devices."""
    return jax.jit(_swept, static_argnums=(0, 1), compiler_options=compiler_options(quick=True))


def _swept(run: Callable[..., Any], layout: Layout, points: Any, shared: tuple) -> Any:
    if layout.devices is None:
        return _on_one_device(run, layout.chunk, points, shared)
    specs = PartitionSpec(MEMBERS), PartitionSpec()
    here, mesh = partial(_on_one_device, run, layout.chunk), _mesh(layout.devices)
    return jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(points, shared)


def _on_one_device(run: Callable[..., Any], chunk: int, points: Any, shared: tuple) -> Any:
    def member(point: Any) -> Any:
        return jax.jit(run)(point, *shared)  # traced once, for the choice and for every layout

    if chunk == 1:
        return jax.lax.map(member, points)
    if chunk >= len(jax.tree.leaves(points)[0]):
        return jax.vmap(member)(points)
    return jax.lax.map(member, points, batch_size=chunk)
