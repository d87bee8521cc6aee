"""Chains, probabilities and batches of augmentations, and augmentation in a run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import augment

KEY = jax.random.key(3)
X = np.random.default_rng(0).uniform(0, 1, (12, 8, 8, 3)).astype(np.float32)


def test_a_chain_gives_each_its_own_key():
    seen = []

    def spy(key, x):
        seen.append(jax.random.key_data(key))
        return x + 1

    assert augment.chain(spy, spy, spy)(KEY, 0) == 3
    want = [jax.random.key_data(jax.random.fold_in(KEY, i)) for i in range(3)]
    np.testing.assert_array_equal(seen, want)
    assert augment.chain()(KEY, 5) == 5


def test_sometimes_is_applied_with_its_probability():
    f = augment.sometimes(augment.invert(), 0.3)
    y = jax.jit(jax.vmap(f, (0, None)))(jax.random.split(KEY, 10_000), jnp.full((1, 1, 1), 0.25))
    assert set(np.unique(y)) == {0.25, 0.75}
    deviation = (0.3 * 0.7 / 10_000) ** 0.5
    assert abs((np.asarray(y) == 0.75).mean() - 0.3) < 4 * deviation


def test_sometimes_with_a_traced_probability_and_a_dict():
    example = {"image": jnp.asarray(X[0]), "mask": jnp.arange(64).reshape(8, 8)}
    run = jax.jit(lambda p: augment.sometimes(augment.rotate((90.0, 90.0), method="nearest"), p)(KEY, example))
    jax.tree.map(np.testing.assert_array_equal, run(0.0), example)
    np.testing.assert_array_equal(run(1.0)["mask"], np.rot90(example["mask"]))


def test_a_batch_has_a_key_for_each_example():
    f = augment.crop(6, padding=2)
    y = jax.jit(augment.batched(f))(KEY, X)
    each = jax.jit(f)
    for i, key in enumerate(jax.random.split(KEY, len(X))):
        np.testing.assert_array_equal(y[i], each(key, X[i]))


def test_the_forms_of_a_batch():
    f = augment.batched(augment.flip(probability=1.0))
    labels, weights = np.arange(12), np.ones(12, np.float32)
    mirrored = X[:, :, ::-1]
    for batch in (X, (X, labels), (X, labels, weights), [X, labels]):
        new = f(KEY, batch)
        assert type(new) is type(batch) or isinstance(new, jax.Array)
        x, *rest = (new,) if isinstance(batch, np.ndarray) else new
        np.testing.assert_array_equal(x, mirrored)
        assert all(a is b for a, b in zip(rest, batch[1:], strict=isinstance(batch, tuple | list)))
    new, _ = f(KEY, ({"image": X, "mask": X[..., 0]}, labels))
    np.testing.assert_array_equal(new["mask"], mirrored[..., 0])
    assert f(KEY, X[:0]).shape == (0, 8, 8, 3)


TARGETS = {
    "mask": (X[..., 0] > 0.5, X[:, :, ::-1, 0] > 0.5),
    "boxes": (np.float32([[[0, 1, 2, 3]]] * 12), np.float32([[[6, 1, 8, 3]]] * 12)),
    "keypoints": (np.float32([[[0, 1]]] * 12), np.float32([[[8, 1]]] * 12)),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_moves_along(target):
    y, moved = TARGETS[target]
    f = augment.batched(augment.flip(probability=1.0), target=target)
    x, new, weights = f(KEY, (X, y, np.ones(12)))
    np.testing.assert_array_equal(x, X[:, :, ::-1])
    np.testing.assert_array_equal(new, moved)
    assert weights.shape == (12,)


LABELS = np.arange(12, dtype=np.int32) % 3
CHAINED = augment.batched(augment.chain(augment.flip(), augment.crop(8, padding=2), augment.hue(0.1)))
TRAINER = nn.trainer(nn.serial(nn.flatten(), nn.dense(3)), nn.losses.softmax_cross_entropy, nn.sgd(0.1))
HOW = {"epochs": 2, "batch_size": 4, "augment": CHAINED}


@pytest.mark.slow
def test_a_run_in_pieces_has_the_same_bits():
    whole = jax.jit(partial(nn.fit, TRAINER, **HOW))(KEY, (X, LABELS))
    pieces = nn.drive(TRAINER, KEY, (X, LABELS), every=1, progress=False, **HOW)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, pieces))
    plain = jax.jit(partial(nn.fit, TRAINER, **HOW | {"augment": None}))(KEY, (X, LABELS))
    assert not np.array_equal(whole.history["train"]["loss"], plain.history["train"]["loss"])


@pytest.mark.slow
def test_a_second_call_compiles_nothing(compilations):
    fit = jax.jit(partial(nn.fit, TRAINER, **HOW))
    fit(KEY, (X, LABELS))
    nn.drive(TRAINER, KEY, (X, LABELS), progress=False, **HOW)
    before = compilations()
    fit(jax.random.key(4), (X, LABELS))
    nn.drive(TRAINER, jax.random.key(4), (X, LABELS), progress=False, **HOW)
    assert compilations() == before


def test_a_sweep_over_strengths_is_one_program():
    def brightest(strength):
        return augment.batched(augment.brightness((strength, strength)))(KEY, X).max()

    y = jax.jit(jax.vmap(brightest))(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(y, [0, 0.5 * X.max(), X.max()], rtol=1e-6)
