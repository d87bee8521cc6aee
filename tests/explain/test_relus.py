"""Guided backpropagation and deconvnet against a backward pass by hand, and ReLUs in every form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only

import jaxnn as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)
W = [2 * RNG.normal(size=shape).astype(np.float32) for shape in ((4, 6), (6, 7), (7, 3))]  # large: some values exceed 6
METHODS = {
    "guided_backprop": (nn.explain.guided_backprop, lambda z, g: np.maximum(g, 0) * (z > 0)),
    "deconvnet": (nn.explain.deconvnet, lambda z, g: np.maximum(g, 0)),
}


def by_hand(rule, c, largest=np.inf):
    """The backward pass of class c through two hidden layers, in float64."""
    h, inputs = X.astype(np.float64), []
    for w in W[:2]:
        inputs.append(h @ w)
        h = np.clip(inputs[-1], 0, largest)
    g = np.tile(W[2][:, c], (len(X), 1)).astype(np.float64)
    for z, w in zip(reversed(inputs), reversed(W[:2]), strict=True):
        g = rule(z, g * (z < largest)) @ w.T.astype(np.float64)
    return g


def chain(relu):
    """The network with a ReLU of the caller."""
    return lambda x: relu(relu(x @ W[0]) @ W[1]) @ W[2]


def scanned(x):
    h = x @ W[0]
    h, _ = jax.lax.scan(lambda h, w: (jnp.maximum(h, 0) @ w, None), h, jnp.eye(6)[None])
    return nn.relu(h @ W[1]) @ W[2]


@jax.custom_jvp
def halfway(x):  # as softplus has it, a derivative of its own around max(x, 0) + more
    return jnp.maximum(x, 0) + jnp.exp(-jnp.abs(x))


halfway.defjvp(lambda primals, tangents: (halfway(*primals), tangents[0]))


@jax.custom_vjp
def taught(x):
    return jnp.maximum(x, 0)


taught.defvjp(lambda x: (taught(x), x), lambda x, g: (jnp.where(x > 0, g, 0),))

FORMS = {
    "custom_vjp": chain(taught),
    "beside integers": lambda x: (
        chain(nn.relu)(x) * jnp.maximum(jnp.arange(1), 0).max().astype(x.dtype) + chain(nn.relu)(x)
    ),
    "nn.relu": chain(nn.relu),
    "jax.nn.relu": chain(jax.nn.relu),
    "maximum": chain(lambda x: jnp.maximum(x, 0)),
    "maximum, 0 first": chain(lambda x: jnp.maximum(jnp.float32(0), x)),
    "maximum of zeros": chain(lambda x: jnp.maximum(x, jnp.zeros_like(x))),
    "clip": chain(lambda x: jnp.clip(x, 0)),
    "where": chain(lambda x: jnp.where(x > 0, x, 0)),
    "where, 0 first": chain(lambda x: jnp.where(x > 0, x, jnp.zeros_like(x))),
    "lax": chain(lambda x: jax.lax.max(x, jnp.float32(0))),
    "jit": chain(jax.jit(nn.relu)),
    "remat": jax.checkpoint(chain(nn.relu)),
    "scan": scanned,
    "cond": chain(lambda x: jax.lax.cond(x[0, 0] > 100, lambda x: x, nn.relu, x)),
    "vmap": lambda x: jax.vmap(chain(nn.relu))(x[:, None])[:, 0],
    "a layer of one's own": nn.layer(None, lambda params, state, x, **_: (chain(nn.relu)(x), state), "own"),
}


@pytest.mark.parametrize("form", only(("nn.relu", "maximum", "where", "scan", "custom_vjp"), FORMS))
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_a_backward_pass_by_hand(method, form):
    explain, rule = METHODS[method]
    assert_close(explain(FORMS[form], {}, {}, X, target=1), by_hand(rule, 1))


@pytest.mark.parametrize("relu6", [nn.relu6, lambda x: jnp.clip(x, 0, 6)])
@pytest.mark.parametrize("method", METHODS)
def test_the_upper_end_of_relu6_keeps_its_derivative(method, relu6):
    explain, rule = METHODS[method]
    assert (np.maximum(X @ W[0], 0) @ W[1] > 6).any()
    assert_close(explain(chain(relu6), {}, {}, X, target=0), by_hand(rule, 0, largest=6))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", [nn.softplus, jax.nn.softplus, nn.leaky_relu, nn.elu, nn.gelu, halfway, nn.hard_sigmoid]
)
def test_other_activations_keep_their_derivatives(other):
    model = lambda x: nn.relu(other(x @ W[0])) @ W[1]  # noqa: E731
    h, pull = jax.vjp(lambda x: other(x @ W[0]), X)
    (wanted,) = pull(jnp.where(h > 0, jnp.maximum(W[1][None, :, 2], 0), 0))
    assert_close(nn.explain.guided_backprop(model, {}, {}, X, target=2), wanted)


@pytest.mark.slow
def test_of_convolutions_norms_and_skip_connections():
    """Against the gradient of the same params with the rule written into the ReLUs of the model."""

    @jax.custom_vjp
    def guided(x):
        return jnp.maximum(x, 0)

    guided.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, g: (jnp.where(x > 0, jnp.maximum(g, 0), 0),))

    def network(relu):
        relu = nn.lift(relu, name="relu")
        block = nn.residual(nn.serial(nn.conv(6, 3), nn.batch_norm(), relu, nn.layer_norm()))
        return nn.serial(nn.conv(6, 3), relu, nn.max_pool(2), nn.repeat(block, 2), nn.global_avg_pool(), nn.dense(3))

    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params, state = network(nn.relu).init(jax.random.key(1), x)
    wanted = jax.grad(lambda x: network(guided).apply(params, state, x)[0][:, 1].sum())(x)
    assert_close(nn.explain.guided_backprop(network(nn.relu), params, state, x, target=1), wanted)


def test_under_jit_and_vmap():
    model = FORMS["nn.relu"]
    maps = nn.explain.guided_backprop(model, {}, {}, X, target=1)
    assert_close(jax.jit(lambda x: nn.explain.guided_backprop(model, {}, {}, x, target=1))(X), maps)
    each = jax.vmap(lambda c: nn.explain.guided_backprop(model, {}, {}, X, target=c))(jnp.arange(3))
    assert_close(each[1], maps)


WITHOUT = {
    "tanh": (nn.tanh, "one with tanh"),
    "softplus": (jax.nn.softplus, "one with exp, log1p"),
    "linear": (lambda x: x, "one without"),
}


@pytest.mark.parametrize("case", WITHOUT)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_relus(method, case):
    activation, told = WITHOUT[case]
    with pytest.raises(ValueError) as caught:
        METHODS[method][0](chain(activation), {}, {}, X, target=1)
    assert str(caught.value) == f"{method}: expected a model with ReLUs, max(x, 0), got {told}."
