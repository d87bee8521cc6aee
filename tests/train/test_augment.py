"""Augmentation in a run: every training batch anew, by the run's key and the step alone; never the evaluation."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn

X = np.arange(12, dtype=np.float32)
KEY = jax.random.key(3)


def shifted(key, batch):
    return batch + jax.random.uniform(key, batch.shape)


def objective(params, state, batch, *, key, train):
    return 0.0 * params["p"] + batch.mean(), (state, {"first": batch[0]})


TRAINER = nn.objective_trainer(lambda key, batch: ({"p": jnp.ones(())}, {}), objective, nn.sgd(0.1))
HOW = {"epochs": 3, "batch_size": 4, "augment": shifted}


def by_hand(key):
    """The means of all batches, in Python: the order and the shifts of each step from their own folds of the key."""
    run_key = jax.random.wrap_key_data(TRAINER.init(key, X[:4]).key)
    named = {name: jax.random.fold_in(run_key, np.uint32(zlib.crc32(name.encode()))) for name in ("order", "augment")}
    rows = np.stack([jax.random.permutation(jax.random.fold_in(named["order"], epoch), 12) for epoch in range(3)])
    batches = X[rows].reshape(9, 4)
    shifts = np.stack([jax.random.uniform(jax.random.fold_in(named["augment"], step), (4,)) for step in range(9)])
    return (batches + shifts).mean(axis=1).reshape(3, 3)


def test_each_batch_is_augmented_by_the_run_and_the_step():
    run = nn.fit(TRAINER, KEY, X, X[:5], **HOW)
    np.testing.assert_allclose(run.history["train"]["loss"], by_hand(KEY), rtol=1e-6)
    np.testing.assert_array_equal(run.history["valid"]["loss"], [2.0, 2.0, 2.0])  # never the evaluation


@pytest.mark.slow
def test_members_draw_their_own():
    keys = jax.random.split(KEY, 2)
    runs = jax.vmap(lambda key: nn.fit(TRAINER, key, X, **HOW))(keys)
    np.testing.assert_allclose(runs.history["train"]["loss"], np.stack([by_hand(key) for key in keys]), rtol=1e-6)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.slow
def test_any_cut_gives_the_same_bits(every):
    whole = jax.jit(partial(nn.fit, TRAINER, **HOW))(KEY, X)
    part = nn.drive(TRAINER, KEY, X, every=every, progress=False, **HOW)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, part))


def test_the_model_is_made_for_what_it_sees():
    def cropped(key, batch):
        x, y = batch
        start = jax.random.randint(key, (), 0, 3)
        return jax.lax.dynamic_slice_in_dim(x, start, 2, axis=1), y

    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.01))
    run = nn.fit(trainer, KEY, (X.reshape(3, 4), X[:3, None]), epochs=2, augment=cropped)
    assert run.ts.params["w"].shape == (2, 1)


@pytest.mark.parametrize("call", [nn.fit, nn.drive], ids=["fit", "drive"])
def test_what_is_no_function(call):
    with pytest.raises(TypeError) as excinfo:
        call(TRAINER, KEY, X, epochs=1, augment=3)
    text = "expected augment to be a function (key, batch) -> batch, got 3."
    assert str(excinfo.value) == f"{call.__name__}: {text}"
