"""The rules under which everything here is tested: strict dtypes, no broadcasting of ranks."""

import atexit
import functools
import gc
import importlib.util
import itertools
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.interpreters import mlir

import jaxnn as nn
from tests._tiers import is_alternate, is_nightly

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Most of the time goes into the compilation of small programs: it is quick here and in the processes that tests start.
# The fixture `optimized` compiles as users do; JAXNN_TESTS_OPTIMIZED=1 does so everywhere.
QUICK = not os.environ.get("JAXNN_TESTS_OPTIMIZED")
if QUICK:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if jax.__version_info__ < (0, 11):  # a process of JAX 0.12 ends at these flags
        flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
jax.config.update("jax_disable_most_optimizations", QUICK)

# Many tests compile the same program anew: a process keeps what it compiled, for as long as it runs.
_PROGRAMS = tempfile.TemporaryDirectory(prefix="jaxnn-tests-")
atexit.register(_PROGRAMS.cleanup)
jax.config.update("jax_compilation_cache_dir", _PROGRAMS.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# JAX makes a context of MLIR for each program, which takes 8 ms and some memory. Here all programs share one.
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# Programs with several devices in processes of their own need more threads than cores: see `nn.cores_as_devices`. The
# devices of this process exist already, so that its own number of threads stays.
jax.devices()
os.environ.setdefault("NPROC", "16")

# Tens of thousands of tests are objects that stay: collections need not walk through them.
gc.disable()


def pytest_collection_finish():
    """From here on garbage is collected, among what tests make."""
    gc.freeze()
    gc.set_threshold(2000, 20, 20)  # jaxprs and programs are kept: walks through them are seldom worth it
    gc.enable()


_TESTS = itertools.count(1)
_MAPPINGS = Path("/proc/self/maps")


def pytest_runtest_teardown():
    """Programs that are kept take memory and mappings of memory, of which Linux allows a process 65530."""
    if next(_TESTS) % 50 == 0 and _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By `-n 2` alone too, each worker has tests that are neighbours: they share programs."""
    if config.option.dist == "load":
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
    return None


MISSING = [name for name in ("equinox", "flax") if importlib.util.find_spec(name) is None]
OTHER_DTYPES = {"bfloat16", "float16", "float64", "complex64", "complex128"}


def pytest_collection_modifyitems(items):
    """Of sweeps over dtypes, float32 belongs to the fast tier; others are slow, and so are examples in docstrings."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.slow)
            for name in MISSING:
                if f"interop._{name}" in item.name or (name == "flax" and "interop._nnx" in item.name):
                    item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))
        params = getattr(item, "callspec", None)
        if params and any(_dtype_name(value) in OTHER_DTYPES for value in params.params.values()):
            item.add_marker(pytest.mark.slow)
        if is_nightly(item):
            item.add_marker(pytest.mark.nightly)
        elif is_alternate(item):
            item.add_marker(pytest.mark.slow)
    _by_case(items)


PACKAGE = Path(nn.__file__).parent
TABLES = ("tests.conformance.test_layers_columns", "tests.conformance.test_layers_conformance")


def pytest_ignore_collect(collection_path, config):
    """All cases of ONNX and all docstrings are slow, and collecting them takes ten seconds."""
    if config.option.markexpr != "not slow":
        return None
    return True if collection_path.name == "test_onnx.py" or PACKAGE in collection_path.parents else None


def _by_case(items):
    """The tests of one layer one after the other, whatever they test: each program is then compiled once."""
    places = [i for i, item in enumerate(items) if getattr(getattr(item, "module", None), "__name__", "") in TABLES]
    tests = [items[i] for i in places]
    tests.sort(key=lambda item: item.callspec.params.get("case", "") if hasattr(item, "callspec") else "")
    for place, test in zip(places, tests, strict=True):
        items[place] = test


def _dtype_name(value):
    name = getattr(value, "__name__", value)
    return name if isinstance(name, str) else ""


@pytest.fixture(autouse=True)
def _names_in_docstrings(doctest_namespace):
    doctest_namespace.update(jax=jax, jnp=jnp, np=np, nn=nn)


@pytest.fixture(scope="module")
def optimized():
    """Programs with the compiler's optimizations, for modules in which their bits, accuracy or text matter."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", QUICK)


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


_COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: _COMPILED.append(event) if event.endswith("backend_compile_duration") else None
)


@pytest.fixture
def compilations():
    """How many programs were compiled since the test began, as a function."""
    before = len(_COMPILED)
    return lambda: len(_COMPILED) - before
