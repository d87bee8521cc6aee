"""The presets: every param of every layer against the distribution that the other library draws it from.

The right-hand sides are worked by hand from the sources of PyTorch 2 (`reset_parameters`), Keras 3 and flax.linen.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _close import assert_close

from jaxnn.init import preset

LIBRARIES = ("jaxnn", "torch", "keras", "flax")


def flat(bound):
    return scipy.stats.uniform(-bound, 2 * bound)


def cut(variance):
    return scipy.stats.truncnorm(-2, 2, 0, np.sqrt(variance) / scipy.stats.truncnorm(-2, 2).std())


def glorot(fan_in, fan_out):
    return flat(np.sqrt(6 / (fan_in + fan_out)))


def triangle(bound):
    """The sum of two draws of U(±bound)."""
    return scipy.stats.triang(0.5, -2 * bound, 4 * bound)


H = 24  # hidden units; every weight but a convolution's is drawn as [48, 96], which makes for one program
DENSE = (48, 96)
CONV = (3, 2, 16, 48)  # inputs 3 · 2 · 16 = 96, outputs 3 · 2 · 48 = 288
LONG = (5000,)
lecun_dense, lecun_conv = cut(1 / 48), cut(1 / 96)
biases = {f"b_{name}": (LONG, 0.0) for name in "qkvo"}

# library, kind, fan_in, options -> param: its shape and distribution, or its one value
CASES = {
    ("torch", "dense", 48): {"w": (DENSE, flat(1 / np.sqrt(48))), "b": (LONG, flat(1 / np.sqrt(48)))},
    ("torch", "dense", 0): {"w": ((0, 4), 0.0), "b": (LONG, 0.0)},
    ("torch", "conv", 96): {"w": (CONV, flat(1 / np.sqrt(96))), "b": (LONG, flat(1 / np.sqrt(96)))},
    # torch.nn.ConvTranspose2d(16, 48, (3, 2)): weight [16, 48, 3, 2], size(1) · window = 288
    ("torch", "conv_transpose", 288): {"w": (CONV, flat(1 / np.sqrt(288))), "b": (LONG, flat(1 / np.sqrt(288)))},
    ("torch", "embed", 1): {"w": (DENSE, scipy.stats.norm(0, 1))},
    ("torch", "norm", 1): {"scale": (LONG, 1.0), "bias": (LONG, 0.0)},
    ("torch", "prelu", 1): {"slope": (LONG, 0.25)},
    # in_proj_weight [3 d, d] by Xavier: √(6 / (48 + 144))
    ("torch", "attention", 48): {
        **{f"w_{name}": (DENSE, flat(np.sqrt(6 / 192))) for name in "qkv"},
        "w_o": (DENSE, flat(1 / np.sqrt(48))),
        **biases,
    },
    **{
        ("torch", kind, H): {
            "w_x": (DENSE, flat(1 / np.sqrt(H))),
            "w_h": (DENSE, flat(1 / np.sqrt(H))),
            "b": (LONG, triangle(1 / np.sqrt(H))),
        }
        for kind in ("rnn", "lstm")
    },
    ("torch", "gru", H): {
        "w_x": (DENSE, flat(1 / np.sqrt(H))),
        "w_h": (DENSE, flat(1 / np.sqrt(H))),
        "b": None,
        "b_h": (LONG, flat(1 / np.sqrt(H))),
    },
    ("keras", "dense", 48): {"w": (DENSE, glorot(48, 96)), "b": (LONG, 0.0)},
    ("keras", "conv", 96): {"w": (CONV, glorot(96, 288)), "b": (LONG, 0.0)},
    ("keras", "conv_transpose", 288): {"w": (CONV, glorot(96, 288)), "b": (LONG, 0.0)},
    ("keras", "embed", 1): {"w": (DENSE, flat(0.05))},
    ("keras", "norm", 1): {"scale": (LONG, 1.0), "bias": (LONG, 0.0)},
    ("keras", "prelu", 1): {"slope": (LONG, 0.0)},
    # kernels [48, 4, 24] and [4, 12, 96], of which all axes but the last two count as a window
    ("keras", "attention", 48, 4): {
        **{f"w_{name}": (DENSE, glorot(48 * 4, 48 * 24)) for name in "qkv"},
        "w_o": (DENSE, glorot(4 * 12, 4 * 96)),
        **biases,
    },
    ("keras", "rnn", H): {"w_x": (DENSE, glorot(48, 96)), "w_h": None, "b": (LONG, 0.0)},
    ("keras", "gru", H): {"w_x": (DENSE, glorot(48, 96)), "w_h": None, "b": (LONG, 0.0), "b_h": (LONG, 0.0)},
    ("keras", "lstm", H): {"w_x": (DENSE, glorot(48, 96)), "w_h": None, "b": None},
    ("jaxnn", "lstm", H): {"w_x": (DENSE, lecun_dense), "w_h": None, "b": None},
    ("flax", "lstm", H): {"w_x": (DENSE, lecun_dense), "w_h": None, "b": (LONG, 0.0)},
    ("flax", "prelu", 1): {"slope": (LONG, 0.01)},
    ("jaxnn", "prelu", 1): {"slope": (LONG, 0.25)},
    **{
        (library, *kind): params
        for library in ("jaxnn", "flax")
        for kind, params in {
            ("dense", 48): {"w": (DENSE, lecun_dense), "b": (LONG, 0.0)},
            ("conv", 96): {"w": (CONV, lecun_conv), "b": (LONG, 0.0)},
            ("conv_transpose", 288): {"w": (CONV, lecun_conv), "b": (LONG, 0.0)},
            ("embed", 1): {"w": (DENSE, scipy.stats.norm(0, 1 / np.sqrt(96)))},
            ("norm", 1): {"scale": (LONG, 1.0), "bias": (LONG, 0.0)},
            ("rnn", H): {"w_x": (DENSE, lecun_dense), "w_h": None, "b": (LONG, 0.0)},
            ("gru", H): {"w_x": (DENSE, lecun_dense), "w_h": None, "b": (LONG, 0.0), "b_h": (LONG, 0.0)},
            ("attention", 48): {**{f"w_{name}": (DENSE, lecun_dense) for name in "qkvo"}, **biases},
        }.items()
    },
}
KINDS = ["dense", "conv", "conv_transpose", "embed", "norm", "rnn", "lstm", "gru", "attention", "prelu"]


def made(case):
    library, kind, fan_in, *heads = case
    return preset(library, kind, fan_in, **({"heads": heads[0]} if heads else {}))


def test_every_kind_of_every_library_has_a_row():
    assert {case[:2] for case in CASES} == {(library, kind) for library in LIBRARIES for kind in KINDS}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.slow
def test_distribution(case):
    draws, expected = made(case), CASES[case]
    assert draws.keys() == expected.keys()
    for i, (name, row) in enumerate(expected.items()):
        if row is None:
            continue
        shape, true = row
        x = np.asarray(draws[name](jax.random.key(i), shape), np.float64)
        assert x.shape == shape
        if isinstance(true, float):
            assert (x == np.float32(true)).all()
            continue
        low, high = true.support()
        assert low * (1 + 1e-6) <= x.min()
        assert x.max() <= high * (1 + 1e-6)
        x, (variance, kurtosis) = x.ravel(), true.stats(moments="vk")
        assert abs(x.var() - variance) < 4 * variance * np.sqrt((kurtosis + 2) / x.size)
        assert scipy.stats.kstest(x, true.cdf).pvalue > 1e-3
        assert scipy.stats.kstest(1.15 * x, true.cdf).pvalue < 1e-3  # the test has the power to tell


@pytest.mark.slow
def test_the_candidate_of_pytorchs_gru_has_one_bias_outside_the_reset_gate():
    b = np.asarray(preset("torch", "gru", H)["b"](jax.random.key(0), (9000,)), np.float64)
    for part, true in zip(np.split(b, 3), (triangle, triangle, flat), strict=True):
        assert scipy.stats.kstest(part, true(1 / np.sqrt(H)).cdf).pvalue > 1e-3
        assert scipy.stats.kstest(1.15 * part, true(1 / np.sqrt(H)).cdf).pvalue < 1e-3


@pytest.mark.parametrize("library", ["keras", "flax"])
def test_recurrent_weights_are_orthogonal(library):
    """Keras draws [h, gates h] at once: orthonormal rows; flax draws each gate: orthogonal blocks."""
    w = np.asarray(preset(library, "lstm", H)["w_h"](jax.random.key(3), (H, 4 * H)), np.float64)
    for block in [w] if library == "keras" else np.split(w, 4, axis=1):
        assert_close(block @ block.T, np.eye(H), dtype="float32")
    assert (np.abs(w[:, :H] - w[:, H : 2 * H]) > 1e-4).mean() > 0.9


def test_all_recurrent_layers_draw_their_recurrent_weights_alike():
    for kind in ("rnn", "lstm", "gru"):
        assert preset("keras", kind, H)["w_h"] is preset("keras", "lstm", H)["w_h"]
        for library in ("jaxnn", "flax"):
            assert preset(library, kind, H)["w_h"] is preset("flax", "lstm", H)["w_h"]
            assert preset(library, kind, H)["w_h"] is not preset("keras", "lstm", H)["w_h"]


@pytest.mark.parametrize("library", ["jaxnn", "keras"])
def test_the_forget_gate_of_an_lstm_starts_open(library):
    b = preset(library, "lstm", 3)["b"](None, (12,))
    assert b.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_shape_and_dtype(dtype):
    shapes = {"w_h": (4, 16), "b": (16,)}
    with jax.enable_x64(dtype == "float64"):
        for library in LIBRARIES:
            for kind in KINDS:
                for name, draw in preset(library, kind, 4, heads=4).items():
                    shape = shapes.get(name, (4, 16) if name.startswith("w") else (5,))
                    x = jax.eval_shape(lambda key, draw=draw, shape=shape: draw(key, shape, dtype), jax.random.key(0))
                    assert (x.shape, str(x.dtype)) == (shape, dtype)


@pytest.mark.slow
def test_own_draws_are_rounded_from_float32_and_take_raw_keys_jit_and_vmap():
    draws = [
        (preset("torch", "gru", H)["b"], LONG),
        (preset("flax", "gru", H)["w_h"], (H, 4 * H)),
        (preset("jaxnn", "embed", 1)["w"], DENSE),
        (preset("keras", "attention", 48, heads=4)["w_o"], DENSE),
    ]
    keys = jax.random.split(jax.random.key(5), 2)
    rows = jax.jit(jax.vmap(lambda key: [draw(key, shape) for draw, shape in draws]))(keys)
    for (draw, shape), row in zip(draws, rows, strict=True):
        x = draw(keys[0], shape)
        assert_close(row[0], x)
        assert (row[0] != row[1]).mean() > 0.9
        assert (draw(keys[0], shape, jnp.bfloat16) == x.astype(jnp.bfloat16)).all()
        assert (draw(jax.random.key_data(keys[0]), shape) == x).all()


def test_a_table_without_features_is_empty():
    assert preset("flax", "embed", 1)["w"](jax.random.key(0), (3, 0)).shape == (3, 0)
    assert preset("jaxnn", "lstm", 0)["b"](None, (0,)).shape == (0,)


def test_presets_are_apart():
    preset("torch", "norm", 1)["scale"] = None
    preset("keras", "norm", 1).clear()
    assert preset("torch", "norm", 1)["scale"](None, (1,)).tolist() == [1.0]


ALL = ", ".join(KINDS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: preset("keras", "attention", 8, heads=3)["w_q"](jax.random.key(0), (8, 8)),
            "attention: expected a weight whose heads, 3, divide its features, got (8, 8).",
        ),
        (
            lambda: preset("keras", "lstm", 8)["b"](None, (6,)),
            "bias: expected a shape [4 h], h for each gate, got (6,).",
        ),
        (
            lambda: preset("flax", "gru", 8)["w_h"](jax.random.key(0), (4, 6)),
            "w_h: expected a shape [h, gates h], got (4, 6).",
        ),
        (
            lambda: preset("flax", "embed", 8)["w"](jax.random.key(0), (4,)),
            "embed: expected a shape [*space, in, out], got (4,). A vector has no fans: use zeros, ones or normal.",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message
