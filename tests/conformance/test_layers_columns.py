"""Every public layer under what else jax offers: wide numbers, arrays of NumPy, nothing at all, sizes left free."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _layer_cases import (
    ALL,
    CACHED,
    CASES,
    KEY,
    NOISES,
    applied,
    assert_same,
    free_sizes,
    gradients,
    initialized,
    made,
    quick,
    sequential,
    shapes,
    taken,
)
from _tiers import only

import jaxnn as nn
from jaxnn._errors import InvalidValue

# The fast tier takes these, for a layer of each family; the others are slow.
FAST = ("dense", "conv", "attention")
DIFFERS = (*NOISES, "batch_norm", "serial", "spectral_norm")  # where train=False is another function


def row(case, *more):
    return pytest.param(case, *more, marks=() if case in FAST else pytest.mark.slow)


every = pytest.mark.parametrize("case", [row(case) for case in ALL])
either = pytest.mark.parametrize(
    ("case", "train"),
    [row(case, True) for case in CASES]
    + [row(case, False) for case in ALL if case in CACHED or any(name in case for name in DIFFERS)],
)


def trainable(case):
    """A cache is for inference."""
    return case not in CACHED


@cache
def slopes(case):
    """`gradients` at the input of `made`."""
    _, x, params, state = made(case)
    return gradients(case, trainable(case))(params, state, x)


def assert_same_gradients(got, want):
    """To the tolerance times the largest of all: that of a bias that changes nothing is rounding noise."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    largest = max((float(jnp.max(jnp.abs(v), initial=0)) for v in jax.tree.leaves(want[1])), default=0.0)
    assert_close(got[0], want[0])
    for a, b in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert_close(a, b, scale=largest)


def tried(f, *args):
    """What f returns, a pair, and the text of its refusal."""
    try:
        return f(*args), None
    except InvalidValue as error:
        return (None, None), str(error)


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


# ---- numbers of 64 bits


@either
def test_x64_changes_nothing_for_an_input_of_32_bits(case, train):
    _, x, *narrow = made(case)
    got = applied(case, train)(*narrow, x)
    again = applied(case, train)(narrow[0], got[1], x)  # a state that has moved
    x = np.asarray(x)
    with jax.enable_x64(True):
        wide = initialized(case)(KEY(), x)
        assert_same(as_numpy(wide), as_numpy(tuple(narrow)))
        moved = applied(case, train)(*wide, x)
        assert shapes(moved) == shapes(got)
        assert jax.eval_shape(applied(case, train), wide[0], moved[1], x) == shapes(again)
        if not any(noise in case for noise in NOISES):  # chances are drawn in the dtype of the rate
            assert_same(as_numpy(moved), as_numpy(got))


@every
@pytest.mark.usefixtures("x64")
def test_x64_is_kept_from_init_to_the_gradient(case):
    model, x = taken(case, jnp.float64)
    x = x.astype(jnp.int64) if jnp.issubdtype(x.dtype, jnp.integer) else x
    params, state = jax.eval_shape(model.init, KEY(), x)
    y, new = jax.eval_shape(applied(case, trainable(case)), params, state, x)
    assert new == state
    if jnp.issubdtype(x.dtype, jnp.floating):
        assert y.dtype == jnp.float64
        assert {v.dtype for v in jax.tree.leaves((params, state)) if jnp.issubdtype(v.dtype, jnp.floating)} <= {
            jnp.dtype(jnp.float64)
        }
    _, grads = jax.eval_shape(gradients(case, trainable(case)), params, state, x)
    assert {v.dtype for v in jax.tree.leaves(grads)} <= {v.dtype for v in jax.tree.leaves((params, y))}


# ---- arrays of NumPy, as `load` gives them


@either
def test_params_state_and_x_of_numpy(case, train):
    model, x, params, state = made(case)
    want = applied(case, train)(params, state, x)
    p, s = as_numpy((params, state))

    @quick
    def closed():  # inside, they are NumPy's still
        return model.apply(p, s, np.asarray(x), key=KEY() if train else None, train=train)

    assert_same(closed(), want)
    assert_same(applied(case, train)(p, as_numpy(want[1]), np.asarray(x)), applied(case, train)(params, want[1], x))


# ---- nothing


@either
def test_no_examples(case, train):
    _, x, *usual = made(case)
    params, state = initialized(case)(KEY(), x[:0])
    want = jax.eval_shape(applied(case, train), *usual, x)[0]
    if train and "mean" in str(state):
        with pytest.raises(ValueError, match=r"expected at least one example to take statistics over, got float32\[0"):
            applied(case, train)(params, state, x[:0])
        return
    y, new = applied(case, train)(params, state, x[:0])
    assert (y.shape, y.dtype) == ((0, *want.shape[1:]), want.dtype)
    assert shapes(new) == shapes(state)
    value, grads = gradients(case, train)(params, state, x[:0])
    for v in jax.tree.leaves((value, grads)):
        np.testing.assert_array_equal(v, np.zeros_like(v))  # a sum of nothing


@every
def test_no_steps(case):
    if not sequential(case):
        return
    _, x, params, state = made(case)
    want = jax.eval_shape(applied(case, False), params, state, x)[0]
    (y, new), refusal = tried(applied(case, False), params, state, x[:, :0])
    if refusal:  # a window does not fit
        assert re.search(r"got (\d steps|float32\[\d, 0)", refusal)
        return
    assert y.dtype == want.dtype
    assert y.size == 0 or want.ndim == 2 or case == "class_token"  # the last of no steps is the start
    assert np.isfinite(y).all()
    assert shapes(new) == shapes(state)


# ---- the checkers of jax


@every
def test_no_key_is_used_twice(case):
    model, x = taken(case)
    with jax.debug_key_reuse(True):
        params, state = quick(model.init)(jax.random.key(3), x)
        apply = quick(partial(model.apply, train=trainable(case)))
        apply(params, state, x, key=jax.random.key(4))


# Operation by operation is slow: one case of each layer.
@pytest.mark.parametrize("case", only(("dense", "conv"), [case for case in ALL if " " not in case]))
def test_without_jit(case):
    _, x, params, state = made(case)
    want, steep = applied(case, trainable(case))(params, state, x), slopes(case)
    with jax.disable_jit():
        assert_same(applied(case, trainable(case))(params, state, x), want)
        assert_same_gradients(gradients(case, trainable(case))(params, state, x), steep)


# ---- gradients that are numbers


EDGES = {
    "zero weights": lambda params, x: (jax.tree.map(jnp.zeros_like, params), x),
    "zero input": lambda params, x: (params, jnp.zeros_like(x)),
    "constant input": lambda params, x: (params, jnp.full_like(x, 3)),
    "zero weights and input": lambda params, x: (jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(x)),
    "large constant": lambda params, x: (params, jnp.full_like(x, 6 if x.dtype == jnp.int32 else 1e4)),
}


@either
def test_value_and_gradient_are_of_sane_size_at_the_edges(case, train):
    _, x, params, state = made(case)
    for edge, changed in EDGES.items():
        p, v = changed(params, x)
        value, grads = gradients(case, train)(p, state, v)
        largest = 1e6 * max(1, float(jnp.max(jnp.abs(v))) ** 2)
        assert np.isfinite(value), edge
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            assert np.isfinite(g).all(), (edge, path)
            assert np.abs(g).max(initial=0) < largest, (edge, path, np.abs(g).max())


@either
def test_one_element(case, train):
    """One example, of one step or one place."""
    _, x = taken(case)
    x = x[:1] if x.ndim < 3 else x[tuple(slice(1) for _ in x.shape[:-1])]
    (params, state), refusal = tried(initialized(case), KEY(), x)
    if not refusal:
        (value, grads), refusal = tried(gradients(case, train), params, state, x)
    if refusal:  # a window does not fit
        assert re.search(r"got (1 steps|float32\[1, 1)", refusal)
        return
    assert np.isfinite(value)
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(g).all(), path
        assert np.abs(g).max(initial=0) < 1e6, (path, np.abs(g).max())


# ---- sizes that are free


def grown(case, x):
    """x with other sizes where they are free."""
    sizes, _ = free_sizes(case)
    shape = []
    for name, size in zip(sizes.split(", "), x.shape, strict=True):
        factor = int(name[0]) if "*" in name else 1
        shape.append(size if name == "_" else size + factor * (2 if name != "t" else 1))
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.asarray(np.random.default_rng(1).integers(0, 7, shape), x.dtype)
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), x.dtype)


def written(exported, vjp_order=0):
    """`exported` serialised and read back, where the package for it is installed."""
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError:
        return exported
    return jax.export.deserialize(exported.serialize(vjp_order))


@every
def test_exported_with_free_sizes_it_gives_equal_values(case):
    model, x, params, state = made(case)
    sizes, constraints = free_sizes(case)
    exported = written(nn.export(model, params, state, x, sizes=sizes, constraints=constraints, baked=False))
    for v in (x, grown(case, x)):
        assert_same(exported.call(params, state, v), applied(case, False)(params, state, v))


# lax's own transpose of a strided convolution refuses a padding that is not a number.
STRIDED = {"conv 1-d": "n, _, _", "depthwise_conv": "n, _, _, _"}


@every
@pytest.mark.slow
def test_its_gradient_is_exported_with_free_sizes(case):
    _, x, params, state = made(case)
    sizes, constraints = (STRIDED[case], ()) if case in STRIDED else free_sizes(case)
    alone = gradients(case, trainable(case) and not any(noise in case for noise in NOISES))
    of = quick(lambda params, x: alone.__wrapped__(params, state, x))
    spec = jax.export.symbolic_args_specs(x, sizes, constraints)
    exported = written(jax.export.export(of)(shapes(params), spec))
    other = x[:1] if case in STRIDED else grown(case, x)
    assert_same_gradients(exported.call(params, other), of(params, other))


def test_serialisation_is_tested():
    """The package that jax.export asks for to write and read programs is part of the test extra."""
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: exported programs were not serialised")
