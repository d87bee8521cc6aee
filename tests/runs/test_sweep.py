"""Every strategy of `sweep` against a Python loop of jitted runs; its choice, its leader board, its memory."""

import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import ops
from jaxnn._flops import contractions
from jaxnn.runs import _memory
from jaxnn.runs import _sweep as module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
POINTS = {
    "key": jax.random.split(jax.random.key(0), 5),
    "rate": jnp.array([0.01, 0.02, 0.05, 0.1, 0.2]),
}


def run(point, x, y):
    trainer = nn.trainer(MODEL, nn.losses.squared_error, nn.adam(point["rate"]))
    return nn.fit(trainer, point["key"], (x, y), epochs=2, batch_size=4)


def member(tree, i):
    return jax.tree.map(lambda a: a[i], tree)


def numbers(tree):
    """The leaves as NumPy arrays, of keys their data."""
    leaves = jax.tree.leaves(tree)
    keys = [jnp.issubdtype(a.dtype, jax.dtypes.prng_key) for a in leaves]
    return [np.asarray(jax.random.key_data(a) if k else a) for a, k in zip(leaves, keys, strict=True)]


@pytest.fixture(scope="module")
def alone():
    """The runs one by one, each by itself."""
    one = jax.jit(run, compiler_options=nn.compiler_options(quick=True))
    return [one(member(POINTS, i), X, Y) for i in range(5)]


# A row is (strategy, chunk, what is recorded).
@pytest.mark.parametrize(
    ("strategy", "chunk", "recorded"),
    [
        ("auto", None, ("vmap", 5)),
        pytest.param("vmap", None, ("vmap", 5), marks=pytest.mark.slow),
        pytest.param("vmap", 9, ("vmap", 5), marks=pytest.mark.slow),
        pytest.param("vmap", 2, ("vmap", 2), marks=pytest.mark.slow),
        pytest.param("auto", 3, ("vmap", 3), marks=pytest.mark.slow),
        pytest.param("map", None, ("map", 1), marks=pytest.mark.slow),
        pytest.param("vmap", 1, ("map", 1), marks=pytest.mark.slow),
        pytest.param("shard", None, ("shard", 5), marks=pytest.mark.slow),
        pytest.param("shard", 1, ("shard", 1), marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_members_are_the_runs_alone(alone, strategy, chunk, recorded):
    found = nn.sweep(run, POINTS, X, Y, strategy=strategy, chunk=chunk)
    assert (found.strategy, found.chunk, found.seconds) == (*recorded, {})
    assert found.points["rate"].tolist() == POINTS["rate"].tolist()
    for i, expected in enumerate(alone):
        for mine, theirs in zip(numbers(member(found.results, i)), numbers(expected), strict=True):
            if recorded[1] == 1 or mine.dtype.kind != "f":
                np.testing.assert_array_equal(mine, theirs)
            else:
                assert_close(mine, theirs, scale=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        nn.serial(nn.conv(3, 3), nn.relu, nn.max_pool(2), nn.flatten(), nn.dense(3)),
        nn.serial(nn.flatten(), nn.dense(8), nn.batch_norm(), nn.relu, nn.dense(3)),
        nn.serial(nn.lift(lambda x: x[..., 0], name="rows"), nn.gru(4), nn.flatten(), nn.dense(3)),
    ],
    ids=["conv", "batch norm", "gru"],
)
def test_in_turn_to_the_bit(model):
    x = RNG.normal(size=(32, 6, 6, 1)).astype(np.float32)
    y = RNG.integers(0, 3, 32)

    def run(key, x, y):
        trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(0.01))
        return nn.fit(trainer, key, (x[:24], y[:24]), (x[24:], y[24:]), epochs=3, batch_size=8, patience=1)

    found = nn.sweep(run, POINTS["key"], x, y, strategy="map")
    one = jax.jit(run, compiler_options=nn.compiler_options(quick=True))
    for i, key in enumerate(POINTS["key"]):
        for mine, theirs in zip(numbers(member(found.results, i)), numbers(one(key, x, y)), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_one_trace_for_the_choice_and_the_run_and_none_for_the_next():
    traces = []

    def counted(point, x):
        traces.append(point)
        return point * x.sum()

    for _ in range(2):
        found = nn.sweep(counted, jnp.arange(3.0), jnp.ones(2))
        assert found.results.tolist() == [0, 2, 4]
        assert len(traces) == 1
    nn.sweep(counted, jnp.arange(3.0), jnp.ones(2), strategy="map")
    assert len(traces) == 1


def test_points_and_shared_may_be_any_trees():
    points = {"a": np.arange(3, dtype=np.float32), "b": (np.ones((3, 2), np.float32), None)}
    found = nn.sweep(lambda p, s, t: {"y": p["a"] * p["b"][0] + s["c"]}, points, {"c": np.float32(1)}, ())
    assert found.results["y"].tolist() == [[1, 1], [2, 2], [3, 3]]


# The choice.


@pytest.mark.slow
def test_members_that_keep_a_cpu_busy_run_in_turn(monkeypatch):
    def of(flops, limit):
        monkeypatch.setattr(module, "BUSY", limit)
        found = nn.sweep(lambda key, x: x @ jax.random.normal(key, (3, 5)), POINTS["key"], X)
        assert found.results.shape == (5, 14, 5)
        return found.strategy

    flops = 2 * 14 * 3 * 5
    assert [of(flops, limit) for limit in (flops - 1, flops)] == ["map", "vmap"]


def test_elsewhere_they_run_together(monkeypatch):
    monkeypatch.setattr(module, "BUSY", 0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert module._chosen("auto", None, run, POINTS, (X, Y)) == (5, None)


def test_flops_of_products_and_convolutions_and_their_gradients():
    w, k = jnp.ones((3, 5)), jnp.ones((3, 3, 2, 4))
    image = jnp.ones((6, 8, 8, 2))

    def looped(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w @ w.T), None), x, None, length=7)[0]

    assert contractions(jax.make_jaxpr(looped)(jnp.ones((4, 3))).jaxpr) == (7 * 2 * (2 * 4 * 3 * 5), 14)
    one = 2 * 6 * 4 * 4 * (3 * 3 * 2) * 4
    gradient = jax.grad(lambda x, k: jnp.sum(ops.conv(x, k, stride=2) ** 2), (0, 1))
    assert contractions(jax.make_jaxpr(gradient)(image, k).jaxpr) == (3 * one, 3)
    assert contractions(jax.make_jaxpr(lambda x: x + 1)(image).jaxpr) == (0, 0)


@pytest.mark.slow
def test_measure_keeps_the_fastest(alone):
    found = nn.sweep(run, POINTS, X, Y, strategy="measure", chunk=2)
    assert set(found.seconds) == {"vmap by 2", "map by 1"}
    assert f"{found.strategy} by {found.chunk}" == min(found.seconds, key=found.seconds.get)
    assert_close(found.results.history["train"]["loss"][3], alone[3].history["train"]["loss"])


# Several devices.

SHARDED = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
import jax.numpy as jnp, numpy as np
import jaxnn as nn

x = np.random.default_rng(0).normal(size=(12, 6, 1)).astype(np.float32)
model = nn.serial(nn.conv(3, 3), nn.dropout(0.5), nn.flatten(), nn.dense(1))

def run(key, data):
    trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1))
    return nn.fit(trainer, key, (data, data[:, 0]), epochs=2, batch_size=4)

for n, each in ((11, 2), (3, 1)):
    keys = jax.random.split(jax.random.key(0), n)
    alone = [jax.jit(run, compiler_options=nn.compiler_options(quick=True))(key, x) for key in keys]
    for strategy, chunk in (("auto", None), ("shard", 1), ("shard", 2)):
        found = nn.sweep(run, keys, x, strategy=strategy, chunk=chunk)
        assert (found.strategy, found.chunk) == ("shard", min(chunk or each, each)), found
        losses = found.results.history["train"]["loss"]
        assert losses.shape == (n, 2, 3)
        for i, one in enumerate(alone):
            np.testing.assert_allclose(losses[i], one.history["train"]["loss"], rtol=1e-5)
    assert set(nn.sweep(run, keys, x, strategy="measure").seconds) == {
        f"vmap by {n}", "map by 1", f"shard by {each}", "shard by 1"}
committed = jax.device_put(x, jax.devices()[0])
assert len(nn.sweep(run, keys, committed).results.best_value.devices()) <= 3
print("spread", len(jax.devices()))
"""


@pytest.mark.slow
def test_over_eight_devices_with_the_numbers_and_masks_of_each_run_alone():
    ran = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "spread 8\n"), ran.stderr


STAYS = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
import jaxnn as nn, numpy as np

x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)

def run(point, x):
    model = nn.serial(nn.dense(8), nn.tanh, nn.dense(1))
    trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(point["rate"]))
    return nn.fit(trainer, point["key"], (x, x[:, :1]), epochs=3, batch_size=8).ts.params

points = nn.points.grid(rate=np.geomspace(1e-3, 0.1, 8), key=jax.random.split(jax.random.key(0), 8))
many, one = (nn.sweep(run, points, x, strategy=strategy) for strategy in ("shard", "vmap"))
for a, b in zip(jax.tree.leaves(many.results), jax.tree.leaves(one.results), strict=True):
    assert [(s.device.id, s.index[0]) for s in a.addressable_shards] == [(i, slice(8 * i, 8 * i + 8)) for i in range(8)]
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
print(len(many.done), many.chunk)
"""


@pytest.mark.slow
def test_results_of_64_runs_stay_on_the_8_devices_that_computed_them():
    ran = subprocess.run([sys.executable, "-c", STAYS], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "64 8\n"), ran.stderr


# Memory.


def test_what_does_not_fit_is_said_before_it_starts(monkeypatch):
    monkeypatch.setattr(module, "available", lambda devices: 2 * 10**9)

    def large(key):
        return jax.random.normal(key, (1000, 1000))

    keys = jax.random.split(jax.random.key(0), 1000)
    texts = []
    for how in ({"strategy": "vmap"}, {"strategy": "map"}):
        with pytest.raises(ValueError) as excinfo:
            nn.sweep(large, keys, **how)
        texts.append(str(excinfo.value))
    vmap, turn = (text.split("takes ")[1].split(",")[0] for text in texts)
    assert float(vmap.removesuffix(" GB")) >= float(turn.removesuffix(" GB")) >= 4.0  # of the results alone
    start = "sweep: expected a sweep that fits into the 2.0 GB of free memory, got one that takes"
    assert texts == [
        f"{start} {vmap}, 1000 members by vmap with chunk=1000. "
        "Run fewer at a time, chunk=500, or one at a time, strategy='map'.",
        f"{start} {turn}, 1000 members by map with chunk=1. "
        "Sweep over fewer points at a time, or return less from run.",
    ]


@pytest.mark.parametrize(("takes", "chunk"), [([90], 5), ([101, 100], 2), ([250, 100], 2), ([400, 100], 1)])
def test_auto_takes_fewer_at_a_time(monkeypatch, takes, chunk):
    left = list(takes)
    monkeypatch.setattr(module, "available", lambda devices: 100)
    monkeypatch.setattr(module, "needed", lambda program, devices, calls: left.pop(0))
    found = nn.sweep(lambda p: 2 * p, jnp.arange(5.0))
    assert found.results.tolist() == [0, 2, 4, 6, 8]
    assert (found.strategy, found.chunk, left) == ("map" if chunk == 1 else "vmap", chunk, [])


def device(**stats):
    return SimpleNamespace(platform="gpu", memory_stats=lambda: stats or None)


def test_free_memory(monkeypatch, tmp_path):
    cpu = jax.devices("cpu")[:1]
    assert 10**6 < _memory.available(cpu) < 10**15
    assert _memory.available([device(bytes_limit=100, bytes_in_use=30), device(bytes_limit=50)]) == 50
    assert _memory.available([device()]) is None
    program = jax.jit(lambda x: jnp.outer(x, x)).lower(jnp.ones(100)).compile()
    one = _memory.needed(program, [device()])
    assert 4 * 100 * 100 <= one < 2 * 4 * 100 * 100
    assert _memory.needed(program, cpu * 3) == 3 * one
    monkeypatch.setattr("builtins.open", lambda *args: (tmp_path / "none").open())
    assert _memory.available(cpu) > 10**6


# The leader board.

BOARD = nn.sweep(
    lambda p: {
        "loss": jnp.where(p["a"] > 3, jnp.nan, (p["a"] - 2) ** 2),
        "deep": {"curve": jnp.stack([p["a"], -p["a"]])},
    },
    {"a": jnp.arange(5.0), "n": jnp.arange(5), "key": POINTS["key"], "row": jnp.ones((5, 2))},
)


@pytest.mark.parametrize(
    ("value", "mode", "order", "name"),
    [
        ("loss", "min", [2, 1, 3, 0, 4], "loss"),
        ("loss", "max", [0, 1, 3, 2, 4], "loss"),
        (lambda r: r["deep"]["curve"][:, 1], "min", [4, 3, 2, 1, 0], "value"),
        (lambda r: r["deep"]["curve"].max(axis=1), "max", [4, 3, 2, 1, 0], "value"),
    ],
)
def test_leaderboard(value, mode, order, name):
    board = BOARD.leaderboard(value, mode)
    assert isinstance(board, nn.runs.Leaderboard)
    assert board.columns == ("row", "a", "n", name)
    assert [row[0] for row in board.rows] == order
    assert [row[1:3] for row in board.rows] == [(float(i), i) for i in order]
    best = BOARD.best(value, mode)
    assert isinstance(best, nn.runs.Member)
    assert (best.row, best.value) == (order[0], board.rows[0][-1])
    assert best.point["a"].item() == order[0]
    assert best.result["deep"]["curve"].tolist() == [order[0], -order[0]]


def test_a_board_prints():
    assert str(BOARD.leaderboard("loss")).splitlines() == [
        "row  a  n  loss",
        "  2  2  2     0",
        "  1  1  1     1",
        "  3  3  3     1",
        "  0  0  0     4",
        "  4  4  4   nan",
    ]


@pytest.mark.slow
def test_a_run_is_compared_by_its_best_value():
    found = nn.sweep(run, POINTS, X, Y)
    assert isinstance(found, nn.Sweep)
    assert found.best().row == int(np.argmin(found.results.best_value))
    assert found.leaderboard().columns == ("row", "rate", "best_value")


def results_of(name, values):
    """Runs of two epochs that monitored a metric of this name, and their best values."""
    best = {"accuracy": np.max, "loss": np.min, "score": np.max}[name](values, axis=1)
    other = np.random.default_rng(0).normal(size=values.shape)
    return {"best_value": best, "history": {"valid": {"loss": other, name: values}}}


def test_a_board_knows_which_way_is_better():
    values = np.array([[0.2, 0.5], [0.9, 0.3], [0.6, 0.1]])
    for name, order in (("accuracy", [1, 2, 0]), ("loss", [2, 0, 1])):
        found = nn.Sweep({"a": jnp.arange(3)}, results_of(name, values), "vmap", 3, {}, np.ones(3, bool))
        assert [row[0] for row in found.leaderboard().rows] == order
    found = nn.Sweep({"a": jnp.arange(3)}, {"accuracy": values[:, 0]}, "vmap", 3, {}, np.ones(3, bool))
    assert found.best("accuracy").row == 1
    for results, value, name in (
        (results_of("score", values), None, "best_value"),
        ({"score": values[:, 0]}, "score", "score"),
        ({"score": values[:, 0]}, lambda r: r["score"], "value"),
    ):
        with pytest.raises(ValueError) as excinfo:
            nn.Sweep({"a": jnp.arange(3)}, results, "vmap", 3, {}, np.ones(3, bool)).best(value)
        assert str(excinfo.value) == (
            f"leaderboard: expected mode='min' or mode='max' for {name}, got none. It is known for the names in "
            "nn.metrics and nn.losses, and for the best_value of a run that monitors one."
        )


# What is refused.

SMALL = jnp.arange(3.0)
ERRORS = {
    "run": (
        lambda: nn.sweep(3, SMALL),
        TypeError,
        "sweep: expected run to be a function (point, *shared) -> result, "
        "got 3. The order is sweep(run, points, *shared).",
    ),
    "chunk of map": (
        lambda: nn.sweep(jnp.sin, SMALL, strategy="map", chunk=2),
        ValueError,
        "sweep: expected no chunk with strategy 'map', got chunk=2. For some members at a time take strategy 'vmap'.",
    ),
    "no rows": (
        lambda: nn.sweep(jnp.sin, 3.0),
        TypeError,
        "sweep: expected points to be arrays with examples on axis 0, got 3.0.",
    ),
    "lengths": (
        lambda: nn.sweep(lambda p: p[0], (SMALL, jnp.arange(2))),
        ValueError,
        "sweep: expected points to have as many examples in every array, and at least one, got (float32[3], int32[2]).",
    ),
    "trace": (
        lambda: jax.jit(lambda p: nn.sweep(jnp.sin, p))(SMALL),
        TypeError,
        "sweep: expected concrete arrays, got a traced float32[3]. Inside jit, vmap or grad call jax.vmap(run).",
    ),
    "trace of shared": (
        lambda: jax.grad(lambda s: nn.sweep(lambda p, s: p * s, SMALL, s).results.sum())(1.0),
        TypeError,
        "sweep: expected concrete arrays, got a traced float32[]. Inside jit, vmap or grad call jax.vmap(run).",
    ),
    "mode": (
        lambda: BOARD.best("loss", "least"),
        ValueError,
        "leaderboard: expected mode to be one of 'min', 'max', None, got 'least'.",
    ),
    "no such value": (
        lambda: BOARD.leaderboard("accuracy"),
        ValueError,
        "leaderboard: expected value to name an array [5] in results, got accuracy; there are loss. "
        "Pass its path, or a function of results that gives an array.",
    ),
    "which value": (
        lambda: BOARD.leaderboard(),
        ValueError,
        "leaderboard: expected value to name an array [5] in results, got None; there are loss. "
        "Pass its path, or a function of results that gives an array.",
    ),
    "a curve": (
        lambda: BOARD.leaderboard("deep/curve"),
        TypeError,
        "leaderboard: expected value to be numbers, one for each member, [5], got float32[5, 2].",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        call()
    assert str(excinfo.value) == text
