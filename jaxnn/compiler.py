"""XLA compiler options for neural networks, the cache of compiled programs, their memory, and their forms."""

import ctypes
import os
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import jax
import jaxlib

from jaxnn import _checks as check
from jaxnn._cache import cache_folder
from jaxnn._errors import wrong_type
from jaxnn._platform import forms

# The first version of jaxlib that hands convolutions away, and the last minor one in which the options are known.
KNOWN = (0, 10, 1), (0, 12)
# Parameters of glibc's `mallopt`, by their numbers in malloc.h, with the values of `reuse_memory`.
NO_MAPPING, NO_TRIMMING = (-4, 0), (-1, -1)
THREADS = 2  # of XLA for each device of `cores_as_devices`: with one, the first small steps hang


def compiler_options(*, quick: bool = False) -> dict[str, str | int]:
    """Compiler options with which convolutions use all cores of a CPU, for `jax.jit(f, compiler_options=...)`.

    By default XLA's CPU compiler delegates two-dimensional float32 convolutions of more than 16 channels to a library
    that uses one core, and that takes many times as long for the gradient of the weights. With these options XLA
    compiles them itself; matrix products and reductions are compiled as before. `drive` and `predict` use the options
    automatically. Pass them to your own `jax.jit` for the same speed, and for results equal to those of `drive` to the
    bit. Only the options of the outermost `jit` count.

    Args:
      quick: True sets LLVM's optimization level to 1 instead of 3: a whole run compiles in half to two thirds of the
        time and runs at the same speed, with different rounding. `sweep` uses it. Where JAX's own
        `jax_disable_most_optimizations` is on, the level stays at its 0.

    Returns:
      Options, or {} where none are needed: on TPU and GPU, and for versions of jaxlib that were not measured.

    >>> step = jax.jit(lambda x: x + 1, compiler_options=compiler_options())
    >>> step(1.0).item()
    2.0
    """
    check.flags("compiler_options", quick=quick)
    version = tuple(int(part) for part in jaxlib.__version__.split(".")[:3])  # type: ignore[attr-defined]
    if jax.default_backend() != "cpu" or version < KNOWN[0] or version[:2] > KNOWN[1]:
        return {}
    options: dict[str, str | int] = {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
    }
    if quick and not jax.config.read("jax_disable_most_optimizations"):
        options["xla_backend_optimization_level"] = 1
    return options


def cache_programs(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keeps compiled programs on disk, so that the next process compiles none of them again.

    Call it once at the start of a program, after the import. It turns on JAX's persistent compilation cache for all
    programs of the process, whatever time they take to compile. Programs are found by their text, the versions of JAX
    and XLA, the options and the device, so a stale one is never used. Delete the folder to free its space.

    Args:
      folder: where to keep them; None is $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn, and in it programs.

    Returns:
      The folder.

    Raises:
      TypeError: if `folder` is not a path.

    Reference: JAX's documentation, Persistent compilation cache.

    >>> before = jax.config.jax_compilation_cache_dir
    >>> cache_programs("programs").name
    'programs'
    >>> jax.config.update("jax_compilation_cache_dir", before)
    """
    if not isinstance(folder, str | os.PathLike | None):
        raise wrong_type("cache_programs", "folder to be a path (str or os.PathLike) or None", folder)
    chosen = cache_folder() / "programs" if folder is None else Path(folder).expanduser()
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return chosen


def reuse_memory() -> bool:
    """Lets a CPU reuse the memory of a program in its next call, instead of asking the system for new pages.

    Call it once at the start of a program, after the imports and before the first computation. XLA allocates the
    intermediate values of a program in one piece, and frees it after the call. The C library returns pieces of more
    than 32 MiB to the system, which has to clear their pages when they are touched again. If they are kept, a train
    step of ResNet-20 or a GRU takes 0.79 of the time (`benchmarks/memory.py`).

    Memory that was used once then stays with the process. Programs run in the thread that calls them, whose heap can
    keep such pieces, so a call returns when its results are there: Python does not prepare the next call meanwhile. The
    settings are those of the whole process, other libraries included. They change no result.

    Returns:
      True if the process uses the C library of GNU, whose allocator was set; False elsewhere (macOS, Windows, musl),
      where nothing is changed.

    Raises:
      RuntimeError: if a computation has taken place, since JAX then keeps the thread that it uses.

    Reference: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD; JAX's documentation, jax_cpu_enable_async_dispatch.

    >>> import sys, subprocess
    >>> subprocess.run([sys.executable, "-c", "import jaxnn as nn; nn.reuse_memory()"]).returncode
    0
    """
    return _reuse()  # once: a second call finds a JAX that has started


def cores_as_devices(devices: int | None = None) -> int:
    """Divides a CPU into several devices of JAX, for `nn.mesh`, and returns their number.

    Call it once at the start of a program, after the imports and before the first computation. A program on one device
    uses all cores in its large products alone; two devices use two cores in all parts of their programs. With
    `nn.sharding.data_parallel`, a train step of a GRU or LSTM takes 0.7 to 0.8 of the time on two cores; one of a small
    network takes longer (`benchmarks/cores.py`). Programs for one device still use all cores.

    The devices of a process share the threads of XLA. A device that waits for the others keeps its thread, so with one
    thread for each core, as by default, all of them can wait for ever. The function therefore sets the environment
    variable NPROC, from which XLA takes the number of threads, to two for each device; a larger value is kept.

    Args:
      devices: number of devices >= 1; None is the number of cores that the process may use.

    Raises:
      TypeError, ValueError: if the number is not an integer, or below 1.
      RuntimeError: if a computation has taken place, since JAX then keeps its devices.

    >>> import sys, subprocess
    >>> program = "import jax, jaxnn as nn; print(nn.cores_as_devices(2), jax.device_count('cpu'))"
    >>> subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
    '2 2'
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n = n if devices is None else check.count("cores_as_devices", "devices", devices)
    _check_not_started("cores_as_devices")
    jax.config.update("jax_num_cpu_devices", n)
    threads = os.environ.get("NPROC", "")
    os.environ["NPROC"] = str(max(THREADS * n, int(threads) if threads.isdecimal() else 0))
    return n


def _check_not_started(where: str) -> None:
    """Raises RuntimeError after the first computation."""
    devices = getattr(jax.config, "jax_num_cpu_devices")  # noqa: B009
    try:  # JAX refuses to change this number after the first computation
        jax.config.update("jax_num_cpu_devices", 1 if devices != 1 else 2)
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        raise RuntimeError(
            f"{where}: expected to be called before the first computation, got a JAX that has started its threads. "
            "Call it right after the imports."
        ) from None


@cache
def _reuse() -> bool:
    _check_not_started("reuse_memory")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no such library
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    done = [mallopt(parameter, value) for parameter, value in (NO_MAPPING, NO_TRIMMING)]
    return done == [1, 1]


def plain_forms() -> AbstractContextManager[None]:
    """Context in which programs are traced without the forms that are faster on a CPU.

    Convolutions and max pools are lax's operations, recurrent layers a scan that JAX differentiates, products keep
    their axes: the programs of TPU and GPU. Results are equal up to rounding. Use it to compare the forms, to find out
    if a difference comes from one of them, or to write a program for another platform with `jax.export`. `nn.export`
    automatically writes such programs without any form that was chosen for this platform.

    A function under `jax.jit` keeps the form in which it was first traced: enter the context around a new `jax.jit`.

    >>> import jaxnn as nn
    >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2))
    >>> with nn.compiler.plain_forms():
    ...     program = jax.make_jaxpr(nn.ops.conv)(x, w)
    >>> program.eqns[0].primitive.name
    'conv_general_dilated'
    """
    return forms("plain")
