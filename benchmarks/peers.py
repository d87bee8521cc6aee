"""jaxnn and its peers: the same networks, parameters, losses and data in every library, ratios of their times.

    python benchmarks/peers.py [row ...] [--peers linen,nnx] [--rounds 15] [--quick] [--long]
                               [--growth] [--save | --processor]
    make bench                       all rows in an environment of its own, with --save

A row is measured in fresh processes: one holds jaxnn and all peers on JAX, another one PyTorch and ONNX Runtime. They
take turns, round by round, and start each round with another library. A ratio is our time over that of a peer within
a round; below 1, jaxnn is faster. The table has the median of the ratios and an interval that holds the true median
with at least 95 % (order statistics; the range below 6 rounds). First calls are apart from the rounds. Before each
measurement all processes rest, and short calls are warmed up, so that no library suffers from the one before it.

Where a library documents several forms, such as `nnx.jit` and the functional loop of nnx, or eager, channels_last and
`torch.compile` in PyTorch, all are tried, and the fastest stands for the library. All train by Adam with equal
hyper-parameters on equal data, and a row fails if the numbers of parameters differ or a loss does not fall. The peers
are compiled with XLA's defaults; jaxnn passes `compiler_options=nn.compiler_options()`, as its documentation tells.
`nn.reuse_memory()` is called in every process of a library on JAX: it serves all that share the process.

--quick leaves torch.compile out. --long adds rows that take minutes. --save appends history.jsonl, one line for each
row and library, and writes peers.txt and peers.png from the newest lines, and commits.png from all. Nothing else should
run meanwhile: PyTorch suffers most from other processes. On a busy machine --processor compares the processor seconds
of the peers on JAX: the work, without the idle time of a core. It is not for PyTorch, whose threads spin, and is not
saved.

--growth measures one size at a time in place of the rows, for some libraries: batch, depth, width, length, members.
With --save it draws growth.png, with the limits of the machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from _peers import growth
from _peers.rows import ALL, GROWING, GROWN, LONG, ROWS, Row
from _ratios import interval

HERE = Path(__file__).parent
HISTORY, TEXT = HERE / "history.jsonl", HERE / "peers.txt"
PICTURE, COMMITS, GROWTH = (HERE / name for name in ("peers.png", "commits.png", "growth.png"))
ON_JAX = ("by hand", "optax", "linen", "nnx", "equinox", "haiku", "keras")
APART = ("torch", "onnxruntime")
PACKAGES = ("jax", "jaxlib", "optax", "flax", "equinox", "dm-haiku", "keras", "torch", "onnxruntime", "numpy")
BOUND = 1.03  # of a ratio to a peer on JAX
REST = 0.05  # seconds before a measurement: threads of PyTorch and ONNX Runtime spin for a while after a call
LONGEST = 20.0  # seconds of a call; slower forms are measured in the first round alone

# (net, library) -> parameters that a library's own layer has beyond ours: biases that are added to another bias
EXTRA = {
    ("gru", "haiku"): -256,
    ("gru", "nnx"): -256,
    ("gru", "keras"): 512,
    ("gru", "torch"): 512,
    ("lstm", "torch"): 1024,
}


class Worker(NamedTuple):
    """A process of `_peers/worker.py`.

    Attributes:
      process: the process.
      jobs: the (library, form) that it holds.
      told: its messages about their first calls.
    """

    process: subprocess.Popen
    jobs: list[tuple[str, str]]
    told: list[dict]


# Workers.


def command(name: str, libraries: list[str], *flags: str) -> dict[str, Any]:
    """Arguments of `subprocess` for a worker."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    quiet = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    args = [sys.executable, "-m", "_peers.worker", name, ",".join(libraries), *flags]
    return {"args": args, "env": os.environ | quiet, "text": True, "stdout": subprocess.PIPE}


def messages(process: subprocess.Popen) -> Iterator[dict]:
    """The messages of a worker; other lines on its stdout are notes of libraries."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)


def started(name: str, libraries: list[str], flags: list[str]) -> Worker:
    """A worker whose jobs have been called for the first time."""
    process = subprocess.Popen(stdin=subprocess.PIPE, **command(name, libraries, *flags))
    told = []
    for message in messages(process):
        if "ready" in message:
            return Worker(process, [(library, form) for library, form in message["ready"]], told)
        told.append(message)
        for fault in ("absent", "error"):
            if fault in message:
                print(f"  {message['library']:12} {fault.upper()}: {message[fault]}", flush=True)
    raise RuntimeError(f"{name}: the worker of {', '.join(libraries)} ended with status {process.wait()}")


def answer(worker: Worker, library: str, form: str, what: str) -> Any:
    """The answer of a worker to "time", "losses" or "memory"."""
    assert worker.process.stdin is not None
    print(json.dumps([library, form, what]), file=worker.process.stdin, flush=True)
    for message in messages(worker.process):
        return next(iter(message.values()))
    raise RuntimeError(f"{library}, {form}: the worker ended with status {worker.process.wait()}")


def ended(worker: Worker) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    worker.process.wait()


# Measurements: library -> form -> seconds of each round, or bytes.

Times = dict[str, dict[str, list[float]]]


class Found(NamedTuple):
    """Measurements of a row.

    Attributes:
      times: library -> form -> seconds of each round, or bytes.
      told: messages about first calls.
      losses: library -> first and last loss.
    """

    times: Times
    told: list[dict]
    losses: dict[str, Any]


def alternating(name: str, groups: list[list[str]], rounds: int, flags: list[str]) -> Found:
    """Rounds of all jobs of a row in turn."""
    workers = [started(name, group, flags) for group in groups if group]
    jobs = [(worker, *job) for worker in workers for job in worker.jobs]
    times: Times = {library: {} for _, library, _ in jobs}
    for i in range(rounds):
        for worker, library, form in jobs[i % len(jobs) :] + jobs[: i % len(jobs)]:
            seconds = times[library].setdefault(form, [])
            if not seconds or seconds[0] < LONGEST:
                time.sleep(REST)
                seconds.append(answer(worker, library, form, "time"))
    losses = {}
    for worker, library, form in jobs:
        if form == fastest(times[library]):
            losses[library] = answer(worker, library, form, "losses")
    for worker in workers:
        ended(worker)
    return Found(times, [message for worker in workers for message in worker.told], losses)


def alone(name: str, groups: list[list[str]], rounds: int, flags: list[str]) -> Found:
    """First calls, or memory: a process for each library and round."""
    row, times, told = ALL[name], {}, []
    for _ in range(1 if row.kind == "memory" else rounds):
        for library in [library for group in groups for library in group]:
            worker = started(name, [library], flags)
            told += worker.told
            for job in worker.jobs[:1]:
                memory = answer(worker, *job, "memory") if row.kind == "memory" else None
                value = memory if row.kind == "memory" else worker.told[-1]["first"]
                if value is not None:
                    times.setdefault(library, {}).setdefault(job[1], []).append(value)
            ended(worker)
    return Found(times, told, {})


def processes(name: str, groups: list[list[str]], rounds: int, flags: list[str]) -> Found:
    """Processes from their start to the end of the first step of an MLP; the first round fills caches."""
    row, times = ROWS[name], {}
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for i in range(rounds + 1):
            for library in [library for group in groups for library in group]:
                how = command(name, [library], "--once")
                how["env"] |= cache if row.kind == "restart" else {}
                start, spent = time.perf_counter(), processor_of_children()
                done = subprocess.run(check=True, **how)
                took = time.perf_counter() - start
                took = processor_of_children() - spent if "--processor" in flags else took
                if i and "started" in done.stdout:
                    times.setdefault(library, {}).setdefault("process", []).append(took)
    return Found(times, [], {})


def processor_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


HOWS = {"first": alone, "memory": alone, "start": processes, "restart": processes}


# Statistics.


def fastest(forms: dict[str, list[float]]) -> str:
    return min(forms, key=lambda form: median(forms[form]))


def entries(name: str, row: Row, found: Found, facts: dict) -> list[dict]:
    """A line of the history for each library."""
    ours = found.times["jaxnn"]
    lines = []
    for library, forms in found.times.items():
        form = fastest(forms)
        ratios = [a / b for a, b in zip(ours[fastest(ours)], forms[form], strict=False)]
        low, high = interval(ratios)
        first = [m["first"] for m in found.told if m["library"] == library and m.get("form") == form]
        line = {"row": name, "library": library, "form": form, "ratio": median(ratios), "low": low, "high": high}
        unit = {"bytes": forms[form][0]} if row.kind == "memory" else {"seconds": median(forms[form])}
        others = {other: median(times) for other, times in forms.items() if other != form}
        lines.append(facts | line | unit | {"rounds": len(ratios), "first": first[:1], "others": others})
    return lines


def faults(row: Row, found: Found) -> list[str]:
    """Differences in the number of parameters, losses that did not fall, and errors."""
    said = [f"{m['library']}: {m['error']}" for m in found.told if "error" in m]
    params = {(m["library"], m["params"]) for m in found.told if "params" in m}
    ours = next((n for library, n in params if library == "jaxnn"), None)
    for library, n in sorted(params):
        if ours is not None and n != ours + EXTRA.get((row.net, library), 0):
            said.append(f"{library}: {n} parameters, jaxnn {ours}")
    for library, losses in found.losses.items():
        if losses is not None and not losses[1] < losses[0]:
            said.append(f"{library}: loss {losses[0]:.4f} -> {losses[1]:.4f}")
    return said


# The table, the picture, the history.


def facts() -> dict[str, Any]:
    """Date, commit, machine and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    machine = f"{next(iter(models), platform.machine())}, {os.cpu_count()} cores"
    return {"date": datetime.date.today().isoformat(), "commit": commit, "machine": machine, "versions": versions}


def shown(value: float, kind: str) -> str:
    return f"{value / 2**20:8.1f} MiB" if kind == "memory" else f"{1e3 * value:9.3f} ms"


def details(name: str, row: Row, lines: list[dict], losses: dict | None = None) -> Iterator[str]:
    """A row with all libraries, the slowest last."""
    yield f"\n{name}: {row.title}"
    for line in sorted(lines, key=lambda line: -line["ratio"]):
        size = line.get("bytes", line.get("seconds"))
        ratio = "" if line["library"] == "jaxnn" else f"{line['ratio']:6.3f} ({line['low']:.3f}, {line['high']:.3f})"
        others = ", ".join(f"{form} {shown(value, row.kind).strip()}" for form, value in line["others"].items())
        first = f"first call {line['first'][0]:6.2f} s" if line["first"] and row.kind == "step" else ""
        loss = (losses or {}).get(line["library"])
        fall = f"  loss {loss[0]:.3f} -> {loss[1]:.3f}" if loss else ""
        text = f"  {line['library']:12} {line['form']:16} {shown(size, row.kind)}   {ratio:22} {first:20}{fall}"
        yield (text + (f"  also {others}" if others else "")).rstrip()


def newest(rows: dict[str, Row]) -> dict[str, list[dict]]:
    """row -> the newest line of each library, from the history."""
    lines = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    return {name: list({line["library"]: line for line in lines if line["row"] == name}.values()) for name in rows}


def matrix(found: dict[str, list[dict]]) -> Iterator[str]:
    """Rows by libraries: our time over theirs; * marks a peer on JAX beyond the bound."""
    libraries = [*ON_JAX, *APART]
    yield f"{'':62}{'jaxnn':>12}" + "".join(f"{library:>12}" for library in libraries)
    for name, lines in found.items():
        row, ratios = ALL[name], {line["library"]: line for line in lines}
        if "jaxnn" not in ratios:
            continue
        size = ratios["jaxnn"].get("bytes", ratios["jaxnn"].get("seconds"))
        cells = []
        for library in libraries:
            ratio = ratios[library]["ratio"] if library in ratios else None
            mark = "*" if ratio is not None and library in ON_JAX and ratio > BOUND else " "
            cells.append(f"{'–':>11} " if ratio is None else f"{ratio:11.2f}{mark}")
        yield f"{row.title:62}{shown(size, row.kind):>12}{''.join(cells)}".rstrip()


def write_text(found: dict[str, list[dict]]) -> None:
    seen = {(line["date"], line["commit"], line["machine"]) for lines in found.values() for line in lines}
    versions = max((line for lines in found.values() for line in lines), key=lambda line: line["date"])["versions"]
    told = [
        f"Time of jaxnn over that of a peer; below 1, jaxnn is faster. Medians; * is a peer on JAX above {BOUND}.",
        "Equal networks, losses, data and Adam. Libraries alternate round by round; PyTorch and ONNX Runtime have a",
        "process of their own. In brackets an interval of at least 95 % around the median, the range below 6 rounds.",
        "The fastest form of a library counts. jaxnn compiles with nn.compiler_options(), peers with XLA's defaults.",
        *(f"{date}, commit {commit}, {machine}" for date, commit, machine in sorted(seen)),
        ", ".join(f"{package} {version}" for package, version in versions.items()),
        "",
        *matrix(found),
    ]
    for name, lines in found.items():
        told += details(name, ALL[name], lines) if lines else []
    TEXT.write_text("\n".join(told) + "\n")


def draw(found: dict[str, list[dict]]) -> None:
    """The ratios of every row with their intervals, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [name for name, lines in found.items() if lines]
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.42 * len(rows)), layout="constrained")
    libraries = [*ON_JAX, *APART]
    for k, library in enumerate(libraries):
        points = [(i, line) for i, name in enumerate(rows) for line in found[name] if line["library"] == library]
        ratio = [line["ratio"] for _, line in points]
        sides = [
            [line["ratio"] - line["low"] for _, line in points],
            [line["high"] - line["ratio"] for _, line in points],
        ]
        at = [i + 0.08 * (k - len(libraries) / 2) for i, _ in points]
        axes.errorbar(ratio, at, xerr=sides, fmt="o", ms=4, lw=1, label=library)
    axes.axvline(1, color="black", lw=1)
    axes.set(xscale="log", xlabel="time of jaxnn / time of the peer (left of 1, jaxnn is faster)")
    ticks = [2.0**k for k in range(-6, 5)]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(y=0.02)
    axes.set_yticks(range(len(rows)), [ALL[name].title for name in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(PICTURE, dpi=110)


def draw_commits() -> None:
    """The ratios of every row by commit, from the history, for rows that were measured at two commits or more."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    commits = list(dict.fromkeys(line["commit"] for line in lines))
    rows = [name for name in ROWS | LONG if len({line["commit"] for line in lines if line["row"] == name}) > 1]
    if not rows:
        return
    columns = 3
    shape = -(-len(rows) // columns), columns
    figure, grid = plt.subplots(
        *shape, figsize=(11, 2.2 * shape[0]), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for name, axes in zip(rows, grid.flat, strict=False):
        for k, library in enumerate([*ON_JAX, *APART]):
            found = {x["commit"]: x for x in lines if x["row"] == name and x["library"] == library}  # the newest
            at = [commits.index(commit) for commit in found]
            axes.plot(at, [x["ratio"] for x in found.values()], "o-", ms=3, lw=1, color=f"C{k}", label=library)
            for i, x in zip(at, found.values(), strict=True):
                axes.plot([i, i], [x["low"], x["high"]], color=f"C{k}", lw=1, alpha=0.4)
        axes.axhline(1, color="black", lw=1)
        axes.set_title(ALL[name].title, fontsize=7)
    grid.flat[0].set(yscale="log", xticks=range(len(commits)), xticklabels=commits)
    for axes in list(grid.flat)[len(rows) :]:
        axes.remove()
    figure.supylabel("time of jaxnn / time of the peer")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(COMMITS, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS | LONG))
    parser.add_argument("--peers", default=",".join((*ON_JAX, *APART)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="without torch.compile")
    parser.add_argument("--long", action="store_true", help="the rows that take minutes, too")
    parser.add_argument("--growth", action="store_true", help="time against batch, depth, width, length and members")
    parser.add_argument("--save", action="store_true", help="append the history, write the text and the picture")
    parser.add_argument("--processor", action="store_true", help="processor seconds in place of time")
    given = parser.parse_args()
    if given.processor and given.save:
        parser.error("--processor is not saved")
    unknown = [name for name in given.rows if name not in ALL]
    peers = given.peers.split(",")
    unknown += [peer for peer in peers if peer not in (*ON_JAX, *APART)]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    flags = [f"--{flag}" for flag in ("quick", "processor") if getattr(given, flag)]
    groups = [["jaxnn", *(p for p in ON_JAX if p in peers)], [p for p in APART if p in peers]]
    told, wrong = facts(), []
    print(f"{told['machine']}, load {os.getloadavg()[0]:.1f}; {given.rounds} rounds", flush=True)
    for name in given.rows or (GROWN if given.growth else [*ROWS, *(LONG if given.long else ())]):
        row = ALL[name]
        able = [[p for p in group if name not in GROWN or p in GROWING] for group in groups]
        found = HOWS.get(row.kind, alternating)(name, able, given.rounds, flags)
        lines = entries(name, row, found, told)
        print("\n".join(details(name, row, lines, found.losses)), flush=True)
        for fault in faults(row, found):
            wrong.append(f"{name}: {fault}")
            print(f"  FAULT {fault}", flush=True)
        if given.save:
            with HISTORY.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            saved = newest(ROWS | LONG)
            write_text(saved)
            draw(saved)
            draw_commits()
            if given.growth:
                growth.draw(newest(GROWN), GROWTH)
    if wrong:
        sys.exit("\n".join(["", "faults:", *wrong]))


if __name__ == "__main__":
    main()
