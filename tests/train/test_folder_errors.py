"""What `drive(checkpoint=...)` refuses, in whole words, and that it leaves the folder as it was."""

import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tiers import only

import jaxnn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = np.tanh(X[:, :1])
TRAIN, VALID = (X[:14], Y[:14]), (X[14:], Y[14:])
KEY = jax.random.key(0)
MODEL = nn.serial(nn.dense(4), nn.tanh, nn.dropout(0.2), nn.dense(1))
TRAINER = nn.trainer(MODEL, nn.losses.squared_error, nn.adam(0.03))
HOW = {"epochs": 7, "batch_size": 4}
drive = partial(nn.drive, TRAINER, progress=False, **HOW)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    drive(KEY, TRAIN, VALID, checkpoint=folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


CONTINUE = "checkpoint to have the leaves of a run of the same key shape, trainer, data, epochs and batch_size"
ANOTHER = "Pass another folder, or the arguments of that run."
WIDER = nn.trainer(nn.serial(nn.dense(5), nn.tanh, nn.dense(1)), nn.losses.squared_error, nn.adam(0.03))


def normed(key, batch):
    return TRAINER.init(key, batch)._replace(state={"mean": jnp.zeros(3)})


def halved(key, batch):
    ts = TRAINER.init(key, batch)
    layer = ts.params["dense"]
    return ts._replace(params={**ts.params, "dense": {**layer, "b": layer["b"].astype(jnp.bfloat16)}})


OTHERS = {
    "epochs": (
        {"epochs": 6},  # with more it is prolonged
        "2 that differ (history/train/loss: float32[7, 3], not float32[6, 3], "
        "history/valid/loss: float32[7], not float32[6])",
    ),
    "batch_size": (
        {"batch_size": 7},
        "batch_size 7 (there 4); 1 that differ (history/train/loss: float32[7, 3], not float32[7, 2])",
    ),
    "valid": ({"valid": None}, "1 unexpected (history/valid/loss)"),
    "state": (
        {"trainer": TRAINER._replace(init=normed)},
        "2 missing (ts/state/mean, best/state/mean)",
    ),
    "metrics": (
        {
            "trainer": nn.trainer(
                MODEL, nn.losses.squared_error, nn.adam(0.03), metrics={"mae": lambda p, y: jnp.mean(jnp.abs(p - y))}
            )
        },
        "metrics 1 entries (there none); 2 missing (history/train/mae, history/valid/mae)",
    ),
    "a batch of keys": (
        {"key": jax.random.split(KEY, 2)},
        "25 that differ (ts/step: int32[], not int32[2], "
        "ts/params/dense/b: float32[4], not float32[2, 4], ts/params/dense/w: float32[3, 4], not float32[2, 3, 4], "
        "ts/params/dense_1/b: float32[1], not float32[2, 1], ts/params/dense_1/w: float32[4, 1], not float32[2, 4, 1], "
        "ts/opt_state/count: int32[], not int32[2], ts/opt_state/mu/dense/b: float32[4], not float32[2, 4], "
        "ts/opt_state/mu/dense/w: float32[3, 4], not float32[2, 3, 4] and 17 more)",
    ),
    "width": (
        {"trainer": WIDER},
        "model dense: dense(5) (there dense: dense(4)); 12 that differ ("
        "ts/params/dense/b: float32[4], not float32[5], ts/params/dense/w: float32[3, 4], not float32[3, 5], "
        "ts/params/dense_1/w: float32[4, 1], not float32[5, 1], "
        "ts/opt_state/mu/dense/b: float32[4], not float32[5], "
        "ts/opt_state/mu/dense/w: float32[3, 4], not float32[3, 5], "
        "ts/opt_state/mu/dense_1/w: float32[4, 1], not float32[5, 1], "
        "ts/opt_state/nu/dense/b: float32[4], not float32[5], "
        "ts/opt_state/nu/dense/w: float32[3, 4], not float32[3, 5] and 4 more)",
    ),
    "dtype": (
        {"trainer": TRAINER._replace(init=halved)},
        "2 that differ (ts/params/dense/b: float32[4], not bfloat16[4], "
        "best/params/dense/b: float32[4], not bfloat16[4])",
    ),
}


@pytest.mark.parametrize("case", only(["epochs", "width"], OTHERS))
@pytest.mark.slow
def test_a_folder_of_another_run(copied, finished, case):
    changes, differences = OTHERS[case]
    (copied / f".{'0a' * 16}.tmp").write_bytes(b"half")
    before = content(copied)
    given = {"trainer": TRAINER, "key": KEY, "train": TRAIN, "valid": VALID, **HOW, **changes}
    with pytest.raises(ValueError) as excinfo:
        nn.drive(**given, checkpoint=copied, progress=False)
    path = copied / "epoch-000007.safetensors"
    assert str(excinfo.value) == f"drive: expected {CONTINUE}, got {differences} in {path}. {ANOTHER}"
    assert content(copied) == before


def test_the_folder_of_another_key(copied):
    before = content(copied)
    with pytest.raises(ValueError) as excinfo:
        drive(jax.random.key(1), TRAIN, VALID, checkpoint=copied)
    assert str(excinfo.value) == (
        f"drive: expected checkpoint to hold the run of this key, got {copied / 'epoch-000007.safetensors'}, "
        "which began from another. Pass another folder, or the key of that run."
    )
    with pytest.raises(ValueError, match="which began from another"):
        drive(KEY, TRAIN, VALID, run=drive(jax.random.key(1), TRAIN, VALID), checkpoint=copied)
    assert content(copied) == before


def test_a_best_of_another_run(tmp_path):
    weights = tmp_path / "best.safetensors"
    nn.save(weights, {"w": np.ones(3)})
    with pytest.raises(ValueError) as excinfo:
        drive(KEY, TRAIN, VALID, checkpoint=tmp_path)
    paths = ", ".join(f"params/{layer}/{w}" for layer in ("dense", "dense_1") for w in "bw")
    assert str(excinfo.value) == (
        f"drive: expected {CONTINUE}, got 4 missing ({paths}); 1 unexpected (w) in {weights}. {ANOTHER}"
    )
    assert nn.load(weights)["w"].tolist() == [1, 1, 1]


def test_a_folder_without_an_intact_run(copied):
    for epoch in (5, 6, 7):
        cut(copied / f"epoch-{epoch:06d}.safetensors")
    before = content(copied)
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(ValueError) as excinfo:
        drive(KEY, TRAIN, VALID, checkpoint=copied)
    assert str(excinfo.value) == (
        f"drive: expected checkpoint to hold an intact run, got {copied}, whose runs are damaged. "
        "Remove them to start again, or pass another folder."
    )
    assert content(copied) == before


def test_what_is_no_folder(tmp_path):
    file = tmp_path / "run.safetensors"
    file.write_bytes(b"")
    for checkpoint, kind, text in (
        (3, TypeError, "drive: expected checkpoint to be a path (str or os.PathLike), got 3."),
        (file, ValueError, f"drive: expected checkpoint to be a folder, got the file {file}."),
    ):
        with pytest.raises(kind) as excinfo:
            drive(KEY, TRAIN, VALID, checkpoint=checkpoint)
        assert str(excinfo.value) == text
    with pytest.raises(ValueError) as excinfo:
        drive(KEY, TRAIN, VALID, checkpoint=tmp_path, keep=0)
    assert str(excinfo.value) == "drive: expected keep to be an integer >= 1, got 0."
