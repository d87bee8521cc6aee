"""The one lift: a rule on one array becomes an optax.GradientTransformationExtraArgs on trees."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxnn._dtypes import wide_dtype
from jaxnn._errors import invalid, is_function, wrong_type
from jaxnn._flat import Elementwise, Optimizer
from jaxnn._numbers import known, number
from jaxnn._paths import cut, matching, whole_of
from jaxnn.optimizers._rule import check_flag, rate, real

Slots = Mapping[str, Callable[[Any], Array]]  # the name of a slot -> its start, from the parameter
Step = Callable[[Array, dict[str, Array], Any, Any], tuple[Array, dict[str, Array]]]  # g, slots, p, t


# A plain dict: `count`, the updates so far (int32), and for each slot a tree shaped like params. A class of its own, a
# named tuple or any other, costs 1.6 µs more in every jitted call that carries it.
State = dict[str, Any]


def per_leaf(
    slots: Slots,
    step: Step,
    learning_rate: optax.ScalarOrSchedule,
    *,
    name: str,
    share: Callable[[Array, np.dtype], Any] | None = None,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
    scaled: bool = False,
    elementwise: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Lift a rule on one array to trees: update = -learning_rate · direction, in the dtype of the parameter.

    For every leaf the rule is called as `step(g, slots, p, t) -> (direction, slots)` with t = 1, 2, ... It sees the
    gradient, its slots and the parameter in at least float32 (float64 and complex stay) and need not care for
    storage: the update is cast to the parameter's dtype, and each slot to the dtype of its start.

    Args:
      slots: name -> function of a parameter that makes the slot's start. Names are static, so that `init` works on
        trees without leaves, as `optax.tree.map_params` asks.
      step: the rule. p is None when `update` was called without params.
      learning_rate: number, traced scalar, or schedule called with the count of updates before this one (0, 1, ...).
      name: the optimizer's name, for errors.
      share: (t, float32 or float64) -> what all leaves of that precision share at step t, such as bias corrections;
        computed once for them and given to the rule in place of t.
      weight_decay: as learning_rate. None and a Python 0 leave it out; anything else makes `update` ask for params.
      mask: which leaves decay: a glob pattern of their paths or several ("*/w"), a tree of bools shaped like params or
        a prefix of it, or a function of params that returns one; None decays all.
      decoupled: add weight_decay · p to the direction (AdamW) instead of to the gradient (L2).
      scaled: the direction of the rule holds the rate already; then learning_rate scales the decoupled decay alone.
      elementwise: the rule does to an element what it would do to it in any other array. Without a mask the result is
        an `Elementwise` then.

    Raises TypeError for a leaf of params or gradients that is not floating or complex and for gradients whose tree
    differs from that of params or state, ValueError for a gradient of another shape; all name the path.

    >>> sgd = per_leaf({}, lambda g, s, p, t: (g, s), 0.5, name="sgd")
    >>> sgd.update({"w": jnp.ones(2)}, sgd.init({"w": jnp.zeros(2)}))[0]
    {'w': Array([-0.5, -0.5], dtype=float32)}
    """
    check_flag(name, "decoupled", decoupled)
    rate_at = rate(name, "learning_rate", learning_rate)
    decay_at = rate(name, "weight_decay", 0.0 if weight_decay is None else weight_decay)
    decays = weight_decay is not None and not (known(weight_decay) and weight_decay == 0)

    def init(params: Any) -> State:
        params = _arrays(name, "parameter", params)
        return {"count": jnp.zeros([], jnp.int32)} | {k: jax.tree.map(start, params) for k, start in slots.items()}

    def leaf(g: Array, s: dict[str, Array], p: Any, at: Callable[[np.dtype], Any], lr: Any, decay: Any) -> Any:
        like, stored = g if p is None else p, {k: x.dtype for k, x in s.items()}
        dtype = np.result_type(*map(wide_dtype, (like.dtype, *stored.values())))
        s = {k: jnp.asarray(x, dtype if jnp.iscomplexobj(x) else real(dtype)) for k, x in s.items()}
        g, p = g.astype(dtype), None if p is None else p.astype(dtype)
        if decay is not None and not decoupled:
            g = g + number(decay, p) * p
        direction, s = step(g, s, p, at(real(dtype)))
        shrink = number(decay, p) * p if decay is not None and decoupled else None
        if scaled:
            update = -direction if shrink is None else -(direction + number(lr, shrink) * shrink)
        else:
            update = -number(lr, direction) * (direction if shrink is None else direction + shrink)
        return update.astype(like.dtype), {k: x.astype(stored[k]) for k, x in s.items()}

    def update(updates: Any, state: State, params: Any = None, **extra: Any) -> tuple[Any, State]:
        del extra
        if decays and params is None:
            raise invalid(
                name, "params", told="None", fix="Call update(grads, state, params): weight decay needs them."
            )
        updates = _arrays(name, "gradient", updates)
        params = None if params is None else _arrays(name, "parameter", params)
        if not isinstance(state, dict) or state.keys() != {"count", *slots}:
            got = ", ".join(state) if isinstance(state, dict) else f"a {type(state).__name__}"
            fix = "Call update(grads, state, params) with what init or the update before returned."
            raise wrong_type(name, f"a state of {', '.join(['count', *slots])}", told=got, fix=fix)
        stored = {k: state[k] for k in slots}
        for what, tree in {"params": params, **stored}.items():
            if tree is not None:
                check_same(name, updates, tree, what)

        t = optax.safe_increment(state["count"])
        lr, decay = rate_at(t), decay_at(t)
        at = cache(lambda dtype: t if share is None else share(t, dtype))
        gs, treedef = jax.tree.flatten(updates)
        ps = [None] * len(gs) if params is None else jax.tree.leaves(params)
        decayed = _masks(name, mask, params) if decays else [False] * len(gs)
        columns = {k: jax.tree.leaves(tree) for k, tree in stored.items()}
        done = [
            leaf(g, {k: column[i] for k, column in columns.items()}, ps[i], at, lr, decay if decayed[i] else None)
            for i, g in enumerate(gs)
        ]
        new = {k: jax.tree.unflatten(treedef, [s[k] for _, s in done]) for k in columns}
        return jax.tree.unflatten(treedef, [u for u, _ in done]), {"count": t} | new

    kind = Elementwise if elementwise and mask is None else Optimizer
    return kind(init, update)


def _at(name: str, path: Any) -> str:
    return f"{name} at {jax.tree_util.keystr(path, simple=True, separator='/')}" if path else name


def _arrays(name: str, what: str, tree: Any) -> Any:
    """`tree` with arrays for leaves, or the error that names the leaf that is neither floating nor complex."""

    def array(path: Any, x: Any) -> Any:
        if not jnp.issubdtype(x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype, jnp.inexact):
            fix = "Keep such leaves out of params, or leave them out with optax.masked."
            raise wrong_type(_at(name, path), f"a floating or complex {what}", x, fix)
        return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)

    return jax.tree_util.tree_map_with_path(array, tree)


def check_same(name: str, grads: Any, tree: Any, what: str) -> None:
    """Raise, naming the path, unless every leaf of `tree` has a gradient of its shape, and the other way round."""
    fix = "Pass gradients with respect to the tree that init was given."
    given: Any = jax.tree.structure(grads)
    wanted: Any = jax.tree.structure(tree)
    if given != wanted:
        have, want = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (grads, tree))
        for path in (path for path in want if path not in have):
            raise wrong_type(_at(name, path), f"a gradient, {what} having a leaf here", told="none", fix=fix)
        for path in (path for path in have if path not in want):
            raise wrong_type(_at(name, path), f"no gradient, {what} having no leaf here", have[path], fix)
        raise wrong_type(name, f"gradients in the containers of {what}, {wanted}", told=str(given), fix=fix)
    for (path, g), x in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(tree), strict=True):
        if g.shape != x.shape:
            raise invalid(_at(name, path), f"a gradient of shape {list(x.shape)} as in {what}", g, fix)
        if jnp.iscomplexobj(g) and what == "params" and not jnp.iscomplexobj(x):
            raise wrong_type(_at(name, path), "a real gradient for a real parameter", g, "Take its real part.")


def _broadcast(mask: Any, params: Any, whole: Any) -> list[Any]:
    """The leaves of a prefix of `params`, or of a prefix of `whole`, for those of `params`."""
    try:
        return jax.tree.leaves(jax.tree.broadcast(mask, params))
    except ValueError:
        if whole is params:
            raise
    return jax.tree.leaves(jax.tree.broadcast(cut(jax.tree.broadcast(mask, whole), params), params))


def _masks(name: str, mask: Any, params: Any) -> list[bool]:
    """The mask of every leaf of `params`, from patterns of paths, a prefix of bools or a function that makes one.

    Where params are a part of others, patterns and prefixes may be those of all.
    """
    whole = whole_of(params)
    if isinstance(mask, str) or (isinstance(mask, list | tuple) and mask and all(isinstance(m, str) for m in mask)):
        mask = cut(matching(name, whole, mask, argument="the mask of weight decay"), params)
    mask = True if mask is None else mask(params) if is_function(mask) else mask
    try:
        leaves = _broadcast(mask, params, whole)
    except ValueError as error:
        fix = "Give it the structure of params, or of their upper levels."
        raise wrong_type(name, "a weight decay mask that is a prefix of params", mask, fix) from error
    for x in leaves:
        if not isinstance(x, bool | np.bool_):
            raise wrong_type(name, "a weight decay mask of bools", x, "True decays a leaf, False leaves it alone.")
    return leaves
