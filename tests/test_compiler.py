"""The options of the CPU compiler: that they exist, that they are still needed, and that they leave the rest alone."""

import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import compiler

pytestmark = pytest.mark.usefixtures("optimized")

X = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
Y = np.arange(40) % 4
CNN = nn.serial(nn.conv(32, 3), nn.relu, nn.conv(32, 3, stride=2), nn.relu, nn.flatten(), nn.dense(4))
TRAINER = nn.trainer(CNN, nn.losses.softmax_cross_entropy, nn.adam(1e-2))

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are those of the CPU compiler")
of_known_versions = pytest.mark.skipif(
    jaxlib.__version__ == "0.10.0", reason="it still keeps convolutions, and is told nothing"
)


def convolution(**how):
    f = jax.jit(lambda x, w: nn.ops.conv(x, w), **how)
    return f.lower(jnp.ones((8, 16, 16, 32)), jnp.ones((3, 3, 32, 64))).compile().as_text()


def handed_away(text):
    assert "convolution(" in text
    return '"__ynn_fusion"' in text


@on_cpu
def test_this_jaxlib_is_known():
    fix = "run benchmarks/convolution.py with it, and move KNOWN in jaxnn/compiler.py on or end the option"
    assert tuple(map(int, jaxlib.__version__.split(".")[:2])) <= compiler.KNOWN[1], fix


@of_known_versions
@on_cpu
def test_without_the_options_the_convolution_is_handed_away_and_with_them_it_is_not():
    assert handed_away(convolution()), "this jaxlib keeps its convolutions: the options are needless"
    assert not handed_away(convolution(compiler_options=nn.compiler_options()))


@on_cpu
def test_products_and_reductions_go_on_as_they_were():
    def f(x, w):
        return jax.nn.softmax(jnp.tanh(x @ w) @ w.T).sum(0)

    x, w = jnp.asarray(X.reshape(40, -1)), jnp.full((192, 64), 0.01)
    np.testing.assert_array_equal(jax.jit(f)(x, w), jax.jit(f, compiler_options=nn.compiler_options())(x, w))


def test_elsewhere_there_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert nn.compiler_options() == {}
    assert nn.compiler_options(quick=True) == {}


@of_known_versions
@on_cpu
def test_quick_lowers_the_level_and_raises_none():
    assert nn.compiler_options(quick=True)["xla_backend_optimization_level"] == 1
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert nn.compiler_options(quick=True) == nn.compiler_options()
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.slow
def test_quick_compilation_gives_the_same_up_to_rounding():
    fit = jax.jit(
        lambda *a: nn.fit(TRAINER, *a, epochs=2, batch_size=8), compiler_options=nn.compiler_options(quick=True)
    )
    want = nn.fit(TRAINER, jax.random.key(0), (X, Y), epochs=2, batch_size=8)
    jax.tree.map(assert_close, fit(jax.random.key(0), (X, Y)).history, want.history)


@pytest.mark.parametrize("version", ["0.10.0", "0.13.0", "1.0.0.dev20270101"])
def test_an_unknown_jaxlib_is_told_nothing(monkeypatch, version):
    monkeypatch.setattr(jaxlib, "__version__", version)
    assert nn.compiler_options() == {}


@pytest.mark.slow
def test_drive_gives_the_bits_of_a_fit_with_the_options():
    key, how = jax.random.key(0), {"epochs": 2, "batch_size": 8}
    fit = jax.jit(lambda *a: nn.fit(TRAINER, *a, **how), compiler_options=nn.compiler_options())
    pure, driven = fit(key, (X, Y)), nn.drive(TRAINER, key, (X, Y), **how, progress=False)
    jax.tree.map(np.testing.assert_array_equal, pure, driven)


START = """
import sys, jax, jaxnn as nn
compiled = []
nn.cache_programs(sys.argv[1])
jax.monitoring.register_event_listener(lambda event, **_: compiled.append(event) if "cache_misses" in event else None)
trainer = nn.trainer(nn.dense(2), nn.losses.squared_error, nn.adam(0.1))
batch = jax.numpy.ones((4, 3)), jax.numpy.ones((4, 2))
step = jax.jit(trainer.step, compiler_options=nn.compiler_options())
jax.block_until_ready(step(trainer.init(jax.random.key(0), batch), batch))
print(len(compiled))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    run = [sys.executable, "-c", START, str(tmp_path / "programs")]
    misses = [
        int(subprocess.run(run, capture_output=True, text=True, check=True, timeout=120).stdout) for _ in range(2)
    ]
    assert misses[0] > 3
    assert misses[1] == 0


def test_programs_are_kept_in_the_cache_folder(monkeypatch, tmp_path):
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("JAXNN_CACHE", str(tmp_path))
    try:
        assert nn.cache_programs() == tmp_path / "programs"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "programs")
        monkeypatch.delenv("JAXNN_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
        assert nn.cache_programs() == tmp_path / "x" / "jaxnn" / "programs"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    with pytest.raises(TypeError, match=r"cache_programs: expected folder to be a path .* or None, got 3"):
        nn.cache_programs(3)


FAULTS = """
import resource, statistics, sys, jax, jaxnn as nn
kept = nn.reuse_memory() if "reuse" in sys.argv else False
w = jax.numpy.ones((64, 64))
f = jax.jit(lambda x: jax.numpy.tanh(x @ w) @ w)
x = jax.numpy.ones((1 << 18, 64))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = []
for _ in range(25):  # the heap can still grow once in a late call
    before = faults()
    f(x).sum().block_until_ready()
    counts.append(faults() - before)
print(kept, int(statistics.median(counts)))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the C library of GNU has this allocator")
def test_memory_that_is_reused_is_not_asked_from_the_system_again():
    run = lambda *args: subprocess.run(  # noqa: E731
        [sys.executable, "-c", FAULTS, *args], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    (_, fresh), (kept, reused) = run(), run("reuse")
    assert kept == "True"
    assert int(fresh) > 10_000
    assert int(reused) < 1000


DEVICES = """
import os, sys, jax, jaxnn as nn
os.environ["NPROC"] = sys.argv[1]
given = [int(n) for n in sys.argv[2:]]
print(nn.cores_as_devices(*given), jax.device_count(), os.environ["NPROC"], len(os.sched_getaffinity(0)))
"""


@pytest.mark.slow
def test_cores_become_devices_with_two_threads_each():
    run = lambda *args: subprocess.run(  # noqa: E731
        [sys.executable, "-c", DEVICES, *args], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert run("", "3")[:3] == ["3", "3", "6"]
    assert run("64", "3")[:3] == ["3", "3", "64"]
    n, devices, threads, cores = map(int, run(""))
    assert n == devices == cores == threads // 2


def test_cores_do_not_become_devices_later():
    jnp.ones(1).block_until_ready()
    with pytest.raises(RuntimeError, match=r"cores_as_devices: expected to be called before the first computation"):
        nn.cores_as_devices(2)
    with pytest.raises(ValueError, match=r"cores_as_devices: expected devices to be an integer >= 1, got 0"):
        nn.cores_as_devices(0)


def test_memory_is_not_reused_by_threads_that_have_started():
    before = jax.config.jax_num_cpu_devices
    jnp.ones(1).block_until_ready()
    with pytest.raises(RuntimeError, match=r"reuse_memory: expected to be called before the first computation, got a"):
        nn.reuse_memory()
    assert jax.config.jax_num_cpu_devices == before


@pytest.mark.slow
def test_without_an_allocator_that_can_be_set_nothing_is_changed():
    text = "import ctypes, jaxnn as nn; ctypes.CDLL = lambda name: object(); print(nn.reuse_memory())"
    assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True).stdout == "False\n"


def test_plain_forms_are_laxs_operations():
    x, w = jnp.asarray(X), jnp.ones((3, 3, 3, 4))
    step = lambda w: nn.ops.max_pool(nn.ops.conv(x, w), 2).sum()  # noqa: E731
    text = lambda: jax.jit(jax.grad(lambda w: step(w))).lower(w).as_text()  # noqa: E731
    fast, want = text(), jax.grad(step)(w)
    with nn.compiler.plain_forms():
        plain, got = text(), jax.grad(step)(w)
    assert ("select_and_scatter" in fast, "select_and_scatter" in plain) == (False, True)
    assert_close(got, want)


def test_what_is_exported_for_another_platform_has_no_form_chosen_for_this_one():
    model, x = nn.lstm(4), jnp.ones((2, 5, 3))
    params, state = model.init(jax.random.key(0), x)
    programs = [nn.export(model, params, state, x, sizes=None, platforms=[p]).mlir_module() for p in ("cpu", "tpu")]
    assert ["tensor<2x5x3xf32>, tensor<3x16xf32>) -> tensor<2x5x16xf32>" in text for text in programs] == [False, True]
