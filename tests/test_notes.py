"""The worked answers of the lecture notes that this library grew out of, places where they err, and docs/notes.md."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def mean_of(loss):
    return lambda prediction, target: jnp.mean(loss(prediction, target))


def test_gradients_of_a_sum_of_products():
    x, w, z, r, t, a = draw(5, 3), draw(3, 4), draw(5, 2), draw(2, 4), draw(5, 4), draw(4)
    g = draw(5, 4)  # ∂L/∂y
    _, pull = jax.vjp(lambda x, w, z, r, t, a: x @ w + z @ r + t + a[None, :], x, w, z, r, t, a)
    dx, dw, dz, dr, dt, da = pull(g)
    n, k = g.shape
    by_hand = np.zeros((n, 2))
    for i in range(n):
        for j in range(2):
            by_hand[i, j] = sum(float(g[i, c]) * float(r[j, c]) for c in range(k))
    assert_close(dz, by_hand.astype(np.float32))  # G Rᵀ
    assert_close(dr, np.einsum("ij,ik->jk", z, g))
    assert_close(dx, np.einsum("ik,jk->ij", g, w))
    assert_close(dw, np.einsum("ij,ik->jk", x, g))
    assert_close(dt, g)
    assert_close(da, np.sum(np.asarray(g), axis=0))  # a bias meets every row


def test_two_affine_layers_are_one():
    model, x = nn.serial(nn.dense(7), nn.dense(3)), draw(6, 4)
    params, state = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1, params)
    first, second = params["dense"], params["dense_1"]
    one = {"w": first["w"] @ second["w"], "b": first["b"] @ second["w"] + second["b"]}
    assert_close(model.apply(params, state, x)[0], nn.dense(3).apply(one, {}, x)[0])


def test_logistic_regression_of_images():
    model = nn.serial(nn.flatten(), nn.dense(1))
    params, _ = model.init(jax.random.key(0), jax.ShapeDtypeStruct((8, 3, 8, 8), jnp.float32))
    assert params["dense"]["w"].shape == (192, 1)


def test_softmax_is_unchanged_by_a_shift():
    x = draw(3, 5)
    for shift in (-1e4, 100.0, 1e4):
        assert_close(nn.softmax(jnp.round(x * 8) / 8 + shift), nn.softmax(jnp.round(x * 8) / 8))


def test_the_jacobian_of_softmax():
    x = draw(5)
    s = np.asarray(nn.softmax(x), np.float64)
    by_hand = [[s[i] * ((i == j) - s[j]) for j in range(5)] for i in range(5)]
    assert_close(jax.jacobian(nn.softmax)(x), np.array(by_hand, np.float32))


@pytest.mark.parametrize("classes", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_loss_of_a_fresh_net_is_the_log_of_its_classes(classes):
    images, _ = nn.data.load("digits").train
    x = jnp.asarray(images[:500]).reshape(500, -1)
    labels = jnp.asarray(RNG.integers(0, classes, 500))
    model = nn.serial(nn.dense(64), nn.relu, nn.dense(64), nn.relu, nn.dense(classes))

    def fresh(key):
        params, state = model.init(key, x)
        return jnp.mean(nn.losses.softmax_cross_entropy(model.apply(params, state, x)[0], labels))

    losses = jax.jit(jax.vmap(fresh))(jax.random.split(jax.random.key(0), 8))
    np.testing.assert_allclose(losses, np.log(classes), rtol=0.05)


def test_the_mean_squared_error_divides_by_all_numbers():
    prediction, target = draw(4, 3, 8, 8), draw(4, 3, 8, 8)
    r = np.asarray(prediction, np.float64) - np.asarray(target, np.float64)
    value, gradient = jax.value_and_grad(mean_of(nn.losses.squared_error))(prediction, target)
    assert_close(value, np.float32((r**2).sum() / 768))
    assert_close(gradient, (2 * r / 768).astype(np.float32))


@pytest.mark.slow
def test_squared_error_on_large_logits_blows_up_where_cross_entropy_does_not():
    logits, one_hot = 1000.0 + 500.0 * jnp.arange(10.0)[None, :], jnp.eye(10)[:1]
    squared = jax.grad(lambda x: nn.losses.squared_error(x, one_hot).sum())(logits)
    entropy = jax.grad(lambda x: nn.losses.softmax_cross_entropy(x, one_hot).sum())(logits)
    assert float(jnp.abs(squared).min()) >= 2 * 999
    assert float(jnp.abs(entropy).max()) <= 1


def test_the_subgradient_of_the_absolute_error_at_0():
    slope = jax.grad(lambda p: nn.losses.absolute_error(p, jnp.zeros(())))
    assert [float(slope(jnp.float32(p))) for p in (-2.0, 0.0, 2.0)] == [-1.0, 0.0, 1.0]


@pytest.mark.slow
def test_binary_cross_entropy_has_one_output():
    z, y = draw(6), jnp.array([0, 1, 1, 0, 1, 0])
    two = jnp.stack([jnp.zeros(6), z], axis=-1)  # the second output of a softmax only shifts the first
    assert_close(nn.losses.binary_cross_entropy(z, y), nn.losses.softmax_cross_entropy(two, y))


# Where the notes err.


def test_tanh_is_negative_where_x_is():
    x = jnp.linspace(-3, 3, 13)
    np.testing.assert_array_equal(jnp.sign(nn.tanh(x)), jnp.sign(x))
    assert "zero-centred" in nn.tanh.__doc__


def test_any_number_of_points_is_feasible_in_the_memory_of_a_batch():
    """Least squares needs XᵀX and Xᵀy alone, sums over batches: five billion rows take time, not memory."""
    x, y = draw(10_000, 6), draw(10_000)
    batches = (x.reshape(100, 100, 6), y.reshape(100, 100))
    total, _ = jax.lax.scan(
        lambda sums, b: ((sums[0] + b[0].T @ b[0], sums[1] + b[0].T @ b[1]), None),
        (jnp.zeros((6, 6)), jnp.zeros(6)),
        batches,
    )
    whole = np.linalg.lstsq(np.asarray(x, np.float64), np.asarray(y, np.float64), rcond=None)[0]
    np.testing.assert_allclose(jnp.linalg.solve(*total), whole, rtol=1e-4, atol=1e-6)
    assert "five billion" in nn.data.batches.__doc__


def test_a_negative_slope_is_no_leaky_relu():
    x = jnp.array([-2.0, -1.0, 1.0])
    assert bool((jnp.diff(nn.leaky_relu(x, negative_slope=-0.5)) < 0).any())  # it turns back: not monotonic
    assert bool((jnp.diff(nn.leaky_relu(x)) > 0).all())
    assert "negative" in nn.leaky_relu.__doc__


# The table of activations on the page.

PAGE = (Path(__file__).parents[1] / "docs" / "notes.md").read_text()
ROW = re.compile(r"^\| `nn\.(\w+)` \| .* \| [\[(](\S+), (\S+)[\])] \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", re.M)
ACTIVATIONS = {name: row for name, *row in ROW.findall(PAGE)}
SIDES = {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "–"}
NORMAL = np.linspace(-8, 8, 1601)  # at these points, weighted by the normal density
POINTS = jnp.asarray([*NORMAL, -1e4, -8, -6.5, -4, 4, 6.5, 8, 1e4], jnp.float32)


def measured(f, slope):
    """Range, mean output for N(0, 1), largest slope, sides that saturate and sides without gradient, as on the page."""
    density, slope = np.exp(-(NORMAL**2) / 2), np.abs(slope)
    ends = [f"{end:.2f}" if abs(end) < 100 else "∞" if end > 0 else "-∞" for end in (f.min(), f.max())]
    mean = f[: len(NORMAL)] @ (density / density.sum())
    _, left8, left6, left4, right4, right6, right8, _ = slope[len(NORMAL) :]
    flat = [end == 0 or (end < 0.02 and end < near / 2) for end, near in ((left8, left4), (right8, right4))]
    return [*ends, f"{mean:.2f}", f"{slope.max():.2f}", SIDES[tuple(flat)], SIDES[left6 == 0, right6 == 0]]


def test_the_table_of_activations_is_measured():
    assert len(ACTIVATIONS) == 19
    functions = {name: getattr(nn, name) for name in ACTIVATIONS}
    found = jax.jit(lambda x: {n: (f(x), jax.vmap(jax.grad(f))(x)) for n, f in functions.items()})(POINTS)
    for name, row in ACTIVATIONS.items():
        numbers = [f"{float(cell):.2f}" if re.search(r"\d", cell) else cell for cell in row]
        assert [re.sub("^-0.00$", "0.00", cell) for cell in measured(*map(np.float64, found[name]))] == numbers, name
