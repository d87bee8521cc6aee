"""L-BFGS: optax's numbers, in a loop by hand and in a trainer, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn

START = {"a": jnp.array([-1.2, 1.0]), "b": jnp.array([[0.5, -0.5]])}


def rosenbrock(p):
    return sum(jnp.sum((1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2) for x in jax.tree.leaves(p))


def path(opt, steps=12):
    """The params after some steps, and the state."""

    @jax.jit
    def step(p, state):
        value, grads = jax.value_and_grad(rosenbrock)(p)
        updates, state = opt.update(grads, state, p, value=value, grad=grads, value_fn=rosenbrock)
        return optax.apply_updates(p, updates), state

    p, state = START, opt.init(START)
    for _ in range(steps):
        p, state = step(p, state)
    return p, state


@pytest.mark.parametrize("options", [{}, {"memory_size": 3, "scale_init_precond": False}], ids=str)
@pytest.mark.slow
def test_the_numbers_of_optax(options):
    with jax.numpy_dtype_promotion("standard"):
        want = path(optax.lbfgs(**options))
    got = path(nn.lbfgs(**options))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
Y = (X @ np.float32([1, -2, 3, 0, 0.5]) + 4)[:, None]


@pytest.mark.slow
def test_a_trainer_passes_what_the_line_search_needs():
    """Least squares in 6 params: at the minimum after a few steps, inside the loop of `fit`."""
    trainer = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.lbfgs())
    run = nn.fit(trainer, jax.random.key(0), (X, Y), epochs=12, batch_size=64)
    np.testing.assert_allclose(run.ts.params["w"].ravel(), [1, -2, 3, 0, 0.5], atol=1e-4)
    assert run.history["train"]["loss"][-1].mean() < 1e-8


@pytest.mark.slow
def test_without_a_line_search_no_value_is_needed():
    opt = nn.lbfgs(0.1, linesearch=None)
    updates, _ = opt.update(START, opt.init(START), START)
    jax.tree.map(lambda u, g: np.testing.assert_array_less(u * g, 0), updates, START)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: nn.lbfgs().update(START, nn.lbfgs().init(START), START),
            TypeError,
            "lbfgs: expected value=, grad= and value_fn= for the line search, got no value, grad, value_fn. "
            "Call update(grads, state, params, value=loss, grad=grads, value_fn=loss_of_params), or use nn.trainer.",
        ),
        (
            lambda: nn.lbfgs().update(START, nn.lbfgs().init(START)),
            ValueError,
            "lbfgs: expected params, got None. Call update(grads, state, params): a quasi-Newton method needs them.",
        ),
        (
            lambda: nn.lbfgs(linesearch=0.1),
            TypeError,
            "lbfgs: expected linesearch to be an optax.GradientTransformation or None, got 0.1.",
        ),
    ],
    ids=["value", "params", "linesearch"],
)
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
