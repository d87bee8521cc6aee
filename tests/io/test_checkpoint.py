from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy
from _trees import assert_same, full_range, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.io._checkpoint import load, save

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
]
WIDE = ("int64", "uint64", "float64")
IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


class Point(NamedTuple):
    x: Any
    y: Any


class Empty(NamedTuple):
    pass


class Outer:
    class Inner(NamedTuple):
        value: Any


class Named(Point):
    """A subclass with a constructor of its own, which must not run."""

    def __new__(cls, *args):
        raise AssertionError("load ran a constructor")


class Older(NamedTuple):
    a: Any
    b: Any = 1


def round_trip(path: Any, tree: Any) -> Any:
    save(path, tree)
    return load(path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


def test_last_fields_that_an_older_class_lacked_are_their_default_of_none(file, monkeypatch):
    class Newer(NamedTuple):
        a: Any
        b: Any = 1
        c: Any = None

    class Another(NamedTuple):
        a: Any
        b: Any = 1
        c: Any = 2

    save(file, Older(np.ones(2), 3))
    monkeypatch.setitem(globals(), "Older", Newer)
    assert_same(load(file), Newer(np.ones(2), 3, None))
    monkeypatch.setitem(globals(), "Older", Another)
    with pytest.raises(ValueError, match=r"with the fields \(a, b\) in an imported module, got one with \(a, b, c\)"):
        load(file)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arrays_of_every_dtype(file, dtype, shape):
    x = full_range(dtype, shape)
    assert_same(round_trip(file, x), x)
    if shape == ():
        assert_same(round_trip(file, x[()]), x[()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_arrays_of_every_dtype(file, dtype):
    with jax.enable_x64(dtype in WIDE):
        tree = [jnp.asarray(full_range(dtype, shape)) for shape in [(), (0,), (2, 3)]]
        assert tree[0].dtype == dtype
        assert_same(round_trip(file, tree), tree)


@pytest.mark.parametrize(
    "leaf",
    [
        *(True, False, 0, -7, 2**63 - 1, 2**63, -(2**63), -(2**200), 10**5000, "", "ü/~\n\ud800\x00", None),
        *(0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan")),
        *(1j, complex(-0.0, 2), complex(0, -0.0), complex("-inf+nanj"), complex(float("nan"), -1e-300)),
    ],
    ids=lambda leaf: ascii(leaf)[:20] if not isinstance(leaf, int) or leaf.bit_length() < 300 else "10**5000",
)
def test_python_leaves_come_back_exactly(file, leaf):
    for tree in (leaf, {"a": [leaf, (leaf,)]}):
        assert_same(round_trip(file, tree), tree)


@pytest.mark.parametrize("tree", [{}, [], (), None, Empty(), {"a": {}, "b": [[], (), None, Empty()]}], ids=str)
def test_empty_trees(file, tree):
    assert_same(round_trip(file, tree), tree)
    assert_same(load(file, like=tree), tree)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2)], ids=str)
@pytest.mark.slow
def test_typed_keys(file, impl, shape):
    keys = jax.random.split(jax.random.key(7, impl=impl), shape)
    tree = {"key": keys, "raw": jax.random.key_data(keys)}
    assert_same(round_trip(file, tree), tree)
    assert_same(load(file, like=jax.eval_shape(lambda: tree)), tree)
    if shape == ():
        assert raw(jax.random.normal(load(file)["key"], (5,))) == raw(jax.random.normal(keys, (5,)))


def test_named_tuples_keep_their_classes(file):
    tree = Point(Outer.Inner({"w": np.arange(3)}), [Empty(), Point(1, None)])
    assert_same(round_trip(file, tree), tree)
    assert type(load(file).x) is Outer.Inner
    assert jax.tree.structure(load(file)) == jax.tree.structure(tree)


def test_a_hundred_levels_are_enough(file):
    tree = 1.0
    for _ in range(100):
        tree = Point([], tree)
    assert_same(round_trip(file, tree), tree)


def test_a_constructor_does_not_run(file):
    tree = tuple.__new__(Named, (1, 2.0))
    assert_same(round_trip(file, tree), tree)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2, ::-1],
        lambda x: x[:, 1],
        lambda x: np.asfortranarray(x),
        lambda x: np.broadcast_to(x[0], (5, 6)),
        lambda x: np.moveaxis(x.reshape(2, 2, 6), 2, 0),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64", "bool"])
def test_strided_arrays(file, view, dtype):
    x = view(full_range(dtype, (4, 6)))
    assert_same(round_trip(file, [x, jnp.asarray(x)]), [x, jnp.asarray(x)])


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int64", "float16", "float32", "float64", "complex64"])
def test_big_endian_arrays_come_back_native(file, dtype):
    x = full_range(dtype, (3, 2))
    swapped = x.astype(x.dtype.newbyteorder(">"))
    save(file, swapped.T)
    assert_same(load(file), np.ascontiguousarray(x.T))
    assert_same(load(file, like=swapped.T), np.ascontiguousarray(x.T))


def test_memmap_readonly_and_unaligned_arrays(file, tmp_path):
    x = np.arange(12, dtype=np.float64)
    mapped = np.memmap(tmp_path / "m", np.float64, "w+", shape=12)
    mapped[:] = x
    x.flags.writeable = False
    packed = np.zeros(12, [("pad", "u1"), ("value", "f8")])["value"]
    packed[:] = x
    save(file, [mapped, x, packed])
    for y in load(file):
        assert_same(y, x)
        assert y.flags.writeable


def test_aliasing_leaves_come_back_apart(file):
    x = jnp.arange(1000.0)
    out = round_trip(file, [x] * 8)
    assert_same(out, [x] * 8)
    assert len({y.unsafe_buffer_pointer() for y in out}) == 8
    total = jax.jit(lambda ys: [y + 1 for y in ys], donate_argnums=0)(out)
    assert_same(total, [x + 1] * 8)


TEXT = st.text(max_size=4) | st.sampled_from(["a/b", "a", "b", "~", "~1", "/", "", "__metadata__", "0"])


@st.composite
def arrays(draw):
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    kind = draw(st.sampled_from(["numpy", "jax", "scalar", "key"]))
    if kind == "key":
        key = jax.random.key(draw(st.integers(0, 99)), impl=draw(st.sampled_from(IMPLEMENTATIONS)))
        return jax.random.split(key, shape)
    dtype = draw(st.sampled_from([d for d in DTYPES if kind != "jax" or d not in WIDE]))
    x = full_range(dtype, () if kind == "scalar" else shape, draw(st.integers(0, 2**32)))
    return {"numpy": x, "jax": jnp.asarray(x) if kind == "jax" else None, "scalar": x[()]}[kind]


PYTHON = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.complex_numbers() | st.text(max_size=5)
)
TREES = st.recursive(
    arrays() | PYTHON | st.just(Empty()),
    lambda children: (
        st.dictionaries(TEXT, children, max_size=4)
        | st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.builds(Point, children, children)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
@pytest.mark.slow
def test_any_tree(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save(path, tree)
    assert_same(load(path), tree)
    like = load(path, like=tree)
    assert jax.tree.structure(like) == jax.tree.structure(tree)
    assert_same(jax.tree.leaves(like), jax.tree.leaves(tree))
    dtypes = [str(leaf.dtype) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    if not any("fnuz" in dtype or dtype == "complex64" for dtype in dtypes):
        assert len(safetensors.deserialize(path.read_bytes())) == len(dtypes)


OPTIMIZERS = {
    "adam": lambda: optax.adam(1e-2),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-2, 10))),
    "masked": lambda: optax.masked(optax.sgd(0.1, momentum=0.9), {"w": True, "b": False}),
    "inject": lambda: optax.inject_hyperparams(optax.adam)(optax.linear_schedule(1e-2, 1e-3, 10), b1=0.8),
    "multi steps": lambda: optax.MultiSteps(optax.adam(1e-2), 2),
    "partition": lambda: optax.partition({"a": optax.adam(1e-2), "b": optax.set_to_zero()}, {"w": "a", "b": "b"}),
    "lbfgs": lambda: optax.scale_by_lbfgs(memory_size=2),
    "finite": lambda: optax.apply_if_finite(optax.sgd(0.1), 3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.slow
def test_optax_states_go_on_to_the_bit(file, name):
    with jax.numpy_dtype_promotion("standard"):
        opt = OPTIMIZERS[name]()
        params = {"w": jnp.linspace(-1, 1, 6, dtype=jnp.float32).reshape(2, 3), "b": jnp.zeros(3)}
        grads = jax.tree.map(lambda p: p * p + 1, params)
        _, state = opt.update(grads, opt.init(params), params)
        restored = round_trip(file, state)
        assert_same(restored, state)
        assert_same(opt.update(grads, restored, params), opt.update(grads, state, params))
        abstract = jax.eval_shape(opt.init, params)
        like = load(file, like=abstract)
        assert jax.tree.structure(like) == jax.tree.structure(state)
        assert_same(jax.tree.leaves(like), jax.tree.leaves(state))


def test_a_loaded_state_does_not_retrace(file):
    traces = []

    @jax.jit
    def step(state):
        traces.append(1)
        return jax.tree.map(lambda x: x + 1, state)

    state = {"w": jnp.ones(3), "count": jnp.zeros([], jnp.int32)}
    step(round_trip(file, step(state)))
    assert len(traces) == 1
