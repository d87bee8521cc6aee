"""L-BFGS: optax's quasi-Newton method with its line search."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._elementwise import Optimizer
from jaxnn._errors import wrong_type
from jaxnn.optimizers._checks import check_flags, check_line_search
from jaxnn.optimizers._decay import rate
from jaxnn.types import Arrays, OptState

ZOOM = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")


@recorded
def lbfgs(
    learning_rate: optax.ScalarOrSchedule | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: optax.GradientTransformation | None = ZOOM,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS for all leaves together, [...] -> [...]: the gradient times an inverse Hessian from the last steps.

        d = -lr H g;   H from the last `memory_size` differences of params and gradients
        update = a d,   with the step length a from the line search

    This is `optax.lbfgs`. A quasi-Newton method for smooth objectives without noise: full batches, few params, fits to
    high precision. `nn.trainer` passes the arguments of the line search, with the loss of the batch as its function,
    so that `fit` and `drive` run it; set `batch_size` to the size of the data. Every evaluation of the line search is a
    pass over the batch, up to 20 in a step. Dropout draws the same masks in all of them.

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate); None is 1, which suits
        a line search.
      memory_size: number of differences that are kept, >= 1; each takes two copies of the params.
      scale_init_precond: start H as a multiple of the identity that fits the last difference.
      linesearch: transformation that scales d, as `optax.scale_by_backtracking_linesearch(20)`. The default is optax's,
        a zoom line search of at most 20 evaluations that starts at a = 1. None for a = 1.

    Returns: an optimizer with the state of `optax.lbfgs`, whose `update` requires params, and for a line search
      `value`, `grad` and `value_fn`: the objective's value and gradient at params, and params -> value. It is not
      elementwise.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type. `update` raises
      TypeError without the arguments of the line search.

    Differences: The numbers are those of optax, whose code it is. PyTorch's LBFGS evaluates a closure, and repeats up
      to 20 steps in each call.

    Reference: Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989.

    >>> f = lambda p: jnp.sum((p - jnp.array([1.0, 2.0])) ** 2 * jnp.array([1.0, 100.0]))
    >>> opt, p = lbfgs(), jnp.zeros(2)
    >>> state = opt.init(p)
    >>> for _ in range(5):
    ...     value, grad = jax.value_and_grad(f)(p)
    ...     update, state = opt.update(grad, state, p, value=value, grad=grad, value_fn=f)
    ...     p = optax.apply_updates(p, update)
    >>> p.round(3)
    Array([1., 2.], dtype=float32)
    """
    memory_size = check.count("lbfgs", "memory_size", memory_size)
    check_flags("lbfgs", scale_init_precond=scale_init_precond)
    if learning_rate is not None:
        rate("lbfgs", "learning_rate", learning_rate)
    if linesearch is not None and not isinstance(linesearch, optax.GradientTransformation):
        raise wrong_type("lbfgs", "linesearch to be an optax.GradientTransformation or None", linesearch)
    inner = optax.with_extra_args_support(optax.lbfgs(learning_rate, memory_size, scale_init_precond, linesearch))

    def init(params: Arrays) -> Arrays:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            return inner.init(params)

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, Any]:
        check_line_search("lbfgs", params, linesearch, extra)
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params, **extra)

    return Optimizer(init, update)
