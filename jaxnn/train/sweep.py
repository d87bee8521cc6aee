"""Many runs as one program: a function of one point run on all points, in the way that suits the machine."""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn._errors import describe, invalid, is_function, wrong_type
from jaxnn._flops import contractions
from jaxnn._inputs import MEMBERS, check_concrete, check_count, check_examples
from jaxnn.compiler import compiler_options
from jaxnn.train._memory import available, in_words, needed
from jaxnn.train.leaderboard import Leaderboard, Member, leaderboard

Strategy = Literal["auto", "measure", "vmap", "map", "shard"]

# FLOPs of a member's mean matrix product or convolution from which on it keeps a CPU busy by itself: some 50 µs, beside
# which the few µs that it takes to start an operation do not count.
BUSY = 10_000_000


class Sweep(NamedTuple):
    """What `sweep` found: the points, and what came of each.

    Attributes:
      points: the points, [n, ...].
      results: what `run` returned for each, [n, ...].
      strategy: how the members ran, "vmap", "map" or "shard"; "auto" and "measure" chose one of them.
      chunk: members that ran together, on one device; 1 is one after the other.
      seconds: by "measure" alone: what each way took, compilation apart.

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

    def leaderboard(
        self, value: str | Callable[[Any], Any] | None = None, mode: Literal["min", "max"] | None = None
    ) -> Leaderboard:
        """The points as a table with one value each, the best first and NaN last; it prints.

        Args:
          value: the path of an array [n] in `results`, such as "best_value", or a function of `results` that gives one,
            such as `lambda r: r.history["valid"]["accuracy"].max(axis=1)`; None is "best_value", or the only leaf.
          mode: whether "min" or "max" is better. None knows it for a path that ends in the name of a metric or loss of
            `nn`, for "best_value" where the run monitored one, and takes results that are one array for an objective
            that is minimised; anything else raises.
        """
        return leaderboard(self.points, self.results, value, mode)

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

    def __str__(self) -> str:
        return f"{self.strategy} by {self.chunk}"


def sweep(
    run: Callable[..., Any], points: Any, *shared: Any, strategy: Strategy = "auto", chunk: int | None = None
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

    A member equals the same run alone up to rounding. By "map" on a CPU it is that run to the bit, when it is jitted
    with `compiler_options(quick=True)`. Random layers draw under "shard" what they draw elsewhere.

    Args:
      run: traceable, of one point, typically one that calls `fit`. The same function compiles once for the same shapes.
      points: a tree of arrays stacked on axis 0, keys among them; `points.grid` and `points.random` make such.
      shared: trees of arrays for all members; there is one copy of them on each device.
      chunk: members at a time, >= 1, on each device; None is all for "vmap", and what suits for "auto" and "shard".

    Raises TypeError under a trace, and ValueError for points of different lengths, for another strategy or chunk, and,
    before it starts, for a sweep that does not fit in memory.

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
    if not is_function(run):
        fix = "The order is sweep(run, points, *shared)."
        raise wrong_type("sweep", "run to be a function (point, *shared) -> result", describe(run), fix)
    check_concrete("sweep", (points, shared), "Inside jit, vmap or grad call jax.vmap(run).")
    if strategy not in get_args(Strategy):
        raise invalid("sweep", f"strategy to be one of {', '.join(get_args(Strategy))}", describe(strategy))
    if chunk is not None:
        chunk = check_count("sweep", "chunk", chunk)
        if strategy == "map" and chunk > 1:
            fix = "For some members at a time take strategy 'vmap'."
            raise invalid("sweep", "no chunk with strategy 'map'", f"chunk={chunk}", fix)
    n = check_examples("sweep", "points", points)
    points, shared = jax.tree.map(jnp.asarray, (points, shared))
    if strategy != "measure":
        layout = _chosen(strategy, chunk, run, points, shared)
        layout, program = _fitting(layout, run, points, shared, shrink=strategy == "auto" and chunk is None)
        return Sweep(points, program(), layout.strategy, layout.chunk, {})
    seconds: dict[str, float] = {}
    for layout in _ways(n, chunk):
        program = _fitting(layout, run, points, shared)[1]
        began = perf_counter()
        results = jax.block_until_ready(program())
        seconds[str(layout)] = perf_counter() - began
        if seconds[str(layout)] == min(seconds.values()):
            fastest = Sweep(points, results, layout.strategy, layout.chunk, seconds)
        del results  # the next one may need its memory
    return fastest


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
    layout: Layout, run: Callable[..., Any], points: Any, shared: tuple, *, shrink: bool = False
) -> tuple[Layout, Callable[[], Any]]:
    """The layout, with fewer members at a time if they may `shrink`, and its program; raises if that does not fit."""
    n = len(jax.tree.leaves(points)[0])
    devices = jax.local_devices()[: layout.devices or 1]
    arguments = _placed(layout, points, shared)
    while True:
        program = _program().lower(run, layout, *arguments).compile()
        takes, free = needed(program, devices), available(devices)
        if free is None or takes <= free:
            return layout, partial(_started, program, n, *arguments)
        if not shrink or layout.chunk == 1:
            break
        layout = layout._replace(chunk=max(1, min(layout.chunk // 2, layout.chunk * free // takes)))
    fix = "Sweep over fewer points at a time, or return less from run."
    if layout.chunk > 1:
        fix = f"Run fewer at a time, chunk={layout.chunk // 2}, or one after the other, strategy='map'."
    got = f"one that takes {in_words(takes)}, {n} members by {layout.strategy} with chunk={layout.chunk}"
    raise invalid("sweep", f"a sweep that fits into the {in_words(free)} of free memory", got, fix)


def _started(program: Any, n: int, points: Any, shared: tuple) -> Any:
    """The results of the n members, without those that filled up a device."""
    results = program(points, shared)
    return results if len(jax.tree.leaves(points)[0]) == n else jax.tree.map(lambda a: a[:n], results)


def _placed(layout: Layout, points: Any, shared: tuple) -> tuple[Any, tuple]:
    """The arguments where they are needed; points filled up with the last of them until all devices have as many."""
    if layout.devices is None:
        return points, shared
    mesh = _mesh(layout.devices)
    n = len(jax.tree.leaves(points)[0])
    rows = np.minimum(np.arange(-(-n // layout.devices) * layout.devices), n - 1)
    points = jax.tree.map(lambda a: a[rows], points)
    spread, copied = (NamedSharding(mesh, spec) for spec in (PartitionSpec(MEMBERS), PartitionSpec()))
    return jax.device_put(points, spread), jax.device_put(shared, copied)


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
