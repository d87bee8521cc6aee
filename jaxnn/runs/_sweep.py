"""Sweeps: many runs as one program, which applies a function of one point to all points."""

from __future__ import annotations

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
from jaxnn.runs._chunks import Done, check_alike, joined, placed, run_chunks
from jaxnn.runs._leaderboard import Leaderboard, Member, leaderboard
from jaxnn.runs._memory import available, in_words, needed
from jaxnn.train._progress import reporter
from jaxnn.types import Arrays

Strategy = Literal["auto", "measure", "vmap", "map", "shard"]

# Mean FLOPs per matrix product or convolution of a member from which on one member keeps a CPU busy: some 50 µs,
# compared with which the few µs to start an operation are negligible.
BUSY = 10_000_000
MOST_CALLS = 64  # calls of the program in one sweep: they are sequential


class Sweep(NamedTuple):
    """Result of `sweep`: the points and the result of each.

    Attributes:
      points: the points, [n, ...].
      results: the values that `run` returned, [n, ...].
      strategy: strategy used: "vmap", "map" or "shard"; "auto" and "measure" choose one of them.
      chunk: number of members that ran together on each device; 1 means sequentially.
      seconds: with "measure", the run time of each strategy without compilation; otherwise empty.
      done: bools [n]; False for members that did not run because the sweep was interrupted. Their results are NaN, or 0
        for integers and keys.

    >>> import jaxnn as nn
    >>> found = nn.sweep(lambda p: (p["x"] - 2) ** 2, nn.points.grid(x=[0.0, 1.0, 2.0, 3.0]))
    >>> found.results.tolist(), found.best().point["x"].item()
    ([4.0, 1.0, 0.0, 1.0], 2.0)
    """

    points: Arrays
    results: Arrays
    strategy: str
    chunk: int
    seconds: dict[str, float]
    done: np.ndarray

    def leaderboard(
        self, value: str | Callable[[Any], Any] | None = None, mode: Literal["min", "max"] | None = None
    ) -> Leaderboard:
        """Table of the completed points with one value each, best first and NaN last; printing shows it as text.

        Args:
          value: path of an array [n] in `results`, such as "best_value"; or a function of `results` that returns one,
            such as `lambda r: r.history["valid"]["accuracy"].max(axis=1)`. None is "best_value", or the only leaf.
          mode: "min" or "max", the better direction. None infers it for a path that ends in the name of a metric or
            loss of `nn`, and for "best_value" if the run monitored one. Results that are one array are an objective to
            be minimised. Otherwise it is required.
        """
        if self.done.all():
            return leaderboard(self.points, self.results, value, mode)
        rows = np.flatnonzero(self.done)
        points, results = jax.tree.map(lambda a: a[rows], (self.points, self.results))
        return leaderboard(points, results, value, mode, rows)

    def best(
        self, value: str | Callable[[Any], Any] | None = None, mode: Literal["min", "max"] | None = None
    ) -> Member:
        """The first member of the leaderboard: its index, value, point and result.

        Args:
          value, mode: as in `leaderboard`.
        """
        first = self.leaderboard(value, mode).rows[0]
        point, result = jax.tree.map(lambda a: a[first[0]], (self.points, self.results))
        return Member(first[0], first[-1], point, result)


class Layout(NamedTuple):
    """Distribution of the members over the machine.

    Attributes:
      chunk: number of members that run together on each device.
      devices: number of devices over which members are sharded; None for no sharding.
    """

    chunk: int
    devices: int | None = None

    @property
    def strategy(self) -> str:
        """Name of the strategy."""
        return "shard" if self.devices else "map" if self.chunk == 1 else "vmap"

    def together(self, n: int) -> int:
        """Members per call of the program: equal for all calls, and several chunks per call if n is large."""
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
    points: Arrays,
    *shared: Any,
    strategy: Strategy = "auto",
    chunk: int | None = None,
    progress: bool = False,
    resume: Sweep | None = None,
) -> Sweep:
    """Applies `run(point, *shared)` to all points as one compiled program: seeds, rates, strengths, folds.

    | strategy | execution of the members | suits |
    |-|-|-|
    | "vmap" | together, or `chunk` at a time | small models; accelerators |
    | "map" | sequential | large models on a CPU; least memory; members stop early independently |
    | "shard" | sharded over the devices of this process, `chunk` at a time on each | several devices |
    | "auto" | one of these, chosen from backend and shapes alone | |
    | "measure" | all of these, sequentially; the fastest is kept | a sweep that is run often |

    With "shard" the results stay on the devices that computed them, as arrays sharded over axis 0; nothing is sent.
    "auto" is "shard" if there are several devices. On each device members run together, fewer at a time if memory
    requires it; on a CPU they run sequentially if the mean matrix product or convolution of one member keeps it busy.

    Completed chunks are kept. An interrupt (Ctrl-C) ends the sweep and returns the completed chunks, with a
    RuntimeWarning; `done` marks their members. Any other exception has such a `Sweep` as its attribute `sweep`. Pass
    such a sweep as `resume` to run the other members. If no chunk is complete, the interrupt is raised.

    A member equals the same run alone up to rounding. With "map" on a CPU it equals bit for bit that run jitted with
    `compiler_options(quick=True)`. Random layers draw the same numbers with "shard" as with the other strategies.

    Args:
      run: traceable function of one point and the shared data, which typically calls `fit`. One function object
        compiles once for the same shapes.
      points: tree of arrays, which may be keys, stacked on axis 0; made for example by `points.grid` and
        `points.random`.
      *shared: trees of arrays for all members; there is one copy of them on each device.
      strategy: one of the table.
      chunk: members at a time on each device, >= 1. None is all for "vmap", and chosen for "auto" and "shard". If there
        are more than 64 chunks, several chunks are completed and kept at a time.
      progress: True prints members done, best value, rate and time left after each chunk: a live line in a terminal,
        plain lines otherwise.
      resume: earlier sweep over the same points; only members that are not done run. The caller must pass the same run,
        points and shared arrays: only shapes and dtypes are checked.

    Returns:
      A `Sweep`.

    Raises:
      TypeError: under a trace, or if `run` is not a function.
      ValueError: if points differ in length, `strategy` or `chunk` is invalid, `resume` has another number of points or
        other results, or, before it starts, if the sweep does not fit in memory.

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


def checked(
    where: str, points: Arrays, shared: tuple[Any, ...], strategy: str, chunk: int | None
) -> tuple[Any, tuple[Any, ...]]:
    """Points and shared data as JAX arrays; raises for invalid arguments of a sweep."""
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
    """Warns, with the location of the caller of `where`, that not all members are done."""
    fix = " Pass it as resume= to run the others." if where == "sweep" else ""
    text = f"{where}: interrupted with {found.done.sum()} of {found.done.size} members done.{fix}"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def sweep_members(
    where: str,
    run: Callable[..., Any],
    points: Arrays,
    shared: tuple[Any, ...],
    *,
    strategy: Strategy,
    chunk: int | None,
    progress: bool,
) -> Sweep:
    """The sweep of checked arguments; after an interrupt, as far as it got."""
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
        del found  # the next layout may need its memory
    return fastest


def _found(where: str, points: Arrays, layout: Layout, done: Done) -> Sweep:
    """The sweep as far as it got; raises an exception that ended it, and an interrupt if no member is done."""
    n, number, error = len(jax.tree.leaves(points)[0]), done.number, done.error
    if not number and error is not None:
        raise error
    results = joined(done.parts)
    ran = np.arange(n) < number
    if number < n:
        results = placed(np.flatnonzero(ran), results, n)
    found = Sweep(points, results, layout.strategy, layout.chunk, {}, ran)
    if isinstance(error, Exception):
        with suppress(AttributeError):  # a class with __slots__ has no such attribute
            error.sweep = found  # type: ignore[attr-defined]
            error.add_note(f"{where}: {number} of {n} members are done, in the attribute `sweep` of this exception.")
        raise error
    return found


def _resumed(earlier: Any, run: Callable[..., Any], points: Arrays, shared: tuple[Any, ...], **how: Any) -> Sweep:
    """The earlier sweep completed by the members that were not done."""
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


def _chosen(
    strategy: str, chunk: int | None, run: Callable[..., Any], points: Arrays, shared: tuple[Any, ...]
) -> Layout:
    n = len(jax.tree.leaves(points)[0])
    devices, each = _spread(n)
    if strategy == "map":
        return Layout(1)
    if strategy == "vmap":
        return Layout(min(n, chunk or n))
    chunk = chunk or (1 if _busy(run, points, shared) else n)
    return Layout(min(each, chunk), devices) if devices > 1 or strategy == "shard" else Layout(min(n, chunk))


def _ways(n: int, chunk: int | None) -> list[Layout]:
    """The layouts that "measure" compares."""
    devices, each = _spread(n)
    ways = [Layout(min(n, chunk or n)), Layout(1)]
    if devices > 1:
        ways += [Layout(min(each, chunk or each), devices), Layout(1, devices)]
    return list(dict.fromkeys(ways))


def _spread(n: int) -> tuple[int, int]:
    """Number of devices over which n members are sharded, and the maximum number of members on one of them."""
    devices = min(n, len(jax.local_devices()))
    return devices, -(-n // devices)


def _busy(run: Callable[..., Any], points: Arrays, shared: tuple[Any, ...]) -> bool:
    """True if one member keeps a CPU busy: running others with it would only evict its data from the cache."""
    if jax.default_backend() != "cpu":
        return False
    point = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), points)
    flops, number = contractions(jax.jit(run).trace(point, *shared).jaxpr)
    return flops > BUSY * number


def _fitting(
    layout: Layout,
    run: Callable[..., Any],
    points: Arrays,
    shared: tuple[Any, ...],
    *,
    where: str,
    shrink: bool = False,
) -> tuple[Layout, Callable[[np.ndarray], Any]]:
    """The layout, with smaller chunks if they may `shrink`, and its compiled program; raises if memory is too small."""
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
        fix = f"Run fewer at a time, chunk={layout.chunk // 2}, or one at a time, strategy='map'."
    got = f"one that takes {in_words(takes)}, {n} members by {layout.strategy} with chunk={layout.chunk}"
    raise invalid(where, f"a sweep that fits into the {in_words(free)} of free memory", told=got, fix=fix)


def _called(program: Any, layout: Layout, points: Arrays, shared: tuple[Any, ...], rows: np.ndarray) -> Arrays:
    return program(_members(layout, points, rows), shared)


def _members(layout: Layout, points: Arrays, rows: np.ndarray) -> Arrays:
    """The points of some members, on their devices."""
    whole = len(rows) == len(jax.tree.leaves(points)[0]) and rows[-1] == len(rows) - 1
    some = points if whole else jax.tree.map(lambda a: a[rows], points)
    return _placed(layout.devices, some, PartitionSpec(MEMBERS))


def _placed(devices: int | None, arrays: Any, spec: PartitionSpec) -> Arrays:
    return arrays if devices is None else jax.device_put(arrays, NamedSharding(_mesh(devices), spec))


@cache
def _mesh(devices: int) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), (MEMBERS,))


@cache
def _program() -> Any:
    """The jitted sweep, created at first use: compiler options are known only once JAX has initialised its devices."""
    return jax.jit(_swept, static_argnums=(0, 1), compiler_options=compiler_options(quick=True))


def _swept(run: Callable[..., Any], layout: Layout, points: Arrays, shared: tuple[Any, ...]) -> Arrays:
    if layout.devices is None:
        return _on_one_device(run, layout.chunk, points, shared)
    specs = PartitionSpec(MEMBERS), PartitionSpec()
    here, mesh = partial(_on_one_device, run, layout.chunk), _mesh(layout.devices)
    return jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)(points, shared)


def _on_one_device(run: Callable[..., Any], chunk: int, points: Arrays, shared: tuple[Any, ...]) -> Arrays:
    def member(point: Arrays) -> Arrays:
        return jax.jit(run)(point, *shared)  # traced once for the choice of the layout and for every layout

    if chunk == 1:
        return jax.lax.map(member, points)
    if chunk >= len(jax.tree.leaves(points)[0]):
        return jax.vmap(member)(points)
    return jax.lax.map(member, points, batch_size=chunk)
