"""A process that holds the jobs of one row and times them when told: JSON lines on stdout, names on stdin.

python -m _peers.worker ROW LIBRARY,LIBRARY,... [--quick] [--once] [--processor]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from _peers.rows import ALL, Job, data

MODULES = {
    "jaxnn": "ours",
    "by hand": "by_hand",
    "optax": "optax_peer",
    "linen": "linen_peer",
    "nnx": "nnx_peer",
    "equinox": "equinox_peer",
    "haiku": "haiku_peer",
    "keras": "keras_peer",
    "torch": "torch_peer",
    "onnxruntime": "onnx_peer",
}
SLOW = 1.5  # a form slower than the library's best by this factor is not measured further
WARM = 0.02  # seconds of calls before short calls are timed
PATIENCE = 30  # calls until a loss has to be below its first value


def reuse_memory() -> None:
    """As jaxnn's documentation tells; it is a setting of the process, so that it serves all peers on JAX alike."""
    import jaxnn

    jaxnn.reuse_memory()


def block(result: Any) -> None:
    """Waits for arrays of JAX; those of others are there already."""
    if "jax" in sys.modules:
        import jax

        jax.block_until_ready(result)


def warm_up(job: Job) -> None:
    """Calls for `WARM` seconds: after another process, or an idle time, short calls take up to twice as long."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM:
        block(job.run())


def seconds(job: Job, calls: int, clock: Callable[[], float]) -> float:
    """Time of one call, of several in succession."""
    start = clock()
    for _ in range(calls):
        result = job.run()
    block(result)
    return (clock() - start) / calls


def losses(job: Job) -> tuple[float, float] | None:
    """The first and the last loss, after more calls if few calls did not lower it."""
    if job.losses is None:
        return None
    for _ in range(PATIENCE):
        first, last = job.losses()
        if last < first:
            break
        block(job.run())
    return job.losses()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def built(name: str, library: str, quick: bool) -> dict[str, Job]:
    """The jobs of a library, {} with a word on why where there are none."""
    row = ALL[name]
    try:
        module = import_module(f"_peers.{MODULES[library]}")
    except ImportError as error:
        say(library=library, absent=str(error))
        return {}
    module.QUICK = quick
    try:
        return module.jobs(row, *data(row))
    except Exception as error:
        say(library=library, error=f"{type(error).__name__}: {error}")
        return {}


def forms(name: str, library: str, quick: bool, clock: Callable[[], float]) -> dict[str, Job]:
    """The fastest forms of a library, after their first calls."""
    row, jobs, took = ALL[name], built(name, library, quick), {}
    for form, job in jobs.items():
        try:
            first = seconds(job, 1, clock)
            took[form] = (
                first if row.kind in ("first", "memory") else min(seconds(job, row.calls, clock) for _ in range(2))
            )
        except Exception as error:
            say(library=library, error=f"{form}: {type(error).__name__}: {error}")
            continue
        say(library=library, form=form, first=first, params=job.params, trial=took[form])
    return {form: jobs[form] for form in took if took[form] <= SLOW * min(took.values())}


def serve(name: str, libraries: list[str], quick: bool, clock: Callable[[], float]) -> None:
    row = ALL[name]
    ready = {(library, form): job for library in libraries for form, job in forms(name, library, quick, clock).items()}
    say(ready=[list(which) for which in ready])
    for line in sys.stdin:
        library, form, what = json.loads(line)
        job = ready[library, form]
        if what == "time":
            if row.calls > 1:
                warm_up(job)
            say(seconds=seconds(job, row.calls, clock))
        elif what == "losses":
            say(losses=losses(job))
        else:
            say(bytes=job.memory and job.memory())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("libraries")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--once", action="store_true", help="one call of the first form")
    parser.add_argument("--processor", action="store_true", help="processor seconds of all threads")
    given = parser.parse_args()
    libraries = given.libraries.split(",")
    if "torch" not in libraries:
        reuse_memory()
    if given.once:
        jobs = built(given.row, libraries[0], quick=True)
        for job in list(jobs.values())[:1]:
            block(job.run())
            say(started=libraries[0])
        return
    serve(given.row, libraries, given.quick, time.process_time if given.processor else time.perf_counter)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
