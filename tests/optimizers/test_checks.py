"""Errors of optimizers, each with its whole text: arguments, gradients, states, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.optimizers import (
    adadelta,
    adam,
    adamw,
    amsgrad,
    nadam,
    rmsprop,
    rprop,
    sgd,
)

LR = 0.01
WRAPPERS = {"by_path", "compensated", "flat", "quantized", "stochastic_rounding"}


def plain(g, s, p, t):
    return g, s


def params():
    return {"block": {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}}


def grads(**changes):
    return {"block": {k: v for k, v in {**params()["block"], **changes}.items() if v is not None}}


LEAVES = "Keep such leaves out of params, or leave them out with optax.masked."
SAME = "Pass gradients of the tree that was given to init."


@pytest.mark.parametrize("opt", [sgd(LR), adam(LR)], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    ("g", "error", "text"),
    [
        (
            grads(b=None),
            TypeError,
            f": gradients have no leaf block/b, but params have. {SAME}",
        ),
        (
            grads(c=jnp.zeros(4)),
            TypeError,
            f": gradients have a leaf block/c, but params have none. {SAME}",
        ),
        (
            grads(w=jnp.zeros((3, 2))),
            ValueError,
            f" at block/w: expected a gradient of shape [2, 3] as in params, got float32[3, 2]. {SAME}",
        ),
        (
            grads(w=jnp.zeros((2, 1))),
            ValueError,
            f" at block/w: expected a gradient of shape [2, 3] as in params, got float32[2, 1]. {SAME}",
        ),
        (
            grads(b=jnp.zeros(3, jnp.int32)),
            TypeError,
            f" at block/b: expected a floating or complex gradient, got int32[3]. {LEAVES}",
        ),
        (
            grads(b=np.zeros(3, jax.dtypes.float0)),
            TypeError,
            " at block/b: expected a floating or complex gradient, got [('float0', 'V')][3]. " + LEAVES,
        ),
        (
            grads(b=jnp.zeros(3, jnp.complex64)),
            TypeError,
            " at block/b: expected a real gradient for a real parameter, got complex64[3]. Take its real part.",
        ),
    ],
    ids=["missing", "extra", "shape", "broadcast", "integer", "float0", "complex"],
)
def test_gradients_that_do_not_fit(opt, g, error, text):
    name = "sgd" if len(opt.init(params())) == 1 else "adam"
    with pytest.raises(error) as excinfo:
        opt.update(g, opt.init(params()), params())
    assert str(excinfo.value) == name + text


def test_gradients_in_other_containers():
    opt, x = sgd(LR), [jnp.zeros(2)]
    with pytest.raises(TypeError) as excinfo:
        opt.update(tuple(x), opt.init(x), x)
    assert str(excinfo.value) == (
        f"sgd: expected gradients in the containers of params, PyTreeDef([*]), got PyTreeDef((*,)). {SAME}"
    )


def test_a_state_of_other_parameters_is_found_without_params():
    opt = adam(LR)
    with pytest.raises(TypeError) as excinfo:
        opt.update({"b": jnp.zeros(2)}, opt.init({"a": jnp.zeros(2)}))
    assert str(excinfo.value) == f"adam: gradients have no leaf a, but mu of the optimizer state has. {SAME}"
    with pytest.raises(ValueError) as excinfo:
        opt.update(jnp.zeros(3), opt.init(jnp.zeros(2)))
    assert str(excinfo.value) == f"adam: expected a gradient of shape [2] as in mu, got float32[3]. {SAME}"


@pytest.mark.parametrize(
    ("state", "got"),
    [
        (sgd(LR).init(jnp.zeros(2)), "count"),
        (optax.adam(LR).init(jnp.zeros(2)), "a tuple"),
        (None, "a NoneType"),
    ],
    ids=["sgd's", "optax's", "none"],
)
def test_a_state_of_another_optimizer(state, got):
    with pytest.raises(TypeError) as excinfo:
        adam(LR).update(jnp.zeros(2), state)
    assert str(excinfo.value) == (
        f"adam: expected a state of count, mu, nu, got {got}. "
        "Call update(grads, state, params) with the state that init or the last update returned."
    )


@pytest.mark.parametrize(
    ("leaf", "got"),
    [
        (jnp.zeros(3, jnp.int32), "int32[3]"),
        (np.zeros((), np.uint8), "uint8[]"),
        (jnp.zeros(3, bool), "bool[3]"),
        (3, "3"),
        ("text", "'text'"),
        (jax.random.key(0), "key<fry>[]"),
    ],
    ids=["int32", "uint8", "bool", "int", "str", "key"],
)
def test_parameters_that_are_not_numbers_to_move(leaf, got):
    with pytest.raises(TypeError) as excinfo:
        adam(LR).init({"head": [jnp.zeros(2), leaf]})
    assert str(excinfo.value) == f"adam at head/1: expected a floating or complex parameter, got {got}. {LEAVES}"


def test_weight_decay_without_params():
    opt = adadelta(weight_decay=0.1)
    with pytest.raises(ValueError) as excinfo:
        opt.update(jnp.zeros(2), opt.init(jnp.zeros(2)))
    assert str(excinfo.value) == (
        "adadelta: expected params, got None. Call update(grads, state, params): weight decay needs them."
    )


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (
            {"other": True},
            "adadelta: expected a weight decay mask that is a prefix of params, got {'other': True}. "
            "Give it the structure of params, or of their upper levels.",
        ),
        (
            {"block": 1.0},
            "adadelta: expected a weight decay mask of bools, got 1.0. True decays a leaf, False leaves it alone.",
        ),
    ],
    ids=["structure", "number"],
)
def test_masks_that_do_not_fit(mask, text):
    opt = adadelta(weight_decay=0.1, weight_decay_mask=mask)
    with pytest.raises(TypeError) as excinfo:
        opt.update(params(), opt.init(params()), params())
    assert str(excinfo.value) == text


def test_schedules_that_return_no_number():
    opt = sgd(lambda count: jnp.zeros(2))
    with pytest.raises(ValueError) as excinfo:
        opt.update(jnp.zeros(2), opt.init(jnp.zeros(2)))
    assert str(excinfo.value) == (
        "sgd: expected the schedule's learning_rate to be a scalar, got float32[2]. Sweep over values with jax.vmap."
    )
    opt = sgd(lambda count: None)
    with pytest.raises(TypeError) as excinfo:
        opt.update(jnp.zeros(2), opt.init(jnp.zeros(2)))
    assert str(excinfo.value) == (
        "sgd: expected the schedule's learning_rate to be a real number, got None. Pass a float."
    )


RATE = "Schedule it with optax.inject_hyperparams."
FLAG, DTYPE = "It is fixed when the optimizer is made.", "Pass jnp.float32 or the like, or None."
NESTEROV = "Set momentum, or leave nesterov False."


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: adadelta(None),
            TypeError,
            "adadelta: expected learning_rate to be a real number, got None. Pass a float.",
        ),
        (lambda: sgd("1"), TypeError, "sgd: expected learning_rate to be a real number, got '1'. Pass a float."),
        (lambda: sgd(1j), TypeError, "sgd: expected learning_rate to be a real number, got 1j. Pass a float."),
        (
            lambda: sgd(np.complex64(1)),
            TypeError,
            "sgd: expected learning_rate to be a real number, got complex64[]. Pass a float.",
        ),
        (
            lambda: sgd(jnp.ones(3)),
            ValueError,
            "sgd: expected learning_rate to be a scalar, got float32[3]. Sweep over values with jax.vmap.",
        ),
        (
            lambda: adam(LR, jnp.zeros((), bool)),
            TypeError,
            "adam: expected b1 to be a real number, got bool[]. Pass a float.",
        ),
        (lambda: adam(LR, plain), TypeError, f"adam: expected b1 to be a real number, got the function plain. {RATE}"),
        (
            lambda: adam(LR, mu_dtype=jnp.int8),
            TypeError,
            f"adam: expected mu_dtype to be a floating dtype, got int8. {DTYPE}",
        ),
        (
            lambda: adam(LR, mu_dtype="float33"),
            TypeError,
            f"adam: expected mu_dtype to be a floating dtype, got 'float33'. {DTYPE}",
        ),
        (
            lambda: sgd(LR, 0.9, accumulator_dtype=np.dtype("complex64")),
            TypeError,
            f"sgd: expected accumulator_dtype to be a floating dtype, got complex64. {DTYPE}",
        ),
        (lambda: adam(LR, nesterov=1), TypeError, f"adam: expected nesterov to be True or False, got 1. {FLAG}"),
        (
            lambda: rmsprop(LR, nesterov=True),
            ValueError,
            f"rmsprop: expected momentum with nesterov=True, got None. {NESTEROV}",
        ),
        (
            lambda: rmsprop(LR, centered=None),
            TypeError,
            f"rmsprop: expected centered to be True or False, got None. {FLAG}",
        ),
        (
            lambda: rmsprop(LR, eps_in_sqrt=0.1),
            TypeError,
            f"rmsprop: expected eps_in_sqrt to be True or False, got 0.1. {FLAG}",
        ),
        (
            lambda: rmsprop(LR, bias_correction=1),
            TypeError,
            f"rmsprop: expected bias_correction to be True or False, got 1. {FLAG}",
        ),
        (lambda: sgd(LR, True), TypeError, "sgd: expected momentum to be a real number, got True. Pass a float."),
        (lambda: sgd(LR, 0.9, 0.9), TypeError, f"sgd: expected nesterov to be True or False, got 0.9. {FLAG}"),
        (
            lambda: sgd(LR, nesterov=True),
            ValueError,
            f"sgd: expected momentum with nesterov=True, got None. {NESTEROV}",
        ),
    ],
)
def test_arguments_that_do_not_fit(make, error, text):
    with pytest.raises(error) as excinfo:
        make()
    assert str(excinfo.value) == text


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: rprop(lambda count: 0.1),
            TypeError,
            "rprop: expected learning_rate to be a number, got the function <lambda>. "
            "Rprop adapts its step sizes: pass the first one.",
        ),
        (
            lambda: adam(LR, nesterov=True, preset="keras"),
            ValueError,
            "adam: preset='keras' has no option nesterov. Leave it out, or use preset='optax'.",
        ),
        (
            lambda: rmsprop(LR, bias_correction=True, preset="torch"),
            ValueError,
            "rmsprop: preset='torch' has no option bias_correction. Leave it out, or use preset='optax'.",
        ),
        (
            lambda: amsgrad(LR, bias_correction_nu=False, preset="torch"),
            ValueError,
            "amsgrad: preset='torch' has no option bias_correction_nu. Leave it out, or use preset='optax'.",
        ),
        (
            lambda: nadam(LR, eps_root=1.0, preset="keras"),
            ValueError,
            "nadam: preset='keras' has no option eps_root. Leave it out, or use preset='optax'.",
        ),
        (
            lambda: adam(LR, weight_decay=0.1, decoupled=1),
            TypeError,
            "adam: expected decoupled to be True or False, got 1. It is fixed when the optimizer is made.",
        ),
    ],
    ids=["schedule", "keras", "torch", "amsgrad", "nadam", "decoupled"],
)
def test_arguments_of_the_family(make, error, text):
    with pytest.raises(error) as excinfo:
        make()
    assert str(excinfo.value) == text


def test_a_mask_of_globs_names_the_paths_it_misses():
    opt = adamw(LR, mask=["*/w", "*/scale"])
    with pytest.raises(ValueError) as excinfo:
        opt.update(params(), opt.init(params()), params())
    assert str(excinfo.value) == (
        "adamw: expected the mask of weight decay to match some of block/b, block/w, got '*/scale'."
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: sgd(LR, dampening=0.5),
            "sgd: expected momentum with dampening=0.5, got None. Set momentum, or leave dampening 0.",
        ),
        (
            lambda: rprop(LR, min_step_size=2.0, max_step_size=1.0),
            "rprop: expected min_step_size <= max_step_size, 1.0, got 2.0.",
        ),
    ],
    ids=["dampening alone", "bounds"],
)
def test_arguments_that_do_not_go_together(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
