"""Optimizers whose rule looks at whole arrays, against float64 loops and optax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jaxnn as nn
from jaxnn.optimizers._muon import COEFFICIENTS, PRECONDITIONINGS, orthogonalized
from jaxnn.optimizers._trust_ratio import norm

LR, STEPS = 0.01, 50
RNG = np.random.default_rng(0)
SHAPES = {
    "scalar": (),
    "vector": (7,),
    "wide": (4, 9),
    "tall": (6, 3),
    "kernel": (3, 3, 4, 5),
    "zeros": (2, 3),
    "empty": (0, 3),
}
PARAMS = {k: RNG.normal(size=shape) * (k != "zeros") for k, shape in SHAPES.items()}
SIZES = {k: 10.0 ** RNG.integers(-3, 3) for k in SHAPES}
GRADS = {k: RNG.normal(size=(STEPS, *shape)) * SIZES[k] for k, shape in SHAPES.items()}
GRADS["vector"][3:6] = 0


def walked(opt, dtype="float32", names=tuple(SHAPES)):
    """The updates of all steps, params following, in one program."""
    x, gs = ({k: jnp.asarray(tree[k], dtype) for k in names} for tree in (PARAMS, GRADS))

    def step(carry, g):
        x, state = carry
        updates, state = opt.update(g, state, x)
        return (jax.tree.map(lambda p, u: p + u.astype(p.dtype), x, updates), state), updates

    with jax.numpy_dtype_promotion("standard"):  # for optax; ours runs under "strict" in the conformance tests
        return jax.jit(lambda x, gs: jax.lax.scan(step, (x, opt.init(x)), gs)[1])(x, gs)


def theirs_walked(opt, dtype="float32"):
    """The same for optax, whose muon divides by the length of an axis."""
    return walked(opt, dtype, tuple(k for k in SHAPES if k != "empty")) | {"empty": np.zeros((STEPS, 0, 3))}


def compare(got, want, tolerance):
    for k in SHAPES:
        a, b = np.asarray(got[k], np.float64), np.asarray(want[k], np.float64)
        assert a.shape == b.shape
        if b.size:
            assert np.isfinite(a).all()
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), k


# ---- float64 loops over single arrays: gradients [steps, ...] and a parameter in, updates out


def size(x):
    return np.sqrt(sum(abs(v) ** 2 for v in np.ravel(x)))


def lamb_paper(gs, p, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.0):
    m, v, out = 0 * p, 0 * p, []
    for t, g in enumerate(gs, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p
        ratio = size(p) / size(u) if size(p) > 0 and size(u) > 0 else 1.0
        out.append(-LR * ratio * u)
        p = p + out[-1]
    return np.array(out)


def lars_paper(gs, p, weight_decay=0.0, c=1e-3, eps=0.0, momentum=0.9, nesterov=False):
    trace, out = 0 * p, []
    for g in gs:
        u = g + weight_decay * p
        ratio = c * size(p) / (size(u) + eps) if size(p) > 0 and size(u) > 0 else 1.0
        trace = momentum * trace + LR * ratio * u
        out.append(-(momentum * trace + LR * ratio * u) if nesterov else -trace)
        p = p + out[-1]
    return np.array(out)


def adafactor_paper(gs, p, least=128, momentum=None, decay=None, clip=1.0, scale=True):
    """With the factored moments as the outer product of row and column sums over the total."""
    v, m, out = 0 * p, 0 * p, []
    axes = np.argsort(p.shape)[-2:] if p.ndim > 1 and sorted(p.shape)[-2] >= least else None
    for t, g in enumerate(gs, 1):
        b = 1 - t**-0.8
        v = b * v + (1 - b) * (g**2 + 1e-30)
        estimate = v
        if axes is not None:
            rows, cols = v.sum(axis=axes[1], keepdims=True), v.sum(axis=axes[0], keepdims=True)
            estimate = rows * cols / v.sum(axis=tuple(axes), keepdims=True)
        u = g / np.sqrt(estimate)
        u = u / max(1.0, np.sqrt(np.mean(u**2)) / clip) if p.size else u
        u = LR * u * (max(np.sqrt(np.mean(p**2)), 1e-3) if scale and p.size else 1.0)
        if momentum is not None:
            m = momentum * m + (1 - momentum) * u
            u = m
        out.append(-(u + (decay or 0.0) * p))
        p = p + out[-1]
    return np.array(out)


def muon_paper(gs, p, beta=0.95, eps=1e-8, weight_decay=0.0, nesterov=True, consistent_rms=None):
    """The polynomial applied to the singular values."""
    if p.ndim != 2:
        return adamw_paper(gs, p, eps, nesterov)
    a, b, c = COEFFICIENTS["standard"]
    m, out = 0 * p, []
    for t, g in enumerate(gs, 1):
        m = beta * m + (1 - beta) * g
        look = m / (1 - beta**t)
        if nesterov:
            look = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
        u, s, v = np.linalg.svd(look / (size(look) + eps), full_matrices=False)
        for _ in range(5):
            s = a * s + b * s**3 + c * s**5
        rows, columns = p.shape
        factor = np.sqrt(max(1, columns / max(rows, 1)))
        if consistent_rms is not None:
            factor = np.sqrt(max(rows, columns)) * consistent_rms
        out.append(-LR * (factor * (u * s) @ v + weight_decay * p))
        p = p + out[-1]
    return np.array(out)


def adamw_paper(gs, p, eps, nesterov):
    m, v, out = 0 * p, 0 * p, []
    for t, g in enumerate(gs, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        look = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t) if nesterov else m / (1 - 0.9**t)
        out.append(-LR * look / (np.sqrt(v / (1 - 0.999**t)) + eps))
    return np.array(out)


PAPERS = {
    "lamb": (nn.lamb(LR), lamb_paper),
    "lamb decay": (nn.lamb(LR, weight_decay=0.1, eps=1e-3), partial(lamb_paper, weight_decay=0.1, eps=1e-3)),
    "lars": (nn.lars(LR), lars_paper),
    "lars decay": (
        nn.lars(LR, 0.1, trust_coefficient=0.1, eps=0.5, nesterov=True),
        partial(lars_paper, weight_decay=0.1, c=0.1, eps=0.5, nesterov=True),
    ),
    "adafactor": (nn.adafactor(LR), adafactor_paper),
    "adafactor factored": (nn.adafactor(LR, 3), partial(adafactor_paper, least=3)),
    "adafactor momentum": (
        nn.adafactor(LR, 3, momentum=0.9, weight_decay_rate=1e-3, clipping_threshold=0.5),
        partial(adafactor_paper, least=3, momentum=0.9, decay=1e-3, clip=0.5),
    ),
    "muon": (nn.muon(LR), muon_paper),
    "muon plain": (nn.muon(LR, nesterov=False, beta=0.8), partial(muon_paper, nesterov=False, beta=0.8)),
    "muon rms": (
        nn.muon(LR, consistent_rms=0.2, weight_decay=0.1),
        partial(muon_paper, consistent_rms=0.2, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.slow
def test_the_papers_equations(name):
    opt, paper = PAPERS[name]
    compare(walked(opt), {k: paper(GRADS[k], PARAMS[k]) for k in SHAPES}, 3e-6)


# ---- optax


def masked(params):
    return {k: k in ("wide", "kernel") for k in params}


def decaying(count):
    return LR * 0.9**count


PAIRS = {
    "lamb": (nn.lamb, optax.lamb, [{}, {"weight_decay": 0.1, "mask": masked, "eps_root": 1e-6}]),
    "lars": (
        nn.lars,
        optax.lars,
        [
            {},
            {
                "weight_decay": 0.1,
                "weight_decay_mask": masked,
                "trust_ratio_mask": masked,
                "nesterov": True,
                "eps": 1e-2,
            },
        ],
    ),
    "adafactor": (
        nn.adafactor,
        optax.adafactor,
        [
            {"min_dim_size_to_factor": 3},
            {"factored": False, "multiply_by_parameter_scale": False, "clipping_threshold": None},
            {"min_dim_size_to_factor": 4, "momentum": 0.9, "weight_decay_rate": 0.01, "weight_decay_mask": masked},
        ],
    ),
    "muon": (
        nn.muon,
        optax.contrib.muon,
        [
            {},
            {"ns_coeffs": "dion", "adaptive": True, "adam_learning_rate": 0.1, "adam_weight_decay": 0.1},
            {"preconditioning": "aol", "ns_steps": 4, "weight_decay": 0.1, "consistent_rms": 0.2, "nesterov": False},
            {"preconditioning": "schatten"},
        ],
    ),
}
CASES = [(name, i) for name, (_, _, options) in PAIRS.items() for i in range(len(options))]


@pytest.mark.parametrize(("name", "i"), CASES)
@pytest.mark.slow
def test_the_same_numbers_as_optax(name, i, x64):
    ours, theirs, options = PAIRS[name]
    got, want = (
        walked(ours(decaying, **options[i]), "float64"),
        theirs_walked(theirs(decaying, **options[i]), "float64"),
    )
    compare(got, want, 1e-6 if name == "adafactor" else 1e-13)  # optax has adafactor's decay in float32


# ---- the parts


@pytest.mark.parametrize("preconditioning", PRECONDITIONINGS)
@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (8, 8)], ids=str)
@pytest.mark.slow
def test_singular_values_near_1(preconditioning, shape):
    u, _, v = np.linalg.svd(RNG.normal(size=shape), full_matrices=False)
    x = (u * np.geomspace(1, 0.1, min(shape))) @ v
    for scale in (1.0, 1e-6, 1e30):
        y = orthogonalized(jnp.asarray(scale * x, jnp.float32), [COEFFICIENTS["standard"]] * 5, preconditioning, 0.0)
        values = np.linalg.svd(np.asarray(y, np.float64), compute_uv=False)
        assert 0.6 < values.min() < values.max() < 1.3
        np.testing.assert_allclose(y, u @ (u.T @ np.asarray(y) @ v.T) @ v, atol=1e-5)  # the spaces of x
        assert abs(np.trace(u.T @ np.asarray(y) @ v.T)) > 0.6 * min(shape)  # and its directions


def test_a_norm_neither_overflows_nor_underflows():
    cases = np.float32([[3e30, 4e30], [3e-30, 4e-30], [3, 4], [0, 0], [np.inf, 1], [np.nan, 1]])
    np.testing.assert_allclose(jax.vmap(norm)(cases), [5e30, 5e-30, 5, 0, np.inf, np.nan], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: norm(x))(jnp.float32([3, 4])), [0.6, 0.8], rtol=1e-6)
    assert not np.any(jax.grad(lambda x: norm(x))(jnp.zeros(2)))
    assert norm(jnp.zeros((0, 3))) == 0


OPTIMIZERS = {
    "lamb": nn.lamb(LR, weight_decay=0.1),
    "lars": nn.lars(LR, 0.1),
    "adafactor": nn.adafactor(LR, 2),
    "muon": nn.muon(LR),
    "muon spectral": nn.muon(LR, preconditioning="spectral"),
}
every = pytest.mark.parametrize("name", OPTIMIZERS)


@every
@pytest.mark.slow
def test_gradients_at_the_ends_of_the_range(name):
    opt = OPTIMIZERS[name]
    x = {k: jnp.asarray(RNG.normal(size=s), jnp.float32) for k, s in SHAPES.items()}
    update = jax.jit(opt.update)
    for size in (0.0, 1e-30, 1e-15, 1e15, 1e30, 3e38):
        g = jax.tree.map(lambda p, size=size: size * jnp.sign(p), x)
        updates, state = update(g, opt.init(x), x)
        updates, state = update(g, state, x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
        largest = max(np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(updates))
        assert largest < (1 if "lars" not in name else 1e38)
    for bad in (np.inf, np.nan):
        updates, state = update({**x, "wide": x["wide"].at[0, 0].set(bad)}, opt.init(x), x)
        assert not np.isfinite(updates["wide"]).all()
        updates, _ = update(x, state, x)
        assert not np.isfinite(updates["wide"]).all()


@every
def test_they_are_not_elementwise(name):
    with pytest.raises(TypeError, match="expected an elementwise optimizer"):
        nn.flat(OPTIMIZERS[name])


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("lamb", "weight decay"),
        ("lars", "weight decay"),
        ("adafactor", "the scale of a parameter"),
    ],
)
def test_params_are_required(name, of):
    x = jnp.ones(3)
    with pytest.raises(ValueError) as caught:
        OPTIMIZERS[name].update(x, OPTIMIZERS[name].init(x))
    assert str(caught.value) == (
        f"{name}: expected params, got None. Call update(grads, state, params): {of} needs them."
    )


WRONG = {
    "trust ratio": (
        lambda: nn.lars(LR, trust_ratio_mask={"a": 1}).update(*[{"a": jnp.ones(2)}] * 3),
        "lars: expected a state of count, trace, got a. "
        "Call update(grads, state, params) with the state that init or the last update returned.",
    ),
    "bools": (
        lambda: stepped(nn.lars(LR, trust_ratio_mask={"a": 1})),
        "lars: expected a trust ratio mask of bools, got 1. True scales the update of a leaf, False leaves it alone.",
    ),
    "slots": (
        lambda: nn.adafactor(LR, 2).update(
            {"a": jnp.ones((2, 3))}, nn.adafactor(LR, 2).init({"a": jnp.ones((3, 4))}), {"a": jnp.ones((2, 3))}
        ),
        "adafactor at a: expected v_row of shape [2] for a gradient float32[2, 3], got float32[3]. "
        "Pass gradients of the tree that was given to init.",
    ),
    "two coefficients": (
        lambda: nn.muon(LR, (1.0, 2.0)),
        "muon: expected ns_coeffs of shape [3] or [steps, 3], got (1.0, 2.0).",
    ),
    "a name": (lambda: nn.muon(LR, "fast"), "muon: expected ns_coeffs to be one of 'standard', 'dion', got 'fast'."),
    "ragged": (
        lambda: nn.muon(LR, ((1.0, 2.0), 3.0)),
        "muon: expected ns_coeffs to be (a, b, c), or a sequence of them, got ((1.0, 2.0), 3.0).",
    ),
}


def stepped(opt):
    x = {"a": jnp.ones(2)}
    return opt.update(x, opt.init(x), x)


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    make, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value) == text
