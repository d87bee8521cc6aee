"""Updates of all leaves as one vector per dtype, for models with many small arrays."""

from __future__ import annotations

from typing import Any

import optax

from jaxnn._calls import recorded
from jaxnn._elementwise import Elementwise, check_elementwise
from jaxnn._flat import Flat
from jaxnn.optimizers._checks import check_same
from jaxnn.types import Arrays, OptState


@recorded
def flat(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The same updates, computed on one vector per dtype instead of on each leaf, [...] -> [...].

    Faster where each operation has a fixed cost, such as a kernel launch on an accelerator. Slower on a CPU, where
    joining and splitting 1000 arrays at every update takes longer than updating them.

    Args:
      optimizer: an elementwise optimizer: those of `nn` without a mask, of optax, and chains of them with elementwise
        transformations such as `optax.clip`. A transformation of your own must not depend on paths.

    Returns: an optimizer whose state is that of `optimizer` for a tree of vectors: `optax.tree.map_params` finds no
      params in it.

    Raises: TypeError for an optimizer that is not elementwise: clipping by norm, `quantized`, masks, groups of params;
      and the errors of the optimizer for gradients that do not fit.

    Differences: optax.flatten does not check the transformation, and casts all leaves to one dtype.

    >>> import jaxnn as nn
    >>> opt, params = flat(nn.adam(0.5)), {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    >>> updates, state = opt.update(params, opt.init(params), params)
    >>> updates["w"].shape, [x.shape for x in jax.tree.leaves(state)]
    ((2, 3), [(), (9,), (9,)])
    """
    check_elementwise("flat", optimizer)

    def init(params: Arrays) -> Arrays:
        return optimizer.init(Flat.of(params))

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, Any]:
        if params is None:
            changes, state = optimizer.update(Flat.of(updates), state, **extra)
        else:
            check_same("flat", updates, params, "params")
            changes, state = optimizer.update(Flat.of(updates, params), state, Flat.of(params), **extra)
        return changes.tree(), state

    return Elementwise(init, update)
