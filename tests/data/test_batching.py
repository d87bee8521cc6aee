"""Parts and batches: exact counts, nothing lost, the same numbers on every machine, and every wrong call."""

import collections
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.data import batches, split

TREE = {"x": np.arange(20.0).reshape(10, 2), "pair": (np.arange(10), np.array(list("abcdefghij")))}


def rows(tree):
    """Each example as a tuple of its leaves, to see that leaves stay together."""
    leaves = [np.asarray(leaf).reshape(len(leaf), -1).tolist() for leaf in jax.tree.leaves(tree)]
    return [tuple(itertools.chain(*row)) for row in zip(*leaves, strict=True)]


def shares(counts, fraction):
    """Largest remainders in the exact fractions that the decimals stand for, a seat at a time."""
    quotas = {name: Fraction(str(fraction)) * count for name, count in counts.items()}
    given = {name: int(quota) for name, quota in quotas.items()}
    seats = int(sum(quotas.values()) + Fraction(1, 2)) - sum(given.values())
    for _ in range(seats):
        most = max(sorted(quotas), key=lambda name: quotas[name] - given[name])
        given[most] += 1
    return given


# --- split


@pytest.mark.parametrize("fraction", [0.04, 0.1, 0.25, 0.3, 0.5, 0.74, 0.9, np.float32(0.5)])
@pytest.mark.parametrize("seed", [0, 7, 2**70])
def test_split_parts_the_whole(fraction, seed):
    tree = {"x": np.arange(50.0).reshape(25, 2), "y": np.arange(25, dtype=np.int32)}
    rest, part = split(seed, tree, fraction)
    assert len(part["y"]) == int(Fraction(str(fraction)) * 25 + Fraction(1, 2))
    assert sorted(rows(rest) + rows(part)) == rows(tree)
    assert (part["x"].dtype, part["y"].dtype) == (np.float64, np.int32)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.29, 1 / 3, 0.5, 0.7, 0.75, 0.9])
@pytest.mark.parametrize(
    "counts",
    [
        {0: 50, 1: 50, 2: 50},
        {0: 11, 1: 17, 2: 30, 3: 10},
        {-1: 40, 5: 15, 9: 45},
        {3: 10},
        {0: 13, 1: 13},
        {0: 53, 1: 103, 2: 44},
    ],
)
def test_stratified_counts_are_the_largest_remainders(counts, fraction):
    labels = np.random.default_rng(0).permutation([name for name, count in counts.items() for _ in range(count)])
    rest, part = split(1, (np.arange(len(labels)), labels), fraction, stratify=labels)
    assert collections.Counter(part[1].tolist()) == shares(counts, fraction)
    assert sorted(rows(rest) + rows(part)) == rows((np.arange(len(labels)), labels))
    np.testing.assert_array_equal(labels[part[0]], part[1])


@pytest.mark.parametrize(
    "labels",
    [
        list("aabbccaabbcc"),
        np.array(list("aabbccaabbcc")),
        [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2],
        jnp.array([3, 8] * 6),
        [True, False] * 6,
    ],
)
def test_stratify_takes_integers_strings_and_bools(labels):
    rest, part = split(0, np.asarray(labels), 0.5, stratify=labels)
    assert collections.Counter(part.tolist()) == collections.Counter(rest.tolist())


def test_split_of_scikit_learns_iris_has_the_same_counts():
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    x, y = load_iris(return_X_y=True)
    theirs = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    (_, y_rest), (_, y_part) = split(0, (x, y), 0.3, stratify=y)
    assert np.bincount(y_rest).tolist() == np.bincount(theirs[2]).tolist() == [35, 35, 35]
    assert np.bincount(y_part).tolist() == np.bincount(theirs[3]).tolist() == [15, 15, 15]


def test_the_numbers_of_a_seed_are_fixed():
    """Kept as text: they must hold on every version of NumPy and JAX."""
    rest, part = split(0, np.arange(10), 0.3)
    assert (rest.tolist(), part.tolist()) == ([8, 6, 0, 7, 4, 5, 9], [3, 2, 1])
    assert np.concatenate(list(batches(np.arange(6), 4, key=jax.random.key(0)))).tolist() == [3, 2, 1, 0, 4, 5]


def test_keys_of_every_form_agree():
    typed, legacy = jax.random.key(42), jax.random.PRNGKey(42)
    first, *others = (split(key, np.arange(100), 0.5)[1].tolist() for key in (typed, legacy, np.asarray(legacy)))
    assert all(other == first for other in others)
    assert split(np.int64(3), np.arange(9), 0.5)[0].tolist() == split(3, np.arange(9), 0.5)[0].tolist()
    halves = [split(key, np.arange(100), 0.5)[1].tolist() for key in (0, 1, *jax.random.split(typed, 3))]
    assert len({tuple(half) for half in halves}) == 5


def test_every_order_is_equally_likely():
    """χ² of the 24 orders of 4 over 2400 seeds; 49.7 is exceeded once in a thousand."""
    seen = collections.Counter(tuple(next(batches(np.arange(4), 4, key=seed)).tolist()) for seed in range(2400))
    assert len(seen) == 24
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 49.7


# --- batches


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("key", [None, 0, "key"])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, np.int32(4)])
def test_batches_pass_over_the_data_once(batch_size, key, drop_remainder):
    key = jax.random.key(5) if key == "key" else key
    found = list(batches(TREE, batch_size, key=key, drop_remainder=drop_remainder))
    sizes = [batch_size] * (10 // batch_size) + [10 % batch_size] * (10 % batch_size > 0 and not drop_remainder)
    assert [len(batch["x"]) for batch in found] == sizes
    seen = [row for batch in found for row in rows(batch)]
    if key is None:
        assert seen == rows(TREE)[: sum(sizes)]
    else:
        assert set(seen) <= set(rows(TREE))
        assert len(set(seen)) == sum(sizes)
        assert seen != rows(TREE)[: sum(sizes)]


def test_batches_are_numpy_views_in_order_and_copies_when_shuffled():
    x = np.arange(6)
    assert all(np.shares_memory(batch, x) for batch in batches(x, 4))
    assert not any(np.shares_memory(batch, x) for batch in batches(x, 4, key=0))
    assert all(type(batch) is np.ndarray for batch in batches(jnp.arange(6), 4))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.uint8, bool, "U3", np.complex64])
def test_leaves_keep_their_dtype(dtype):
    x = np.zeros((4, 2), dtype)
    assert next(batches(x, 3)).dtype == next(batches(x, 3, key=0)).dtype == split(0, x, 0.5)[0].dtype == x.dtype


def test_a_batch_may_hold_more_than_there_is_and_no_data_give_no_batch():
    assert [batch.tolist() for batch in batches(np.arange(3), 8)] == [[0, 1, 2]]
    assert list(batches(np.zeros((0, 4)), 8)) == []
    assert list(batches(np.zeros((0, 4)), 8, key=0)) == []


def test_two_dimensions_and_ragged_pairs_stay_together():
    data = ((np.arange(24.0).reshape(4, 3, 2), np.arange(4)), np.arange(4) * 10)
    for (x, lengths), y in batches(data, 2, key=1):
        np.testing.assert_array_equal(x[:, 0, 0], lengths * 6)
        np.testing.assert_array_equal(y, lengths * 10)


# --- wrong calls

X = np.zeros((4, 2), np.float32)
LIST = "A list is a tree of its elements: np.asarray it."


@pytest.mark.parametrize(
    "call", [lambda data: split(0, data, 0.5), lambda data: batches(data, 2)], ids=["split", "batches"]
)
@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ({"x": X, "y": X[:3]}, ValueError, "expected arrays of equal length, got data['x'] of 4, data['y'] of 3."),
        ((), ValueError, "expected arrays of equal length, got no array."),
        (None, ValueError, "expected arrays of equal length, got no array."),
        ((X, np.array(3)), ValueError, "expected data[1] of shape [n, ...], got int64[]."),
        ([1, 2], TypeError, f"expected data[0] to be an array, got 1. {LIST}"),
        ({"x": "text"}, TypeError, f"expected data['x'] to be an array, got 'text'. {LIST}"),
    ],
)  # fmt: skip
def test_wrong_data(call, data, kind, message, request):
    where = request.node.callspec.id.split("-")[-1]
    with pytest.raises(kind) as error:
        call(data)
    assert str(error.value) == f"{where}: {message}"


@pytest.mark.parametrize(
    "call", [lambda data: split(0, data, 0.5), lambda data: batches(data, 2)], ids=["split", "batches"]
)
def test_traced_data(call, request):
    with pytest.raises(TypeError) as error:
        jax.jit(call)(X)
    where = request.node.callspec.id
    assert str(error.value) == (
        f"{where}: expected data to be a concrete array, got float32[4, 2]. Call it outside of jit and vmap."
    )


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            (0, X, 0.1),
            ValueError,
            "split: expected an example or more in each part, got 4 and 0. Choose another fraction.",
        ),
        (
            (0, X, 0.9),
            ValueError,
            "split: expected an example or more in each part, got 0 and 4. Choose another fraction.",
        ),
        (
            (0, X[:0], 0.5),
            ValueError,
            "split: expected an example or more in each part, got 0 and 0. Choose another fraction.",
        ),
        ((-1, X, 0.5), ValueError, "split: expected key to be a seed >= 0, got -1."),
        ((0.5, X, 0.5), TypeError, "split: expected key to be an int or one JAX key, got 0.5."),
        ((True, X, 0.5), TypeError, "split: expected key to be an int or one JAX key, got True."),
        ((None, X, 0.5), TypeError, "split: expected key to be an int or one JAX key, got None."),
        ((np.arange(2), X, 0.5), TypeError, "split: expected key to be an int or one JAX key, got int64[2]."),
        (
            (jax.random.key_data(jax.random.split(jax.random.key(0))), X, 0.5),
            TypeError,
            "split: expected key to be an int or one JAX key, got uint32[2, 2].",
        ),
        (
            (jax.random.split(jax.random.key(0)), X, 0.5),
            TypeError,
            "split: expected key to be an int or one JAX key, got key<fry>[2].",
        ),
    ],
)
def test_wrong_split(arguments, kind, message):
    with pytest.raises(kind) as error:
        split(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("labels", "fraction", "kind", "message"),
    [
        ([0, 1, 0], 0.5, ValueError, "split: expected stratify of shape [4], got int64[3]."),
        (np.zeros((4, 1), int), 0.5, ValueError, "split: expected stratify of shape [4], got int64[4, 1]."),
        ([0.0, 1.0, 0.0, 1.0], 0.5, TypeError, "split: expected stratify of integers or strings, got float64[4]."),
        ([None] * 4, 0.5, TypeError, "split: expected stratify of integers or strings, got object[4]."),
        (
            [0, 0, 0, 1],
            0.5,
            ValueError,
            "split: expected an example or more of each class in each part, got class 1 with 1 and 0 of its 1. "
            "Choose another fraction.",
        ),
        (
            ["a", "b", "b", "b"],
            0.75,
            ValueError,
            "split: expected an example or more of each class in each part, got class 'a' with 0 and 1 of its 1. "
            "Choose another fraction.",
        ),
    ],
)
def test_wrong_stratify(labels, fraction, kind, message):
    with pytest.raises(kind) as error:
        split(0, X, fraction, stratify=labels)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "keywords", "kind", "message"),
    [
        (
            (X, 5),
            {"drop_remainder": True},
            ValueError,
            "batches: expected batch_size <= 4, the examples, got 5. Lower it, or keep the remainder.",
        ),
        ((X, 2), {"key": "0"}, TypeError, "batches: expected key to be an int or one JAX key, got '0'."),
        ((X, 2), {"key": -3}, ValueError, "batches: expected key to be a seed >= 0, got -3."),
    ],
)
def test_wrong_batches_raise_at_the_call(arguments, keywords, kind, message):
    with pytest.raises(kind) as error:
        batches(*arguments, **keywords)
    assert str(error.value) == message
