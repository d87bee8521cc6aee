"""Trees as vectors: the same numbers from `flat` and from a trainer that keeps all as vectors, and what they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close
from _tiers import only
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnn as nn
from jaxnn._flat import Flat

RATE = 0.01
RULES = {
    "sgd": nn.sgd(RATE, 0.9, weight_decay=0.1),
    "rmsprop": nn.rmsprop(RATE, centered=True, momentum=0.9),
    "adadelta": nn.adadelta(RATE),
    "adagrad": nn.adagrad(RATE),
    "adam": nn.adam(RATE),
    "adamw": nn.adamw(RATE),
    "amsgrad": nn.amsgrad(RATE),
    "adamax": nn.adamax(RATE),
    "nadam": nn.nadam(RATE),
    "radam": nn.radam(RATE),
    "lion": nn.lion(RATE),
    "rprop": nn.rprop(RATE),
    "compensated": nn.compensated(nn.adam(RATE)),
    "optax": optax.adam(RATE),
    "chain": optax.chain(optax.clip(1.0), nn.rmsprop(RATE, momentum=0.9), optax.scale(0.5)),
    "compensated chain": nn.compensated(optax.chain(optax.clip(1.0), nn.adamw(RATE))),
    "injected": optax.inject_hyperparams(nn.adam)(RATE),
}


def tree(seed, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        "stem": {"w": jnp.asarray(rng.normal(size=(3, 4)), dtype), "b": jnp.asarray(rng.normal(size=4), dtype)},
        "head": [jnp.asarray(rng.normal(), dtype), jnp.asarray(rng.normal(size=(2, 0, 3)), dtype)],
        "low": jnp.asarray(rng.normal(size=5), jnp.bfloat16),
    }


def walked(opt, steps=3):
    """The updates of some steps, params following."""
    x = tree(0)
    with jax.numpy_dtype_promotion("standard"):  # transformations of optax mix dtypes
        state, out = opt.init(x), []
    for seed in range(1, steps + 1):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = opt.update(tree(seed), state, x)
            x = optax.apply_updates(x, updates)
        out.append(updates)
    return out


@pytest.mark.parametrize("name", RULES)
@pytest.mark.slow
def test_flat_gives_the_same_updates(name):
    got, want = walked(nn.flat(RULES[name])), walked(RULES[name])
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), got, want)
    assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, want)


@pytest.mark.slow
def test_flat_without_params_under_jit_and_vmap_over_rates():
    grads = [tree(1), tree(2)]

    def updates(make, rate):
        opt = make(rate)
        state = opt.init(tree(0))
        first, state = opt.update(grads[0], state)
        return first, opt.update(grads[1], state)[0]

    rates = jnp.array([1e-3, 1e-2, 1e-1])
    got = jax.jit(jax.vmap(partial(updates, lambda rate: nn.flat(nn.adam(rate)))))(rates)
    want = jax.vmap(partial(updates, nn.adam))(rates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == jnp.float32 else 1e-2), got, want
    )


def test_the_state_is_one_vector_per_dtype():
    state = nn.flat(nn.adam(RATE)).init(tree(0))
    assert {k: v.shape for k, v in state["mu"].vectors.items()} == {"bfloat16": (5,), "float32": (17,)}


TRANSFORMATION = "an optax.GradientTransformation"
REFUSED = {
    "masked": (lambda: nn.adamw(RATE, mask="*/w"), "the optimizer adamw(0.01, mask='*/w')"),
    "masked by a function": (lambda: optax.chain(nn.lion(RATE, mask=lambda p: p)), TRANSFORMATION),
    "masked in optax": (lambda: optax.masked(nn.sgd(RATE), lambda p: p), TRANSFORMATION),
    "groups": (lambda: nn.by_path({"*": nn.sgd(RATE)}), "the optimizer by_path({'*': sgd(0.01)})"),
    "quantized": (lambda: nn.quantized(nn.adam(RATE)), "the optimizer quantized(adam(0.01))"),
    "by chance": (
        lambda: nn.stochastic_rounding(nn.sgd(RATE), jax.random.key(0)),
        "the optimizer stochastic_rounding(sgd(0.01), key<fry>[])",
    ),
    "noise": (lambda: optax.add_noise(0.1, 0.5, key=0), TRANSFORMATION),
    "norms of arrays": (lambda: optax.lamb(RATE), TRANSFORMATION),
    "our norms of arrays": (lambda: nn.lamb(RATE), "the optimizer lamb(0.01)"),
    "matrices factored": (lambda: optax.adafactor(RATE), TRANSFORMATION),
    "chain": (lambda: optax.chain(optax.clip_by_global_norm(1.0), nn.adam(RATE)), TRANSFORMATION),
    "number": (lambda: 0.1, "0.1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_optimizers_that_are_not_elementwise_are_refused(case):
    make, got = REFUSED[case]
    with pytest.raises(TypeError) as caught:
        nn.flat(make())
    text = f"expected an elementwise optimizer, got {got}. Those of nn without a mask are, and their chains "
    text += "with elementwise transformations such as optax.clip."
    assert str(caught.value) == f"flat: {text}"


def test_gradients_that_do_not_fit_name_the_path():
    opt, x = nn.flat(nn.adam(RATE)), {"a": jnp.ones(2), "b": jnp.ones(3)}
    with pytest.raises(ValueError) as caught:
        opt.update({"a": jnp.ones(2), "b": jnp.ones(2)}, opt.init(x), x)
    assert str(caught.value) == (
        "flat at b: expected a gradient of shape [3] as in params, got float32[2]. "
        "Pass gradients of the tree that was given to init."
    )


shapes = st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=6)


@given(shapes=shapes, halves=st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
@pytest.mark.slow
def test_a_tree_comes_back_from_its_vectors(shapes, halves):
    dtypes = [jnp.bfloat16 if half else jnp.float32 for half in halves]
    x = {f"x{i}": jnp.full(shape, i, dtype) for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))}
    back = Flat.of(x).tree()
    assert jax.tree.structure(back) == jax.tree.structure(x)
    for name in x:
        assert back[name].dtype == x[name].dtype
        np.testing.assert_array_equal(back[name], x[name])


# In a trainer.

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3)).astype(np.float32)
DATA = X, np.tanh(X[:, :1])
MODEL = nn.serial(nn.dense(4, name="stem"), nn.tanh, nn.batch_norm(), nn.dense(1, name="head"))
HOW = {"epochs": 3, "batch_size": 8}


def trainer(flat, **options):
    optimizer = nn.flat(nn.adam(0.03)) if flat else nn.adam(0.03)
    return nn.trainer(MODEL, nn.losses.squared_error, optimizer, **options)


OPTIONS = {
    "plain": {},
    "frozen": {"frozen": "stem/*"},
    "regularizer": {"regularizer": nn.regularizers.l2(0.1)},
    "average": {"average": 0.9},
}


@pytest.mark.parametrize("name", only(["frozen"], OPTIONS))
@pytest.mark.slow
def test_a_fit_of_vectors_gives_the_same_params(name):
    options = OPTIONS[name]
    run = nn.fit(trainer(True, **options), jax.random.key(0), DATA, DATA, **HOW)
    want = nn.fit(trainer(False, **options), jax.random.key(0), DATA, DATA, **HOW)
    jax.tree.map(assert_close, run.best.params, want.best.params)
    jax.tree.map(assert_close, run.history, want.history)
    moments = jax.tree.leaves(want.ts.opt_state["mu"])
    assert run.ts.opt_state["mu"].vectors["float32"].size == sum(m.size for m in moments)


@pytest.mark.slow
def test_seeds_under_vmap_and_driven():
    keys = jax.random.split(jax.random.key(0), 2)
    runs = nn.drive(trainer(True), keys, DATA, progress=False, **HOW)
    want = nn.drive(trainer(False), keys, DATA, progress=False, **HOW)
    jax.tree.map(assert_close, runs.best.params, want.best.params)


@pytest.mark.slow
def test_saved_loaded_and_continued_to_the_bit(tmp_path):
    whole = nn.drive(trainer(True), jax.random.key(0), DATA, progress=False, **HOW)
    nn.save(tmp_path / "run", whole)
    for loaded in (nn.load(tmp_path / "run"), nn.load(tmp_path / "run", like=whole)):
        assert jax.tree.structure(loaded) == jax.tree.structure(whole)
        jax.tree.map(np.testing.assert_array_equal, loaded, whole)


def test_a_layout_that_does_not_fit_its_vectors_is_refused(tmp_path):
    nn.save(tmp_path / "params", Flat.of({"w": jnp.ones((2, 3))}))
    text = (tmp_path / "params").read_bytes()
    for there, other in (
        (b"float32 2 3", b"float32 2 4"),
        (b"float32 2 3", b"float16 2 3"),
        (b"float32 2 3", b"float32 2 x"),
    ):
        (tmp_path / "damaged").write_bytes(text.replace(there, other).replace(b"crc32", b"crc3x"))
        with pytest.raises(ValueError) as caught:
            nn.load(tmp_path / "damaged")
        assert str(caught.value) == (
            f"load {tmp_path / 'damaged'} at the root: expected a structure as `save` writes it, "
            "got vectors with another layout. It is damaged, or was not written by `save`."
        )
