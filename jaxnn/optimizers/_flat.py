"""All leaves of one dtype as one vector: an update of many small arrays at the price of one."""

from typing import Any

import optax

from jaxnn._calls import recorded
from jaxnn._elementwise import Elementwise, check_elementwise
from jaxnn._flat import Flat
from jaxnn.optimizers._checks import check_same


@recorded
def flat(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The same numbers, from one vector per dtype in place of the leaves, [...] -> [...].

    Where each array's update is dear in itself, as a kernel to launch. On a CPU it is not: to join and to split 1000
    arrays at every update takes longer than to update them. `nn.trainer(flat=True)` saves the joining: there params,
    gradients and state are vectors throughout.

    Args:
      optimizer: one that treats every element alike: those of `nn` without a mask, and `compensated` of them. What
        looks at an array as a whole (clipping by norm, `quantized`, optax's own, which do not say) is refused.

    Its state is that of the optimizer for a tree of vectors, so `optax.tree.map_params` finds no params in it.

    Raises TypeError for an optimizer that is not elementwise, and as the optimizer does for gradients that do not fit.

    optax.flatten takes any transformation, at its caller's risk, and casts all leaves to one dtype.

    >>> import jaxnn as nn
    >>> opt, params = flat(nn.adam(0.5)), {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    >>> updates, state = opt.update(params, opt.init(params), params)
    >>> updates["w"].shape, [x.shape for x in jax.tree.leaves(state)]
    ((2, 3), [(), (9,), (9,)])
    """
    check_elementwise("flat", optimizer)

    def init(params: Any) -> Any:
        return optimizer.init(Flat.of(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if params is None:
            changes, state = optimizer.update(Flat.of(updates), state, **extra)
        else:
            check_same("flat", updates, params, "params")
            changes, state = optimizer.update(Flat.of(updates, params), state, Flat.of(params), **extra)
        return changes.tree(), state

    return Elementwise(init, update)
