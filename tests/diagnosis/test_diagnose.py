"""Rules on facts that are changed one at a time, and whole diagnoses of planted faults."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diagnosis._nets import CE, KEY, TARGET, X, Y, mlp

import jaxnn as nn
from jaxnn.diagnosis import _diagnose, kind_of
from jaxnn.diagnosis._baselines import Scores
from jaxnn.diagnosis._look import Range
from jaxnn.diagnosis._measure import SCALES
from jaxnn.diagnosis._rules import TRAINING, dead
from jaxnn.diagnosis._rules_data import DATA
from jaxnn.diagnosis._rules_model import HINTS, MODEL

ROWS = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
LABELS = (ROWS @ np.random.default_rng(2).normal(size=(6, 3))).argmax(1).astype(np.int32)
TRAIN, VALID = (ROWS[:300], LABELS[:300]), (ROWS[300:], LABELS[300:])
TRAINER = nn.trainer(mlp(depth=2, width=16, activation=nn.relu), CE, nn.adam(3e-3))


@pytest.fixture(scope="module")
def facts():
    """Facts of a healthy classifier."""
    kept = []
    rule = lambda f: kept.append(f) or ()  # noqa: E731
    before, _diagnose.DATA = _diagnose.DATA, (*DATA, rule)
    try:
        report = nn.diagnose(TRAINER, KEY, TRAIN, VALID, batch_size=32)
    finally:
        _diagnose.DATA = before
    assert report.names == ()
    assert {"losses", "outputs", "gradients", "baselines", "best constant", "overfit"} <= set(report.figures)
    return kept[0]


def other(path, value):
    """Change of a field of the facts, or of a field of one of their looks."""

    def change(f):
        head, *rest = path.split(".")
        changed = value(f) if callable(value) else value
        return f._replace(**{head: getattr(f, head)._replace(**{rest[0]: changed}) if rest else changed})

    return change


def small_first(look):
    def change(f):
        gradients = dict(getattr(f, look).gradients)
        return gradients | {k: np.float32(v * 1e-6) for k, v in gradients.items() if k.startswith("dense/")}

    return change


def unit(**fields):
    def change(f):
        outputs = dict(f.first.outputs)
        return outputs | {name: v._replace(**fields) for name, v in outputs.items() if name in ("dense", "relu")}

    return change


def symmetric(f, **fields):
    changed = {name: np.bool_(value) for name, value in fields.items()}
    return {path: found._replace(**changed) for path, found in f.symmetry.items()}


BOUND = Range(np.float32(0), np.float32(1), np.bool_(True))
# finding, changes
RULES = {
    "copies": ("leakage", other("copied", (20, 100))),
    "a copy": (None, other("copied", (1, 100))),
    "label in x": ("leakage", other("determined", (0.999, 4))),
    "rare": ("imbalance", other("fractions", np.array([0.49, 0.49, 0.02]))),
    "uneven": (None, other("fractions", np.array([0.5, 0.3, 0.2]))),
    "large inputs": ("unscaled inputs", other("first.outputs", unit(size=np.float32(70)))),
    "a permuted loss": ("broadcasting loss", other("slow.losses", np.float32([0.5, 0.5, 0.9]))),
    "no target": (None, other("slow.losses", np.float32([0.5, 0.5, 0.5]))),
    "label 3": ("labels out of range", lambda f: f._replace(y=np.array([0, 3]), edges=np.nan)),
    "an ignored label": (None, other("y", np.array([0, -1]))),
    "NaN": ("non-finite data", other("broken", {"inputs": 3, "targets": 0})),
    "counts": (None, lambda f: other("fractions", np.array([0.6, 0.399, 0.001]))(f)._replace(classes=None)),
    "absent from both": (None, other("fractions", np.array([0.0, 0.5, 0.5]))),
    "1 of 5 absent": (
        "imbalance",
        lambda f: f._replace(fractions=np.array([0.25, 0.0, 0.25, 0.25, 0.25]), classes=5),
    ),
    "2 of 5 absent": (None, lambda f: f._replace(fractions=np.array([0.3, 0.0, 0.3, 0.4]), classes=5)),
    "absent from train": ("imbalance", other("absent", {2: 0.1})),
    "softmax": ("softmax twice", other("slow.range", BOUND)),
    "tanh": ("wrong last activation", other("slow.range", BOUND._replace(low=np.float32(-1), simplex=np.bool_(False)))),
    "relu": ("wrong last activation", other("slow.range", Range(np.float32(0), np.float32(np.inf), np.bool_(False)))),
    "log-softmax": (None, other("slow.range", Range(np.float32(-np.inf), np.float32(0), np.bool_(False)))),
    "zero init that trains": (None, other("symmetry", lambda f: symmetric(f, equal=True))),
    "equal units": ("symmetric initialisation", other("symmetry", lambda f: symmetric(f, equal=True, kept=True))),
    "a stack": ("linear stack", other("stacks", [("dense", "dense_1")])),
    "flat": ("saturated units", other("last.flat", {"relu": np.float32(0.8)})),
    "half flat": (None, other("last.flat", {"relu": np.float32(0.4)})),
    "no trained dense": ("frozen layer", other("trained", lambda f: f.trained - {"dense/w"})),
    "no trained bias": (None, other("trained", lambda f: f.trained - {"dense/b"})),
    "dead": ("dead units", other("last.outputs", unit(dead=np.float32(0.8)))),
    "some dead": (None, other("last.outputs", unit(dead=np.float32(0.3)))),
    "high loss": ("initial loss", other("constant", 0.01)),
    "stuck": ("cannot overfit", other("few", np.full(200, 1.1))),
}


@pytest.mark.parametrize("case", RULES)
@pytest.mark.slow
def test_rules(case, facts):
    name, change = RULES[case]
    changed = change(facts)
    found = [finding.name for rule in (*DATA, *MODEL, *TRAINING) for finding in rule(changed)]
    assert found == ([] if name is None else [name])


def losses(**ends):
    """Losses of the short runs that fall from 1 to an end for each multiple of the rate."""
    rows = [np.linspace(1, ends.get(f"at{s:g}".replace(".", "_"), 0.9), 100) for s in SCALES]
    return np.float32(rows)


RATES = {
    "fine": (None, losses(at0_1=0.8, at1=0.3, at10=0.1)),
    "noise alone": (None, losses(at0_1=0.97, at1=0.99, at10=0.95, at0_01=0.99, at100=1.0, at1000=1.1)),
    "too low": ("rate too low", losses(at1=0.99, at10=0.95, at100=0.2)),
    "too high": ("rate too high", losses(at0_1=0.2, at1=0.9)),
    "NaN": ("rate too high", losses(at0_1=0.2, at1=np.nan)),
}


@pytest.mark.parametrize("case", RATES)
@pytest.mark.slow
def test_the_rule_of_rates(case, facts):
    name, known = RATES[case]
    found = [finding.name for rule in TRAINING for finding in rule(facts._replace(losses=known, constant=np.nan))]
    assert found == ([] if name is None else [name])


@pytest.mark.slow
def test_vanishing_and_symmetric_rules(facts):
    vanished = facts
    for look in ("first", "last"):
        vanished = other(f"{look}.gradients", small_first(look))(vanished)
    assert [finding.name for rule in TRAINING for finding in rule(vanished)] == ["vanishing gradient"]
    one = {
        "dense/w": facts.symmetry["dense/w"]._replace(equal=np.bool_(True), kept=np.bool_(True), value=np.float32(0))
    }
    found = [finding for rule in MODEL for finding in rule(facts._replace(symmetry=facts.symmetry | one))]
    assert [(finding.name, finding.path, finding.figure) for finding in found] == [
        ("symmetric initialisation", "dense/w", "all weights are 0")
    ]


@pytest.mark.slow
def test_a_layer_of_zeros_is_the_reason_for_dead_units_and_missing_gradients(facts):
    """Without a gradient equal units stay equal; what follows from it is not a finding of its own."""
    still = {path: np.float32(0) for path in facts.first.gradients}
    stuck = facts._replace(symmetry=symmetric(facts, equal=True))
    for look in ("first", "slow"):
        stuck = other(f"{look}.gradients", still)(stuck)
    for look in ("first", "last"):
        stuck = other(f"{look}.outputs", unit(dead=np.float32(1)))(stuck)
    assert [finding.name for rule in (*MODEL, dead) for finding in rule(stuck)] == ["symmetric initialisation"]
    dying = other("first.outputs", unit(dead=np.float32(0)))(stuck)
    assert [finding.name for finding in dead(dying)] == ["dead units"]


@pytest.mark.slow
def test_a_bias_without_gradient_is_a_hint(facts):
    assert [hint for rule in HINTS for hint in rule(facts)] == []
    idle = facts
    for look in ("first", "slow"):
        idle = other(f"{look}.gradients", lambda f, look=look: getattr(f, look).gradients | {"dense/b": 1e-9})(idle)
    assert [(hint.name, hint.path) for rule in HINTS for hint in rule(idle)] == [("bias without effect", "dense/b")]


@pytest.mark.slow
def test_unrelated_targets(facts):
    chance = facts._replace(baselines=Scores(0.4, 0.38, 0.42, 0.03), held=1.1, held_constant=1.09)
    assert [finding.name for rule in DATA for finding in rule(chance)] == ["unrelated targets"]
    assert [f.name for rule in DATA for f in rule(chance._replace(held=0.5))] == []  # the model is better
    few = chance._replace(baselines=Scores(0.58, 1.0, 0.75, 0.14))
    assert [f.name for rule in DATA for f in rule(few)] == []
    frequent = chance._replace(baselines=Scores(0.97, 0.97, 0.97, 0.02))
    assert [finding.name for rule in DATA for finding in rule(frequent)] == []


KINDS = {
    "softmax": (CE, (8, 3), np.zeros(8, np.int32)),
    "softmax, one-hot": (
        lambda z, y: -jnp.sum(y * jax.nn.log_softmax(z), -1),
        (8, 3),
        np.eye(3, dtype=np.float32)[[0] * 8],
    ),
    "sigmoid": (nn.losses.binary_cross_entropy, (8,), np.zeros(8, np.float32)),
    "sigmoid, column": (nn.losses.binary_cross_entropy, (8, 1), np.zeros((8, 1), np.float32)),
    "probabilities": (nn.losses.cross_entropy_on_probabilities, (8, 3), np.zeros(8, np.int32)),
    "other": (nn.losses.squared_error, (8, 3), np.zeros((8, 3), np.float32)),
    "other, column": (nn.losses.absolute_error, (8, 1), np.zeros((8, 1), np.float32)),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_losses(case):
    loss, shape, y = KINDS[case]
    assert kind_of(loss, jnp.zeros(shape), jnp.asarray(y)) == case.split(",")[0]


def squares(p, t):
    return jnp.mean((p.reshape(-1, 1) - t.reshape(1, -1)) ** 2)


# trainer, finding
WHOLE = {
    "softmax twice": (nn.trainer(mlp(nn.softmax), CE, nn.adam(3e-3)), (X, Y)),
    "broadcasting loss": (nn.trainer(mlp(units=1), squares, nn.adam(3e-3)), (X, TARGET[:, 0])),
    "target shape": (nn.trainer(mlp(units=1), nn.losses.squared_error, nn.adam(3e-3)), (X, TARGET[:, 0])),
    "wrong last activation": (
        nn.trainer(mlp(nn.sigmoid, units=1), nn.losses.squared_error, nn.adam(3e-3)),
        (X, TARGET),
    ),
    "frozen layer": (nn.trainer(mlp(), CE, nn.adam(3e-3), frozen="dense/*"), (X, Y)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_planted_fault_is_named(name):
    trainer, data = WHOLE[name]
    report = nn.diagnose(trainer, KEY, data, batch_size=32, steps=20)
    assert name in report.names


ZERO = {"w_init": nn.init.zeros}
IMAGES = (ROWS.reshape(400, 3, 2, 1)[:300], LABELS[:300])


def cnn(**how):
    layers = nn.conv(16, 2), nn.relu, nn.conv(16, 2, **how), nn.batch_norm(), nn.relu, nn.flatten(), nn.dense(3)
    return nn.serial(*layers)


# model, training data, findings, paths of hints
MODELS = {
    "hidden layer 0": (
        nn.serial(nn.dense(16), nn.relu, nn.dense(16, **ZERO), nn.relu, nn.dense(3)),
        TRAIN,
        {"symmetric initialisation"},
        [],
    ),
    "all 0": (nn.serial(nn.dense(16, **ZERO), nn.relu, nn.dense(3, **ZERO)), TRAIN, {"symmetric initialisation"}, []),
    "conv 0": (cnn(**ZERO), IMAGES, {"symmetric initialisation"}, []),
    "a bias before batch norm": (cnn(), IMAGES, set(), ["conv_1/b"]),
    "no bias before batch norm": (cnn(bias=False), IMAGES, set(), []),
    "last layer 0": (nn.serial(nn.dense(16), nn.relu, nn.dense(3, **ZERO)), TRAIN, set(), []),
    "no activation": (nn.serial(nn.dense(16), nn.dense(16), nn.relu, nn.dense(3)), TRAIN, {"linear stack"}, []),
    "far out on a tanh": (
        nn.serial(nn.dense(16), lambda x: 50 * x, nn.tanh, nn.dense(3)),
        TRAIN,
        {"saturated units"},
        [],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_faults_of_models(case):
    """Three seeds. Zero layers leave the loss where it is, so that "cannot overfit" follows; nothing else does."""
    model, data, known, hints = MODELS[case]
    trainer = nn.trainer(model, CE, nn.adam(1e-2))
    for seed in range(3):
        report = nn.diagnose(trainer, jax.random.key(seed), data, batch_size=32, steps=50)
        assert known <= set(report.names) <= known | ({"cannot overfit"} if known else set())
        assert [hint.path for hint in report.hints] == hints


@pytest.mark.slow
def test_an_absent_class_and_the_learning_curve_of_a_run():
    train = tuple(a[:300][LABELS[:300] != 2] for a in (ROWS, LABELS))
    run = nn.fit(TRAINER, KEY, train, VALID, epochs=3, batch_size=32)
    report = nn.diagnose(TRAINER, KEY, train, VALID, batch_size=32, steps=20, run=run, sizes=[50, 100])
    (absent,) = (finding for finding in report.findings if finding.name == "imbalance")
    assert absent.figure == f"class 2 is absent from train, and {(LABELS[300:] == 2).mean():.1%} of valid"
    assert report.figures["learning curve"].valid.shape == (2,)


@pytest.mark.slow
def test_an_objective_of_the_user_is_judged_by_rates_alone():
    objective = nn.objective_trainer(
        lambda key, batch: ({"p": jnp.ones(4)}, {}),
        lambda params, state, batch, *, key, train: (jnp.mean((params["p"] - batch.mean()) ** 2), (state, {})),
        nn.sgd(1e-5),
    )
    assert nn.diagnose(objective, KEY, np.zeros(64, np.float32)).names == ("rate too low",)


WRONG = {
    "no trainer": (
        lambda: nn.diagnose(nn.dense(1), KEY, (X, Y)),
        TypeError,
        "diagnose: expected trainer to be a Trainer",
    ),
    "no arrays": (lambda: nn.diagnose(TRAINER, KEY, iter([])), TypeError, "diagnose: expected train to be arrays"),
    "sizes alone": (
        lambda: nn.diagnose(TRAINER, KEY, (X, Y), sizes=[10]),
        ValueError,
        "diagnose: expected a run with sizes, got None",
    ),
    "few steps": (lambda: nn.diagnose(TRAINER, KEY, (X, Y), steps=3), ValueError, "diagnose: expected steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, kind, text = WRONG[case]
    with pytest.raises(kind, match=text):
        call()
