"""The settings of a run that `drive` keeps with its checkpoints: what is known, what differs, what may."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.io._folder import described
from jaxnn.train._folder import SETTINGS
from jaxnn.train._plan import make_plan
from jaxnn.train._settings import Kept, decoded, settings_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
LARGE = tuple(np.repeat(a, 10, axis=0) for a in TRAIN)
KEY = jax.random.key(0)
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
ADAM = nn.adam(0.03)
EPOCHS = 2


def settings_in(path):
    """The settings that a file holds."""
    text = described(path)[1].get(SETTINGS)
    return {} if text is None else json.loads(text)


def made(model=MODEL, loss=nn.losses.squared_error, optimizer=ADAM, **how):
    return nn.trainer(model, loss, optimizer, **how)


TRAINER = made()


def settings(*, trainer=TRAINER, train=TRAIN, valid=VALID, first=None, **how):
    how = {"batch_size": 4, "patience": None, "monitor": "loss", "mode": None, "augment": None, **how}
    return settings_of(make_plan("drive", trainer, EPOCHS, **how), train, valid, first)


def differences(before, after, changed=(), train=TRAIN):
    """What an earlier run tells a later one through the text in a file."""
    return Kept(after, changed, train).differences(decoded(Kept(before, (), train).text(), "load"))


def test_what_is_known():
    known = settings()
    model = "serial(\n  dense: dense(4)\n  tanh: tanh\n  dropout: dropout(0.2)\n  dense_1: dense(1)\n)"
    for name, value in {
        "monitor": "loss",
        "mode": "min",
        "patience": None,
        "batch_size": 4,
        "examples": 14,
        "valid_examples": 8,
        "augment": None,
        "model": model,
        "loss": "squared_error",
        "optimizer": "adam",
        "optimizer/learning_rate": 0.03,
        "optimizer/b1": 0.9,  # a default
        "optimizer/weight_decay": None,
        "frozen": "",
    }.items():
        assert known[name] == value
    assert "epochs" not in known
    assert json.loads(json.dumps(known, allow_nan=False)) == known


def rate(count):
    return 0.1


def groups(rate):
    return nn.by_path({"dense/*": nn.adam(rate), "*": nn.compensated(nn.sgd(0.1))})


def lambda_loss(delta):
    return partial(nn.losses.huber, delta=delta)


# name -> what is passed instead, what is then said, from what was passed before if that is not the default.
DIFFER = {
    "mode": ({"mode": "max"}, ["mode max (there min)"]),
    "monitor": ({"monitor": "mae", "mode": "min"}, ["monitor mae (there loss)"]),
    "patience": ({"patience": 3}, ["patience 3 (there none)"]),
    "batch size": ({"batch_size": 7}, ["batch_size 7 (there 4)"]),
    "augment": ({"augment": rate}, ["augment rate (there none)"]),
    "fewer examples": ({"train": (X[:13], Y[:13])}, ["examples 13 (there 14)"]),
    "fewer of many": ({"train": tuple(a[:100] for a in LARGE)}, ["examples 100 (there 140)"], {"train": LARGE}),
    "other and fewer of many": (
        {"train": (LARGE[0][:100] + 1, LARGE[1][:100])},
        ["examples 100 (there 140)", "first_examples checksum ..."],
        {"train": LARGE},
    ),
    "other inputs": ({"train": (X[:14] + 1, Y[:14])}, ["first_examples checksum ..."]),
    "other targets": ({"train": (X[:14], -Y[:14])}, ["first_examples checksum ..."]),
    "other dtype": ({"train": (X[:14].astype(np.float16), Y[:14])}, ["first_examples checksum ..."]),
    "weights": ({"train": (*TRAIN, np.ones(14))}, ["first_examples checksum ..."]),
    "validation": ({"valid": (X[14:], -Y[14:])}, ["first_valid_examples checksum ..."]),
    "optimizer": (
        {"trainer": made(optimizer=nn.nadam(0.03))},
        ["optimizer nadam (there adam)", "optimizer/nesterov true (there false)"],
    ),
    "rates": (
        {"trainer": made(optimizer=nn.adam(0.1, b1=0.5))},
        ["optimizer/learning_rate 0.1 (there 0.03)", "optimizer/b1 0.5 (there 0.9)"],
    ),
    "a schedule": ({"trainer": made(optimizer=nn.adam(rate))}, ["optimizer/learning_rate rate (there 0.03)"]),
    "of optax": ({"trainer": made(optimizer=optax.adam(0.03))}, ["optimizer another (there adam)"]),
    "wrapped": (
        {"trainer": made(optimizer=nn.compensated(nn.adam(0.03)))},
        ["optimizer compensated (there adam)"],
    ),
    "inside a wrapper": (
        {"trainer": made(optimizer=nn.compensated(nn.adam(0.1)))},
        ["optimizer/optimizer/learning_rate 0.1 (there 0.03)"],
        {"trainer": made(optimizer=nn.compensated(nn.adam(0.03)))},
    ),
    "in a group": (
        {"trainer": made(optimizer=groups(0.1))},
        ["optimizer/groups/dense/*/learning_rate 0.1 (there 0.2)"],
        {"trainer": made(optimizer=groups(0.2))},
    ),
    "model": (
        {"trainer": made(nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.5), nn.dense(1)))},
        ["model dropout: dropout(0.5) (there dropout: dropout(0.2))"],
    ),
    "loss": ({"trainer": made(loss=nn.losses.absolute_error)}, ["loss absolute_error (there squared_error)"]),
    "frozen": ({"trainer": made(frozen=["dense/*"])}, ["frozen dense/* (there none)"]),
    "average": ({"trainer": made(average=0.9)}, ["average 0.9 (there none)"]),
}


@pytest.mark.parametrize("case", DIFFER)
def test_each_difference_is_named(case):
    changes, said, *before = DIFFER[case]
    before = settings(**(before[0] if before else {}))
    after = settings(**changes)
    found = [
        f"{text.split(' checksum')[0]} checksum ..." if "checksum" in text else text
        for text in differences(before, after)
    ]
    assert found == said
    names = [text.split(" ")[0] for text in said]
    assert differences(before, after, changed=names) == []


SAME = {
    "itself": ({}, {}),
    "arrays of JAX": ({}, {"train": tuple(map(jnp.asarray, TRAIN))}),
    "float64 where that is cut": ({}, {"train": tuple(a.astype(np.float64) for a in TRAIN)}),
    "a rate of NumPy": ({}, {"trainer": made(optimizer=nn.adam(np.float32(0.03)))}),
    "a rate of JAX": ({}, {"trainer": made(optimizer=nn.adam(jnp.float32(0.03)))}),
    "an integer rate": ({"trainer": made(optimizer=nn.sgd(1))}, {"trainer": made(optimizer=nn.sgd(1.0))}),
    "a default that is given": ({}, {"trainer": made(optimizer=nn.adam(0.03, b1=0.9))}),
    "a pattern and a list of it": ({"trainer": made(frozen="a/*")}, {"trainer": made(frozen=("a/*",))}),
    "functions without a name": (
        {"trainer": made(loss=lambda_loss(0.5))},
        {"trainer": made(loss=lambda_loss(0.5))},
    ),
    "a trainer that tells nothing": ({}, {"trainer": TRAINER._replace(step=lambda ts, batch: (ts, {}))}),
    "arrays, then a feed": ({}, {"train": lambda epoch: [TRAIN], "batch_size": None}),
    "a feed that began later": ({"train": [TRAIN].__iter__, "first": TRAIN}, {"train": [TRAIN].__iter__}),
}


@pytest.mark.parametrize("case", SAME)
def test_what_is_the_same_or_not_known_does_not_differ(case):
    before, after = (settings(**how) for how in SAME[case])
    assert differences(before, after) == []
    assert differences(after, before) == []


def test_names_that_cover():
    before, after = settings(), settings(trainer=made(optimizer=nn.nadam(0.1)), patience=1)
    assert differences(before, after, "optimizer") == ["patience 1 (there none)"]
    assert differences(before, after, ("optimizer", "patience")) == []
    assert len(differences(before, after, "optimizer/learning_rate")) == 3
    with pytest.raises(ValueError) as excinfo:
        Kept(after, "learning_rate", TRAIN).check_changed()
    assert str(excinfo.value) == (
        "drive: expected changed to name settings, such as augment, auxiliary, average, axis_name, batch_size, "
        "examples, first_examples, first_valid_examples, frozen, loss, loss_scale, metrics, mode, model, monitor, "
        "optimizer, patience, precision, regularizer, valid_examples, got 'learning_rate'. "
        "Is it optimizer/learning_rate?"
    )
    with pytest.raises(TypeError) as excinfo:
        Kept(after, 3, TRAIN)
    assert str(excinfo.value) == "drive: expected changed to be the name of a setting or several, got 3."


# Batches from outside.


def feed(seed=0, size=4, scale=1.0):
    order = np.random.default_rng(seed).permutation(12)

    def batches(epoch):
        rows = np.roll(order, epoch)
        return [(scale * X[rows[i : i + size]], Y[rows[i : i + size]]) for i in range(0, 12 - size + 1, size)]

    return batches


def of_feed(feed):
    return settings(train=feed, batch_size=None, first=feed(0)[0])


def test_the_first_batch_of_a_feed():
    before, after = of_feed(feed()), of_feed(feed(1))
    assert before["batch_size"] == 4
    (text,) = differences(before, after, train=feed(1))
    assert text == f"first_batch {after['first_batch']} (there {before['first_batch']})"
    assert differences(before, of_feed(feed()), train=feed()) == []
    assert differences(before, of_feed(feed(size=6)), train=feed(size=6)) == ["batch_size 6 (there 4)"]


def test_a_loader_that_shuffles_anew_is_not_compared():
    generator = np.random.default_rng(5)

    def loader(epoch):
        return feed(generator.integers(1 << 30))(epoch)

    assert differences(of_feed(loader), of_feed(loader), train=loader) == []


# In a folder.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    nn.drive(TRAINER, KEY, TRAIN, VALID, epochs=EPOCHS, batch_size=4, progress=False, checkpoint=folder)
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_folder_of_other_settings(finished):
    drive = partial(nn.drive, TRAINER, KEY, TRAIN, VALID, epochs=EPOCHS, batch_size=4, progress=False)
    before = content(finished)
    other = {"mode": "max", "patience": 3}
    with pytest.raises(ValueError) as excinfo:
        drive(checkpoint=finished, **other)
    assert str(excinfo.value) == (
        f"drive: expected the settings of {finished / 'epoch-000002.safetensors'}, got mode max (there min), "
        "patience 3 (there none). Pass those, or another folder; "
        "changed=['mode', 'patience'] resumes with the new ones."
    )
    with pytest.raises(ValueError, match="expected changed to name settings"):
        drive(checkpoint=finished, changed="rate")
    assert int(drive(checkpoint=finished, changed=["mode", "patience"], **other).epoch) == EPOCHS
    assert content(finished) == before


@pytest.mark.slow
def test_a_change_is_kept(tmp_path):
    drive = partial(nn.drive, TRAINER, KEY, TRAIN, VALID, epochs=EPOCHS, batch_size=4, progress=False)
    drive(checkpoint=tmp_path)
    (tmp_path / "epoch-000002.safetensors").unlink()
    drive(checkpoint=tmp_path, patience=9, changed="patience")
    assert settings_in(tmp_path / "epoch-000002.safetensors")["patience"] == 9
    drive(checkpoint=tmp_path, patience=9)
    with pytest.raises(ValueError, match=r"got patience none \(there 9\)"):
        drive(checkpoint=tmp_path)


@pytest.mark.slow
def test_files_without_settings_go_on(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "old")
    for path in folder.glob("epoch-*"):
        nn.save(path, nn.load(path))
    assert settings_in(folder / "epoch-000002.safetensors") == {}
    other = {"mode": "max", "patience": 3, "epochs": EPOCHS, "batch_size": 4}
    assert int(nn.drive(TRAINER, KEY, TRAIN, VALID, progress=False, checkpoint=folder, **other).epoch) == EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize("case", ["later", "other", "anew"])
def test_fed_runs(tmp_path, case):
    drive = partial(nn.drive, TRAINER, KEY, epochs=3, progress=False)
    drive(train=feed(), checkpoint=tmp_path)
    first = settings_in(tmp_path / "epoch-000003.safetensors")["first_batch"]
    (tmp_path / "epoch-000003.safetensors").unlink()
    if case == "later":  # the run that is passed stands at epoch 2, of which the first batch is another
        run = nn.load(tmp_path / "epoch-000002.safetensors")
        drive(train=feed(), checkpoint=tmp_path, run=run)
        assert settings_in(tmp_path / "epoch-000003.safetensors")["first_batch"] == first
    elif case == "other":
        with pytest.raises(ValueError, match=r"got first_batch checksum \w{8} \(there checksum \w{8}\)"):
            drive(train=feed(1), checkpoint=tmp_path)
        drive(train=feed(1), checkpoint=tmp_path, changed="first_batch")
    else:
        generator = np.random.default_rng(5)
        drive(train=lambda epoch: feed(generator.integers(1 << 30))(epoch), checkpoint=tmp_path)
    assert (tmp_path / "epoch-000003.safetensors").exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a":NaN}', '{"a":1,"a":2}'])
def test_settings_that_lie(text):
    with pytest.raises(ValueError) as excinfo:
        decoded(text, "load a")
    assert str(excinfo.value) == (
        "load a: expected settings as `drive` writes them, got a text that is not a JSON object. It is damaged."
    )
    assert SETTINGS == "settings"
