"""Combinators: layers in sequence, in parallel, with a skip connection or repeated, and wrappers of one layer.

Wrappers of one child (`residual`, `repeat`, `remat`, `cast`, `time_distributed`) are transparent: the child keeps its
params, its path and its key. All combinators pass on sequences of different lengths (`nn.Padded`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxnn import _checks as check
from jaxnn._call import call, output_of
from jaxnn._calls import recorded
from jaxnn._dtypes import PASSED, floating_to, is_kind
from jaxnn._errors import InvalidType, InvalidValue, describe, invalid, is_function, wrong_type
from jaxnn._gather import repeats
from jaxnn._layer import Layer, as_layer, children, layer, wrap
from jaxnn._mesh import scan
from jaxnn._padded import Given, Padded, on_values, values_of
from jaxnn._pipeline import pipelined, use_of_stages
from jaxnn._sketch import init_child, paths
from jaxnn.types import Arrays, Key, Params, State


@recorded
def serial(*layers: Layer | Callable[..., Any], name: str | None = None) -> Layer:
    """Layers in sequence, y = f_n(... f_1(x)); bare functions such as `nn.relu` are lifted automatically.

    Params are keyed by the children's names: `dense`, `dense_1`, or the name given by `name=`. A `Padded` passes
    through all layers that support lengths.

    Args:
      layers: layers, or functions of one input.
      name: pins the name; default "serial".

    Raises:
      ValueError: if two children have equal names.
      TypeError: if a child is neither a layer nor a function, or does not support the lengths of a `Padded`.

    Differences: as Keras's and PyTorch's Sequential, but the input size is found automatically.

    >>> import jaxnn as nn
    >>> model = nn.serial(nn.dense(16), nn.relu, nn.dense(2, name="head"))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8)))
    >>> jax.tree.map(jnp.shape, params)
    {'dense': {'b': (16,), 'w': (8, 16)}, 'head': {'b': (2,), 'w': (16, 2)}}
    """
    named = children(layers, name or "serial")

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        params: Params = {}
        state: State = {}
        for child_name, child in named.items():
            p, s = init_child(child, child_name, key, x)
            params, state = params | p, state | s
            x = output_of(child, child_name, p, s, x)
        return params, state

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        for child_name, child in named.items():
            x, state = call(child, child_name, params, state, x, key=key, train=train)
        return x, state

    return layer(init, apply, "serial", name=name, padded="seen")


@recorded
def parallel(
    *branches: Layer | Callable[..., Any],
    join: Literal["add", "concatenate"] | Callable[..., Any],
    name: str | None = None,
) -> Layer:
    """Branches on the same input, with joined outputs: y = join(f_1(x), ..., f_n(x)).

    Args:
      branches: layers, or functions of one input; at least one.
      join: "add" (equal shapes, nothing is broadcast), "concatenate" (along the last axis), or a function `join(*ys)`
        of the branches' outputs; `lambda *ys: ys` returns them as a tuple.
      name: pins the name; default "parallel".

    Raises:
      ValueError: if there is no branch, `join` is unknown, or the shapes of the outputs do not fit.
      TypeError: if the outputs differ in dtype or are not single arrays, or only some of them are `Padded`.

    >>> import jaxnn as nn
    >>> model = parallel(nn.dense(3), nn.serial(nn.dense(4), nn.relu), join="concatenate")
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8)))
    >>> model.apply(params, state, jnp.ones((5, 8)))[0].shape
    (5, 7)
    """
    where = name or "parallel"
    named = children(branches, where)
    if not named:
        raise invalid(where, "at least one branch", told="none")
    if not is_function(join):
        check.choice(where, "join", join, ("add", "concatenate"), "Or pass a function: join=lambda *ys: ...")

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        params: Params = {}
        state: State = {}
        for child_name, child in named.items():
            p, s = init_child(child, child_name, key, x)
            params, state = params | p, state | s
        return params, state

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        ys = []
        for child_name, child in named.items():
            y, state = call(child, child_name, params, state, x, key=key, train=train)
            ys.append(y)
        if is_function(join):
            return join(*ys), state
        whole, ys = ys, [values_of(y) for y in ys]
        if any(isinstance(y, Padded) != isinstance(whole[0], Padded) for y in whole):
            fix = "Pool over time in all branches or in none, or join them with a function: join=lambda *ys: ..."
            raise wrong_type(where, "a Padded from all branches or from none", tuple(whole), fix)
        if not all(hasattr(y, "shape") for y in ys):
            fix = "Join them with a function: join=lambda *ys: ..."
            raise wrong_type(where, f"one array from every branch to {join}", tuple(ys), fix)
        if len({y.dtype for y in ys}) > 1:
            raise wrong_type(
                where, "outputs of equal dtypes", tuple(ys), "Wrap a branch in cast, which returns x's dtype."
            )
        fits = {y.shape if join == "add" else y.shape[:-1] for y in ys}
        if len(fits) > 1:
            expected = "outputs of equal shapes" if join == "add" else "outputs of equal shapes except the last axis"
            raise invalid(where, expected, tuple(ys))
        y = sum(ys[1:], start=ys[0]) if join == "add" else jnp.concatenate(ys, axis=-1)
        return (Padded(y, whole[0].lengths) if isinstance(whole[0], Padded) else y), state

    return layer(init, apply, "parallel", name=name, padded="seen")


@recorded
def residual(
    block: Layer | Callable[..., Any],
    *,
    skip: Layer | Callable[..., Any] | None = None,
    name: str | None = None,
) -> Layer:
    """A block with a skip connection: y = block(x) + x, or block(x) + skip(x).

    For a `Padded` input, block and skip connection must both return a `Padded`; the result has the block's lengths.

    Args:
      block: a layer, or a function of one input.
      skip: projection for a block that changes the shape, such as `conv(features, 1, stride=2)`. Its params are stored
        next to the block's under "skip". None adds x itself.
      name: pins the name; the default is the block's.

    Raises:
      ValueError: if the shapes to be added differ (nothing is broadcast), or the block has a child named "skip".
      TypeError: if the dtypes differ, the outputs are not single arrays, or only one of them is `Padded`.

    Reference: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385.

    >>> import jaxnn as nn
    >>> model = residual(nn.dense(4), skip=nn.dense(4, bias=False))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8)))
    >>> jax.tree.map(jnp.shape, params)
    {'b': (4,), 'skip': {'w': (8, 4)}, 'w': (8, 4)}
    """
    block = as_layer(block, "residual")
    skip = None if skip is None else as_layer(skip, "residual")

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        params, state = block.init(key, x)
        if skip is None:
            return params, state
        if "skip" in params or "skip" in state:
            fix = "Give that layer another name=."
            raise invalid(
                "residual", "no child of the block to be named 'skip' together with skip=", told="one", fix=fix
            )
        p, s = init_child(skip, "skip", key, x)
        return params | p, state | s

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        around = x
        if skip is not None:
            around, state = call(skip, "skip", params, state, x, key=key, train=train)
            params = {k: v for k, v in params.items() if k != "skip"}
        kept = {k: v for k, v in state.items() if k == "skip" and skip is not None}
        out, state = block.apply(params, {k: v for k, v in state.items() if k not in kept}, x, key=key, train=train)
        if isinstance(out, Padded) != isinstance(around, Padded):
            fix = "A block that ends the sequence has no skip connection over it."
            raise wrong_type(
                "residual", "block(x) and the skip connection to be both Padded or both not", (out, around), fix
            )
        y, around = map(values_of, (out, around))
        if not (hasattr(y, "dtype") and hasattr(around, "dtype") and y.dtype == around.dtype):
            both = f"block(x) is {describe(y)} but the skip connection is {describe(around)}"
            raise InvalidType("residual", f"{both}. Wrap what changes the dtype in cast, which returns x's dtype.")
        if y.shape != around.shape:
            both = f"block(x) is {describe(y)} but the skip connection is {describe(around)}"
            raise InvalidValue("residual", f"{both}. Make the block keep the shape, or project it with skip=.")
        return on_values(lambda _: y + around, out), state | kept

    return wrap(block, init, apply, name)


@recorded
def repeat(block: Layer | Callable[..., Any], n: int, *, unroll: bool = False, name: str | None = None) -> Layer:
    """A block n times in sequence, as one `lax.scan`; params of all copies are stacked, [n, ...], at the block's paths.

    Each copy has its own batch norm statistics and, through `fold_in(key, i)`, its own initial params and dropout
    masks. The scan compiles once for any n. Unrolled, few layers run faster and compile longer, with the same numbers.
    Every copy receives the lengths of a `Padded`.

    Args:
      block: a layer, or a function of one input, whose output has the shape and dtype of its input.
      n: number of copies, an integer >= 1.
      unroll: if True, the compiled program contains the copies in sequence in place of a loop.
      name: pins the name; the default is the block's.

    Raises:
      ValueError: if the block changes shape or dtype of its input, or the params are stacked for another n.

    >>> import jaxnn as nn
    >>> model = repeat(nn.serial(nn.dense(8), nn.tanh), 6)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8)))
    >>> jax.tree.map(jnp.shape, params)
    {'dense': {'b': (6, 8), 'w': (6, 8, 8)}}
    """
    block = as_layer(block, "repeat")
    n = check.count("repeat", "n", n)
    check.flags("repeat", unroll=unroll)

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        return jax.vmap(lambda i: block.init(jax.random.fold_in(key, i), x))(jnp.arange(n))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        def copy(
            x: Arrays, own: tuple[jax.Array, dict[str, Any], dict[str, Any]], *part: jax.Array
        ) -> tuple[Arrays, State]:
            i, params, state = own
            inner = None if key is None else reduce(jax.random.fold_in, (i, *part), key)
            y, state = block.apply(params, state, x, key=inner, train=train)
            if isinstance(x, Given) and isinstance(y, tuple):
                y = Given(*y)  # the carry of a scan must keep its class
            if describe(y) != describe(x):
                raise invalid("repeat", f"a block that gives back {describe(x)}", y, "Each copy feeds the next.")
            return y, state

        for path, leaf in jax.tree_util.tree_leaves_with_path((params, state)):
            if jnp.shape(leaf)[:1] != (n,):
                at = jax.tree_util.keystr(path[1:], simple=True, separator="/")
                raise invalid("repeat", f"{at} stacked for {n} copies, [{n}, ...]", leaf, "Initialise with the same n.")
        copies = jnp.arange(n), params, state
        if (use := use_of_stages(params)) is not None:
            if jax.tree.leaves(state):
                raise invalid("repeat", "a pipeline of blocks without state", told=f"{', '.join(paths(state))}")
            y = pipelined(lambda x, own, part: copy(x, own, part)[0], x, copies, use)
        else:
            y, state = scan(copy, x, copies, unroll=n if unroll else 1)
        return (Padded(*y) if isinstance(y, Given) else y), state

    return wrap(block, init, apply, name)


@recorded
def remat(child: Layer | Callable[..., Any], *, policy: Callable[..., Any] | None = None) -> Layer:
    """Rematerialisation: recomputes a layer's inner values in the backward pass: less memory, more time.

    The input of the layer is kept. Policies of `jax.checkpoint_policies` keep further values:

        None, nothing_saveable                     none
        dots_with_no_batch_dims_saveable           products with weights
        dots_saveable                              all products, such as those of queries and keys
        save_only_these_names("attention", "up")   values with these names, by `jax.ad_checkpoint.checkpoint_name`
        save_and_offload_only_these_names(...)     values with names, some of them in the memory of the host
        offload_dot_with_no_batch_dims(...)        products with weights, in the memory of the host
        everything_saveable                        all, as without `remat`

    Names of values are in the docstrings of `attention` and `encoder_block`. For a stack of layers wrap the block,
    `repeat(remat(block), n)`: around the `repeat` all n layers would be computed again at once. `nn.summary(model, x,
    train=True)` shows the bytes of the values that are kept.

    Args:
      child: a layer, or a function of one input.
      policy: one of `jax.checkpoint_policies`, selecting values that are stored nevertheless; None stores none.

    >>> import jaxnn as nn
    >>> remat(nn.dense(3)).name
    'dense'
    """
    child = as_layer(child, "remat")

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        with repeats(policy):
            return jax.checkpoint(partial(child.apply, train=train), policy=policy)(params, state, x, key=key)

    return wrap(child, child.init, apply)


@recorded
def inference(child: Layer | Callable[..., Any]) -> Layer:
    """A layer that always runs with `train=False`: no dropout, and batch norms use their running statistics unchanged.

    Use it for a part of a model that is frozen while the rest is trained. Its params still get gradients;
    `trainer(frozen=)` keeps them constant.

    Args:
      child: a layer, or a function of one input.

    Differences: as `eval()` on a PyTorch module, Keras's `trainable=False` on a batch norm, equinox's `inference=True`.

    >>> import jaxnn as nn
    >>> model = inference(nn.dropout(0.5))
    >>> model.apply({}, {}, jnp.ones(3), key=jax.random.key(0), train=True)[0].tolist()
    [1.0, 1.0, 1.0]
    """
    child = as_layer(child, "inference")

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        return child.apply(params, state, x, key=key, train=False)

    return wrap(child, child.init, apply)


@recorded
def time_distributed(child: Layer | Callable[..., Any]) -> Layer:
    """A layer on every step of a sequence, [n, t, ...] -> [n, t, ...]: the two leading axes run as one batch of n · t.

    A batch norm inside takes its statistics over examples and steps, as in Keras's TimeDistributed. For a `Padded` x
    the padding is excluded from the statistics, and the result has the same lengths.

    Args:
      child: a layer, or a function of one input.

    Raises:
      ValueError: if x has no time axis.
      TypeError: if x is not a single array, or the child does not return a `Padded` for a `Padded`.

    >>> import jaxnn as nn
    >>> model = time_distributed(nn.serial(nn.flatten(), nn.dense(5)))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((2, 7, 4, 4)))
    >>> model.apply(params, state, jnp.ones((2, 7, 4, 4)))[0].shape
    (2, 7, 5)
    """
    child = as_layer(child, "time_distributed")

    def check_steps(x: Arrays) -> None:
        values = values_of(x)
        if not hasattr(values, "shape"):
            raise wrong_type("time_distributed", "x to be one array of shape [n, t, ...]", x)
        if len(values.shape) < 2:
            raise invalid("time_distributed", "x of shape [n, t, ...]", values)

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        check_steps(x)
        return child.init(key, jax.eval_shape(_steps_as_examples, x))

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        check_steps(x)
        y, state = child.apply(params, state, _steps_as_examples(x), key=key, train=train)
        if isinstance(x, Padded) and not isinstance(y, Padded):
            fix = "A layer of your own inside it must declare its support: nn.layer(..., padded=)."
            raise wrong_type("time_distributed", "its layer to give a Padded for a Padded", y, fix)
        if isinstance(x, Padded):
            n, t = x.x.shape[:2]
            y = jax.tree.map(lambda y: jnp.moveaxis(y.reshape(t, n, *y.shape[1:]), 0, 1), y.x)
            return Padded(y, x.lengths), state
        return jax.tree.map(lambda y: y.reshape(*x.shape[:2], *y.shape[1:]), y), state

    return wrap(child, init, apply)


def _steps_as_examples(x: Arrays) -> Arrays:
    """[n, t, ...] -> [n · t, ...]; for a `Padded` [t · n, ...], with a mask of valid steps in place of lengths.

    With time first, the index of a step, and thus its dropout mask, does not depend on the number of later steps.
    """
    if not isinstance(x, Padded):
        return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    values = jnp.moveaxis(x.x, 1, 0)
    return Padded(values.reshape(-1, *values.shape[2:]), x.mask.T.reshape(-1))


@recorded
def cast(child: Layer | Callable[..., Any], dtype: DTypeLike, *, output: DTypeLike | None = None) -> Layer:
    """A layer computed in another dtype: its floating input, and those of all layers inside, are cast to `dtype`.

    Params and state keep their own dtype, and each layer casts its params where it uses them (float32 master weights
    under `cast(block, jnp.bfloat16)`). Outputs of layers inside are cast too, such as that of an embedding; integers
    are not. Statistics and softmax stay in at least float32. Because the output has the dtype of the input, `cast`
    works inside `residual`, `repeat` and another `cast`: `cast(head, jnp.float32)` keeps a sensitive layer in float32.
    Losses stay outside, in float32. `trainer(precision=)` casts the model of a run.

    Args:
      child: a layer, or a function of one input.
      dtype: a floating dtype.
      output: the dtype of floating y. None: that of x, or `dtype` if x has no floating array.

    Raises:
      TypeError: if a dtype is not floating.

    >>> import jaxnn as nn
    >>> model = cast(nn.dense(3), jnp.bfloat16)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> params["w"].dtype.name, model.apply(params, state, jnp.ones((1, 2)))[0].dtype.name
    ('float32', 'float32')
    """
    child = as_layer(child, "cast")
    given = check.dtype("cast", "dtype", dtype)
    back = None if output is None else check.dtype("cast", "output", output)

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        outer = [leaf.dtype for leaf in jax.tree.leaves(x) if is_kind(leaf, "floating")]
        with PASSED(given):
            y, state = child.apply(params, state, floating_to(given, x), key=key, train=train)
        return floating_to(back or (outer[0] if outer else given), y), state

    return wrap(child, child.init, apply)
