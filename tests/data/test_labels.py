"""Strings, codes and one-hot rows, there and back, and every wrong call."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.data import decode, encode, one_hot

INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]

# --- one_hot


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.slow
def test_one_hot_picks_rows_of_the_identity(wrap, dtype, shape):
    labels = np.random.default_rng(0).integers(0, 4, shape).astype(dtype)
    found = one_hot(wrap(labels), 4)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.eye(4, dtype=np.float32)[labels])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, np.float16, "float32"])
def test_one_hot_has_the_dtype_asked_for(dtype):
    found = one_hot(jnp.array([1, 9]), 2, dtype)
    assert found.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(found.astype(jnp.float32), [[0, 1], [np.nan, np.nan]])


def test_one_hot_in_float64(x64):
    found = one_hot(jnp.array([1, 2**40], jnp.int64), 2, jnp.float64)
    assert found.dtype == jnp.float64
    np.testing.assert_array_equal(found, [[0, 1], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([-1, 3, 100], np.int32), 3),
        (jnp.array([-1, 3, 100]), 3),
        (np.array([-1, -128, -56], np.int8), 200),  # 200 itself is -56 in int8
        (jnp.array([-1, -128, -56], jnp.int8), 200),
        (np.array([2**32, 2**32 + 1, -(2**32)], np.int64), 3),  # 0 and 1 in int32
        (np.array([2**64 - 1, 2**63, 2**32], np.uint64), 3),
        (jnp.array([2**32 - 1, 2**31, 3], jnp.uint32), 3),
        ([7, -7, 3], 3),
    ],
)
def test_a_label_out_of_range_gives_nan(labels, classes):
    found = np.asarray(one_hot(labels, classes))
    assert found.shape == (3, classes)
    assert np.isnan(found).all()


@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_small_integers_count_past_their_classes(wrap):
    found = one_hot(wrap(np.array([0, 127], np.int8)), 300)
    np.testing.assert_array_equal(found, np.eye(300)[[0, 127]])


def test_one_hot_under_jit_vmap_and_scan():
    labels = jnp.array([[0, 2], [5, 1]])
    expected = np.array([[[1, 0, 0], [0, 0, 1]], [[np.nan] * 3, [0, 1, 0]]])
    f = partial(one_hot, classes=3)
    np.testing.assert_array_equal(f(labels), expected)
    np.testing.assert_array_equal(jax.jit(f)(labels), expected)
    np.testing.assert_array_equal(jax.vmap(f)(labels), expected)
    np.testing.assert_array_equal(jax.lax.scan(lambda c, x: (c, f(x)), None, labels)[1], expected)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            (np.zeros(3, np.float32), 2),
            TypeError,
            "one_hot: expected labels of an integer dtype, got float32[3]. Strings become integers by encode.",
        ),
        (
            (jnp.zeros(3, bool), 2),
            TypeError,
            "one_hot: expected labels of an integer dtype, got bool[3]. Strings become integers by encode.",
        ),
        (
            (["cat", "dog"], 2),
            TypeError,
            "one_hot: expected labels of an integer dtype, got <U3[2]. Strings become integers by encode.",
        ),
        ((np.zeros(3, int), 3, np.int32), TypeError, "one_hot: expected dtype to be a floating dtype, got int32."),
        ((np.zeros(3, int), 3, bool), TypeError, "one_hot: expected dtype to be a floating dtype, got bool."),
    ],
)
def test_wrong_one_hot(arguments, kind, message):
    with pytest.raises(kind) as error:
        one_hot(*arguments)
    assert str(error.value) == message


# --- encode and decode


@pytest.mark.parametrize(
    ("labels", "codes", "classes"),
    [
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (("b", "a"), [1, 0], ("a", "b")),
        (np.array(["b", "a", "b"]), [1, 0, 1], ("a", "b")),
        (np.array(["b", "a"], dtype=object), [1, 0], ("a", "b")),
        (np.array(["b", "aa"], dtype=np.dtypes.StringDType()), [1, 0], ("aa", "b")),
        ([["b", "a"], ["c", "a"]], [[1, 0], [2, 0]], ("a", "b", "c")),
        (["é", "z", "日本", "🙂", "e", ""], [3, 2, 4, 5, 1, 0], ("", "e", "z", "é", "日本", "🙂")),
        ("word", 0, ("word",)),
        ([], [], ()),
        (np.zeros((0, 3), "U4"), np.zeros((0, 3)), ()),
    ],
)
def test_encode_sorts_what_occurs_and_decode_goes_back(labels, codes, classes):
    found, known = encode(labels)
    assert (found.dtype, known) == (np.int32, classes)
    assert all(type(name) is str for name in known)
    np.testing.assert_array_equal(found, codes)
    assert found.shape == np.shape(codes)
    back = decode(found, known)
    assert back.dtype.kind == "U"
    assert back.shape == found.shape
    assert back.tolist() == np.asarray(labels, dtype=object).tolist()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("labels", [["dog", "cat"], [["é", "日本"], ["日本", "🙂"]], "word"])
def test_there_and_back_through_one_hot(labels, dtype):
    codes, classes = encode(labels)
    hot = one_hot(codes, len(classes), dtype)
    assert decode(hot, classes).tolist() == decode(np.asarray(hot) == 1, classes).tolist() == labels
    np.testing.assert_array_equal(encode(decode(hot, classes), classes)[0], codes)


def test_classes_fix_the_codes():
    codes, classes = encode(["cat", "dog"], ["dog", "eel", "cat"])
    assert (codes.tolist(), classes) == ([2, 0], ("dog", "eel", "cat"))
    assert encode([], ["dog"])[1] == ("dog",)
    assert encode(["b"], np.array(["a", "b"]))[0].tolist() == [1]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_decode_takes_every_integer(dtype):
    assert decode(np.array([[1, 0]], dtype), ("a", "b")).tolist() == [["b", "a"]]
    assert decode(jnp.array([[1, 0]]), ("a", "b")).tolist() == [["b", "a"]]


def test_decode_of_nothing():
    assert decode(np.zeros((0, 2)), ("a", "b")).tolist() == []
    assert decode(np.zeros((3, 0), int), ("a", "b")).shape == (3, 0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: encode(["a", "x"], ["a", "b"]),
            ValueError,
            "encode: expected labels among the 2 classes 'a', 'b', got 'x'. Add it to classes.",
        ),
        (
            lambda: encode(["x"], "abcdefg"),
            ValueError,
            "encode: expected labels among the 7 classes 'a', 'b', 'c', 'd', 'e', ..., got 'x'. Add it to classes.",
        ),
        (
            lambda: encode(["x"], []),
            ValueError,
            "encode: expected labels among no classes, got 'x'. Add it to classes.",
        ),
        (
            lambda: encode([1, 2]),
            TypeError,
            "encode: expected labels to be strings, got 1. Integers are codes already.",
        ),
        (
            lambda: encode(["a", None]),
            TypeError,
            "encode: expected labels to be strings, got None. Integers are codes already.",
        ),
        (
            lambda: encode([["a"], ["b", "c"]]),
            TypeError,
            "encode: expected labels to be strings, got ['a']. Integers are codes already.",
        ),
        (
            lambda: encode(np.array([b"a"])),
            TypeError,
            "encode: expected labels to be strings, got b'a'. Integers are codes already.",
        ),
        (lambda: encode(["a"], ["a", "b", "a"]), ValueError, "encode: expected classes to differ, got 'a' twice."),
        (lambda: encode(["a"], ["a", 3]), TypeError, "encode: expected classes to be strings, got 3."),
        (
            lambda: encode(["a"], ["a", "b\0"]),
            ValueError,
            "encode: expected classes that a NumPy string can hold, got 'b\\x00'. It drops a null at the end.",
        ),
        (lambda: decode([2], ("a", "b")), ValueError, "decode: expected codes of the 2 classes 'a', 'b', got 2."),
        (lambda: decode([-1], ("a", "b")), ValueError, "decode: expected codes of the 2 classes 'a', 'b', got -1."),
        (lambda: decode([0], ()), ValueError, "decode: expected codes of no classes, got 0."),
        (
            lambda: decode(["a"], ("a", "b")),
            TypeError,
            "decode: expected integer codes or one-hot rows, got <U1[1].",
        ),
        (
            lambda: decode(np.eye(3), ("a", "b")),
            ValueError,
            "decode: expected rows of shape [..., 2], or integer codes, got float64[3, 3].",
        ),
        (
            lambda: decode(np.float32(1), ("a", "b")),
            ValueError,
            "decode: expected rows of shape [..., 2], or integer codes, got float32[].",
        ),
        (
            lambda: decode(np.array([[0.4, 0.6]]), ("a", "b")),
            ValueError,
            "decode: expected one-hot rows, got others. Take argmax(-1) of scores; a label out of range is NaN.",
        ),
        (
            lambda: decode(np.array([[True, True]]), ("a", "b")),
            ValueError,
            "decode: expected one-hot rows, got others. Take argmax(-1) of scores; a label out of range is NaN.",
        ),
        (
            lambda: decode(one_hot(np.array([0, 5]), 2), ("a", "b")),
            ValueError,
            "decode: expected one-hot rows, got others. Take argmax(-1) of scores; a label out of range is NaN.",
        ),
        (lambda: decode([0], ("a", "a")), ValueError, "decode: expected classes to differ, got 'a' twice."),
        (lambda: decode([0], (1,)), TypeError, "decode: expected classes to be strings, got 1."),
    ],
)
def test_wrong_encode_and_decode(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
