"""The run of `fit` driven from outside: compiled here, its progress shown, an interrupt survived."""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._inputs import check_count
from jaxnn.compiler import compiler_options
from jaxnn.train.fit import Plan, Run, advance, make_plan, start
from jaxnn.train.progress import reporter
from jaxnn.train.trainer import Trainer, typed


def drive(
    trainer: Trainer,
    key: jax.Array,
    train: Any,
    valid: Any = None,
    *,
    epochs: int,
    batch_size: int | None = None,
    patience: int | None = None,
    monitor: str = "loss",
    mode: Literal["min", "max"] = "min",
    augment: Callable | None = None,
    run: Run | None = None,
    every: int = 1,
    progress: bool = True,
) -> Run:
    """The run of `fit`, compiled here and driven piece by piece: progress is shown, an interrupt keeps what is done.

    Args:
      key: one key, or a row of keys for as many runs at once: every leaf of the `Run` then has a leading axis.
      run: an earlier `Run` to go on with, in place of a new one, with the same other arguments; it is left intact, and
        `key` only says whether it is one run or a row of them.
      every: epochs between two looks at the run, >= 1; it leaves the numbers as they are.
      progress: shows epoch, metrics and time: a live line in a terminal, plain lines elsewhere.

    It compiles with `compiler_options`, and gives the bits of a `fit` that is jitted with them.

    The other arguments are those of `fit`; a second call with the same trainer and `augment`, as objects, compiles
    nothing. Raises as `fit` does, TypeError under a trace, where `fit` is the one to call, and ValueError for a `run`
    of other arguments.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> run = nn.drive(t, jax.random.key(0), (x, x[:, :1]), epochs=20, batch_size=16, progress=False)
    >>> int(run.epoch), run.history["train"]["loss"].shape
    (20, (20, 4))
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((key, train, valid, run))):
        raise wrong_type("drive", "concrete arrays", "traced ones", "Inside jit, vmap or grad call fit: it is pure.")
    plan = make_plan("drive", trainer, train, valid, epochs, batch_size, patience, monitor, mode, augment)
    check_count("drive", "every", every)
    train, valid = jax.tree.map(jnp.asarray, (train, valid))
    key = typed(key)
    if key.ndim > 1:
        raise invalid("drive", "one key or a row of keys", key)
    many = key.ndim == 1
    begins, advances = _programs()
    if run is None:
        run = begins(plan, many, key, train, valid)
    else:
        _check_run(run, jax.eval_shape(partial(_starts, plan, many), key, train, valid))
        run = jax.tree.map(jnp.copy, run)
    with reporter(progress, epochs) as report:
        began, first = time.perf_counter(), int(jnp.max(run.epoch))
        try:
            while (done := int(jnp.max(run.epoch))) < epochs and not _stopped(plan, run):
                run = advances(plan, many, run, train, valid, min(done + every, epochs))
                reached = int(jnp.max(run.epoch))
                report(reached, _latest(run.history, reached), (time.perf_counter() - began) / (reached - first))
        except KeyboardInterrupt:
            if any(leaf.is_deleted() for leaf in jax.tree.leaves(run)):
                raise  # it came after the old run was donated and before the new one was handed over
            report.note("interrupted: the run is kept as far as it got")
    return run


def _starts(plan: Plan, many: bool, key: jax.Array, train: Any, valid: Any) -> Run:
    begin = partial(start, plan)
    return (jax.vmap(begin, (0, None, None)) if many else begin)(key, train, valid)


def _advances(plan: Plan, many: bool, run: Run, train: Any, valid: Any, until: jax.Array) -> Run:
    go_on = partial(advance, plan)
    return (jax.vmap(go_on, (0, None, None, None)) if many else go_on)(run, train, valid, until)


@cache
def _programs() -> tuple[Callable[..., Run], Callable[..., Run]]:
    """Made at the first run: which options there are is known once JAX has its devices."""
    compiled = partial(jax.jit, static_argnums=(0, 1), compiler_options=compiler_options())
    return compiled(_starts), compiled(_advances, donate_argnums=2)


def _stopped(plan: Plan, run: Run) -> bool:
    return plan.patience is not None and bool(jnp.all(run.wait > plan.patience))


def _latest(history: dict, epoch: int) -> dict[str, dict[str, np.ndarray]]:
    """The last epoch's metrics as NumPy arrays, one number for each member: means over steps, and the evaluation."""
    return {
        "train": {k: np.asarray(v[..., epoch - 1, :]).mean(axis=-1) for k, v in history["train"].items()},
        "valid": {k: np.asarray(v[..., epoch - 1]) for k, v in history.get("valid", {}).items()},
    }


def _check_run(run: Any, expected: Run) -> None:
    """Raises unless `run` has the leaves that a new run would have: a row missing in the history would be dropped."""
    if not isinstance(run, Run):
        raise wrong_type("drive", "run to be a Run", run)
    leaves, known = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): describe(leaf) for path, leaf in found}
        for found in map(jax.tree_util.tree_leaves_with_path, (run, expected))
    )
    for path in sorted(leaves.keys() | known.keys()):
        if leaves.get(path) != known.get(path):
            got = f"one with {leaves.get(path, 'nothing')} where {known.get(path, 'nothing')} should be, at {path}"
            raise invalid("drive", "a run of the same key shape, trainer, data, epochs and batch_size", got)
