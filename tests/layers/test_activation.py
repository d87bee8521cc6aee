"""PReLU, maxout and the perceptron against NumPy; the initializations that layers take by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _close import assert_close

import jaxnn as nn

INF = np.inf
KEY = jax.random.key(0)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 4, 3), (0, 3), (3,)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_prelu(shape, shared):
    x, slope = drawn(*shape), np.asarray(0.3) if shared else np.asarray([0.5, -0.2, 1.5])
    layer = nn.prelu(shared=shared)

    def apply(slope, x):
        return layer.apply({"slope": slope}, {}, x)[0]

    y, back = jax.vjp(apply, jnp.asarray(slope), jnp.asarray(x))
    assert_close(y, np.where(x > 0, x, slope * x))
    by_slope, by_x = back(jnp.ones(shape))
    assert_close(by_x, np.where(x > 0, 1, np.broadcast_to(slope, shape)))
    negative = np.minimum(x, 0)
    assert_close(by_slope, negative.sum() if shared else negative.reshape(-1, 3).sum(0))


def test_prelu_at_its_edges():
    def one(slope, x):
        return nn.prelu(shared=True).apply({"slope": slope}, {}, x)[0]

    for x, want in (
        (0.0, (0.0, 0.0, 0.25)),
        (INF, (INF, 0.0, 1.0)),
        (-INF, (-INF, -INF, 0.25)),
        (1e4, (1e4, 0.0, 1.0)),
    ):
        y, (by_slope, by_x) = jax.value_and_grad(one, (0, 1))(jnp.float32(0.25), jnp.float32(x))
        assert (float(y), float(by_slope), float(by_x)) == want
    assert jnp.isnan(one(jnp.float32(0.25), jnp.float32(np.nan)))


@pytest.mark.parametrize(("init", "start"), [("jaxnn", 0.25), ("torch", 0.25), ("keras", 0.0), ("flax", 0.01)])
def test_the_start_of_prelu(init, start):
    for shared, shape in ((False, (3,)), (True, ())):
        params, state = nn.prelu(shared=shared, preset=init).init(KEY, jnp.ones((2, 3)))
        assert (params["slope"].shape, state) == (shape, {})
        assert_close(params["slope"], np.full(shape, start))
    given = nn.prelu(slope_init=nn.init.ones, preset=init).init(KEY, jnp.ones((2, 3)))[0]
    assert given["slope"].tolist() == [1.0] * 3


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.usefixtures("x64")
def test_maxout_is_the_greatest_of_its_maps(pieces):
    x, w, b = drawn(4, 6, 3), drawn(3, 2, pieces, seed=1), drawn(2, pieces, seed=2)
    params = {"w": jnp.asarray(w.reshape(3, -1)), "b": jnp.asarray(b.reshape(-1))}
    y, _ = nn.maxout(2, pieces=pieces).apply(params, {}, jnp.asarray(x))
    assert_close(y, np.max([np.einsum("...d,df->...f", x, w[..., i]) + b[:, i] for i in range(pieces)], axis=0))


def test_maxout_makes_relu_and_the_absolute_value():
    x = jnp.linspace(-2, 2, 9)[:, None]
    for second, want in ((0.0, nn.relu(x)), (-1.0, jnp.abs(x))):
        params = {"w": jnp.asarray([[1.0, second]]), "b": jnp.zeros(2)}
        assert_close(nn.maxout(1).apply(params, {}, x)[0], want)


def test_perceptron_is_a_unit_step_and_has_no_gradient():
    params = {"w": jnp.asarray([[1.0], [1.0]]), "b": jnp.asarray([-1.5])}
    x = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])

    def apply(params):
        return nn.perceptron().apply(params, {}, x)[0]

    assert apply(params).tolist() == [[0.0], [0.0], [1.0], [1.0]]  # on the line it fires
    slopes = jax.grad(lambda p: apply(p).sum())(params)
    assert not any(s.any() for s in jax.tree.leaves(slopes))


# Initialization by name

X = {"dense": (1, 400), "conv": (1, 8, 8, 64), "maxout": (1, 400), "perceptron": (1, 400)}
MAKE = {
    "dense": lambda **how: nn.dense(300, **how),
    "conv": lambda **how: nn.conv(96, 3, groups=2, **how),
    "maxout": lambda **how: nn.maxout(100, pieces=3, **how),
    "perceptron": lambda **how: nn.perceptron(300, **how),
}
FANS = {"dense": (400, 300), "conv": (9 * 32, 9 * 96), "maxout": (400, 300), "perceptron": (400, 300)}


def law(init, kind, param):
    """Of PyTorch 2's, Keras 3's and flax linen's sources; PyTorch's Kaiming with a = √5 comes to 1/√fan_in."""
    fan_in, fan_out = FANS[kind]
    bound = {"torch": fan_in**-0.5, "keras": (6 / (fan_in + fan_out)) ** 0.5}.get(init)
    if param == "b" and init != "torch":
        return None
    if bound is not None:
        return scipy.stats.uniform(-bound, 2 * bound)
    spread = fan_in**-0.5 / scipy.stats.truncnorm(-2, 2).std()
    return scipy.stats.truncnorm(-2, 2, scale=spread)


@pytest.mark.parametrize("init", ["jaxnn", "torch", "keras", "flax"])
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.slow
def test_layers_start_as_another_library_does(kind, init):
    params, _ = MAKE[kind](preset=init).init(KEY, jax.ShapeDtypeStruct(X[kind], jnp.float32))
    for param in ("w", "b"):
        values, expected = np.asarray(params[param], np.float64).ravel(), law(init, kind, param)
        if expected is None:
            assert not values.any()
        else:
            assert scipy.stats.kstest(values[:20_000], expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("jaxnn", scipy.stats.norm(0, 64**-0.5)),
        ("flax", scipy.stats.norm(0, 64**-0.5)),
        ("torch", scipy.stats.norm(0, 1)),
        ("keras", scipy.stats.uniform(-0.05, 0.1)),
    ],
)
def test_embeddings_start_as_another_library_does(init, expected):
    w = nn.embed(300, 64, preset=init).init(KEY, jnp.asarray([0]))[0]["w"]
    assert scipy.stats.kstest(np.asarray(w, np.float64).ravel(), expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", MAKE)
def test_given_initializers_go_before_the_named_ones(kind):
    x = jax.ShapeDtypeStruct(X[kind], jnp.float32)
    params, _ = MAKE[kind](preset="torch", w_init=nn.init.ones).init(KEY, x)
    named, _ = MAKE[kind](preset="torch").init(KEY, x)
    assert bool((params["w"] == 1).all())
    np.testing.assert_array_equal(params["b"], named["b"])
    assert bool((MAKE[kind](b_init=nn.init.ones).init(KEY, x)[0]["b"] == 1).all())


ERRORS = [
    (lambda: nn.prelu(shared=1), "prelu: expected shared to be True or False, got 1."),
    (
        lambda: nn.prelu().apply({"slope": jnp.ones(3)}, {}, jnp.ones((2, 4))),
        "prelu: expected x of shape [..., 3], got float32[2, 4]. slope was made for 3 features: initialise with x of "
        "this shape, or feed it the other.",
    ),
    (
        lambda: nn.maxout(2).apply({"w": jnp.ones((3, 4)), "b": jnp.ones(4)}, {}, jnp.ones((2, 4))),
        "maxout: expected x of shape [..., 3], got float32[2, 4]. w was made for 3 features: initialise with x of this "
        "shape, or feed it the other.",
    ),
    (
        lambda: nn.perceptron().init(KEY, jnp.ones((2, 4), jnp.int32)),
        "perceptron: expected x of shape [..., d] and a floating dtype, got int32[2, 4]. Convert it first, for example "
        "x.astype(jnp.float32) / 255 for images of bytes.",
    ),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors_by_their_whole_text(case):
    call, message = ERRORS[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("shared", [False, True])
def test_prelu_of_infinite_inputs(shared):
    """With a slope of 0 it is relu: relu(-inf) is 0, and the slope learns from what is finite."""
    model, x = nn.prelu(shared=shared, preset="keras"), jnp.array([[-jnp.inf], [-2.0], [3.0]])
    params, state = model.init(jax.random.key(0), x)
    y, slopes = jax.value_and_grad(lambda p, x: model.apply(p, state, x)[0].sum(), (0, 1))(params, x)
    assert y == 3.0
    assert slopes[0]["slope"].ravel().tolist() == [-2.0]
    assert slopes[1].ravel().tolist() == [0.0, 0.0, 1.0]
