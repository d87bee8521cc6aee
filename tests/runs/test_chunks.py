"""Sweeps that end early: what is done comes back, and the rest can be run; what is shown on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn.runs import _chunks
from jaxnn.runs import _sweep as module

POINTS = {"x": jnp.arange(5.0), "key": jax.random.split(jax.random.key(0), 5)}


def run(point, scale):
    return {"loss": scale * (point["x"] - 2) ** 2, "n": jnp.int32(point["x"]), "key": point["key"]}


def ends_at(monkeypatch, call, error):
    """Lets the call of a sweep's program with this number raise an error."""
    real, calls = module._called, []

    def called(*args):
        calls.append(args)
        if len(calls) == call + 1:
            raise error
        return real(*args)

    monkeypatch.setattr(module, "_called", called)
    return calls


def check_partial(found, done):
    assert found.done.tolist() == [i < done for i in range(5)]
    loss = [4.0, 1.0, 0.0, 1.0, 4.0]
    np.testing.assert_array_equal(found.results["loss"], [v if i < done else np.nan for i, v in enumerate(loss)])
    assert found.results["n"].tolist() == [i if i < done else 0 for i in range(5)]
    assert (
        jax.random.key_data(found.results["key"])[:done].tolist() == jax.random.key_data(POINTS["key"])[:done].tolist()
    )
    assert sorted(row[0] for row in found.leaderboard("loss").rows) == list(range(done))


# A row is (strategy, chunk, chunks before the end, members done).
ENDS = {
    "in turn": ("map", None, 3, 3),
    "two at a time": ("vmap", 2, 1, 2),
    "three at a time": ("vmap", 3, 1, 3),
    "spread": ("shard", 1, 4, 4),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.slow
def test_an_interrupt_returns_what_is_done_and_the_rest_can_be_run(how, monkeypatch):
    strategy, chunk, call, done = ENDS[how]
    calls = ends_at(monkeypatch, call, KeyboardInterrupt())
    with pytest.warns(RuntimeWarning, match=f"^sweep: interrupted with {done} of 5 members done. Pass it as resume= "):
        found = nn.sweep(run, POINTS, 1.0, strategy=strategy, chunk=chunk)
    check_partial(found, done)
    before = len(calls)
    found = nn.sweep(run, POINTS, 1.0, strategy=strategy, chunk=chunk, resume=found)
    check_partial(found, 5)
    assert len(calls) - before == -(-(5 - done) // (chunk or 1))
    assert found.best("loss").row == 2
    assert nn.sweep(run, POINTS, 1.0, resume=found) is found


@pytest.mark.slow
def test_any_other_exception_has_what_is_done(monkeypatch):
    ends_at(monkeypatch, 2, RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory") as excinfo:
        nn.sweep(run, POINTS, 1.0, strategy="map")
    assert excinfo.value.__notes__ == ["sweep: 2 of 5 members are done, in the attribute `sweep` of this exception."]
    found = excinfo.value.sweep
    check_partial(found, 2)
    ends_at(monkeypatch, 1, RuntimeError("again"))
    with pytest.raises(RuntimeError, match="again") as excinfo:
        nn.sweep(run, POINTS, 1.0, strategy="map", resume=found)
    found = excinfo.value.sweep
    check_partial(found, 3)
    ends_at(monkeypatch, 1, KeyboardInterrupt())
    with pytest.warns(RuntimeWarning, match="4 of 5"):
        found = nn.sweep(run, POINTS, 1.0, strategy="map", resume=found)
    check_partial(found, 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no memory")], ids=["interrupt", "exception"])
def test_nothing_done_is_nothing_to_keep(error, monkeypatch):
    ends_at(monkeypatch, 0, error)
    with pytest.raises(type(error)) as excinfo:
        nn.sweep(run, POINTS, 1.0)
    assert not hasattr(excinfo.value, "sweep")


@pytest.mark.parametrize(
    ("n", "chunk", "devices", "size"),
    [(5, 5, None, 5), (5, 2, None, 2), (5, 4, None, 3), (500, 400, None, 250), (11, 1, 8, 8), (64, 1, None, 1),
     (65, 1, None, 2), (1000, 3, None, 18), (1000, 1, 8, 16)],
)  # fmt: skip
def test_members_in_one_call(n, chunk, devices, size):
    assert module.Layout(chunk, devices).together(n) == size
    assert size <= module.MOST_CALLS * size < n + module.MOST_CALLS * size
    assert -(-n // size) <= module.MOST_CALLS


def test_parts_are_joined_in_order():
    parts = [{"a": jnp.arange(2), "b": jnp.ones((2, 1))}, {"a": jnp.arange(2, 3), "b": jnp.zeros((1, 1))}]
    whole = _chunks.joined(parts)
    assert (whole["a"].tolist(), whole["b"].tolist(), parts) == ([0, 1, 2], [[1], [1], [0]], [])


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    nn.sweep(lambda x: (x - 2) ** 2, jnp.arange(5.0), strategy="map", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("members 1/5  best value 4.0000  ")
    assert lines[-1].startswith("members 5/5  best value 0.0000  ")
    assert lines[-1].endswith(" members/s  0:00:00 left")
    nn.sweep(run, POINTS, 1.0, strategy="map", progress=True)  # which value is meant is not known
    assert capsys.readouterr().err.splitlines()[0].startswith("members 1/5  ")
    nn.sweep(run, POINTS, 1.0)
    assert capsys.readouterr().err == ""


ERRORS = {
    "resume": (lambda found: {"resume": found.results}, TypeError, "sweep: expected resume to be a Sweep, got"),
    "points": (
        lambda found: {"resume": found._replace(points=jnp.arange(4.0))},
        ValueError,
        "sweep: expected resume to be a sweep over 5 points, got one over 4.",
    ),
    "results": (
        lambda found: {"resume": found._replace(results={"loss": found.results["n"], "n": found.results["n"]})},
        ValueError,
        "sweep: expected resume to be a sweep of this run, with key<fry>[5] at key, got nothing.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    how, kind, text = ERRORS[case]
    found = nn.Sweep(POINTS, jax.vmap(run, (0, None))(POINTS, 1.0), "map", 1, {}, np.arange(5) < 2)
    with pytest.raises(kind) as excinfo:
        nn.sweep(run, POINTS, 1.0, **how(found))
    assert str(excinfo.value).startswith(text)
