"""Export of a trained network as a StableHLO program that runs without this library and without its Python code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn._platform import forms
from jaxnn._sketch import structs
from jaxnn.types import Arrays, Params, State

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Layer,
    params: Params,
    state: State,
    x: Arrays,
    *,
    sizes: Any = "n, ...",
    constraints: Sequence[str] = (),
    platforms: Sequence[str] | None = None,
    baked: bool = True,
) -> jax.export.Exported:
    """Model in inference mode, x [n, ...] -> y [n, ...], as StableHLO for batches of any size.

    `data = exported.serialize()` gives its bytes. Running them requires only jax:

        y = jax.export.deserialize(data).call(x)

    Args:
      model: any layer.
      params: params of the model; shapes suffice with baked=False.
      state: state of the model; shapes suffice with baked=False.
      x: example input: an array or its shape, or a pytree of them. Named tuples become tuples, because a program has no
        classes: a `Padded` is passed as (x, lengths), and a `Padded` that the model returns is a tuple.
      sizes: free axes of x, in the syntax of `jax.export.symbolic_shape`: a name is a free size, equal wherever the
        name recurs; a number is fixed; "_" takes the size from x; "..." stands for "_" on all other axes. "n, t, ..."
        is for sequences of any length, None for exactly the shape of x. For a tree of inputs pass a tree of strings.
      constraints: bounds on free sizes, such as ("t >= 2", "t <= 512"), for models whose program depends on them.
      platforms: platforms to compile for: cpu, cuda, rocm, tpu. None takes the platform of this process.
      baked: True stores params and state in the program, `call(x) -> y`. False takes them as arguments, `call(params,
        state, x) -> (y, state)`: they are saved by `nn.save` and can be replaced without another export. Use it also
        for models whose state changes in inference, such as a key/value cache, and for gradients with respect to
        params.

    Returns:
      `jax.export.Exported`. Serialisation needs the package flatbuffers; later versions of jax can read the bytes for
      six months, as jax.export promises. For gradients, serialise with vjp_order=1.

    Raises:
      TypeError: if `model` is not a layer, `baked` is not a bool, or x contains leaves that are not arrays.
      ValueError: if a platform is unknown, x lacks the axes of `sizes`, or params are shapes with baked=True. An
        operation that does not support a free size raises jax's error, with the path of the layer.

    Differences: like `torch.export` with dynamic shapes. `interop.to_onnx` writes ONNX, which needs no jax to run.

    >>> import jaxnn as nn
    >>> model = nn.serial(nn.dense(16), nn.relu, nn.dense(3))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> exported = export(model, params, state, jnp.ones((1, 4)))
    >>> exported.in_avals, exported.call(jnp.ones((7, 4))).shape
    ((ShapedArray(float32[n,4]),), (7, 3))
    """
    check.model("export", "model", model)
    check.flags("export", baked=baked)
    for platform in platforms or ():
        check.choice("export", "each of platforms", platform, PLATFORMS)
    like = structs("export", x)
    structure: Any = jax.tree.structure(like)

    def run(params: Params, state: State, x: Arrays) -> tuple[Any, Any]:
        y, state = model.apply(params, state, structure.unflatten(jax.tree.leaves(x)), train=False)
        return _plain(y), state

    def served(x: Arrays) -> Arrays:
        params, state = jax.tree.map(jnp.asarray, held)
        return run(params, state, x)[0]

    try:
        given = jax.export.symbolic_args_specs(_plain(like), sizes, constraints)
    except ValueError as error:
        fix = "sizes=None takes the shape of x alone."
        raise invalid("export", f"x to have the axes of sizes={sizes!r}", like, fix) from error
    to = None if platforms is None else tuple(platforms)
    traced = nullcontext() if {*(to or ("cpu",))} == {"cpu"} else forms("portable")
    if not baked:
        held = structs("export", (params, state), "params and state")
        with traced:
            return jax.export.export(jax.jit(run), platforms=to)(*held, given)
    for v in jax.tree.leaves((params, state)):
        if isinstance(v, jax.ShapeDtypeStruct):
            raise invalid("export", "arrays as params and state", v, "baked=False leaves them outside the program.")
    held = jax.device_get((params, state))  # constants of a program must not be tied to a device
    with traced:
        return jax.export.export(jax.jit(served), platforms=to)(given)


def _plain(tree: Arrays) -> Any:
    """Tree with tuples in place of named tuples."""
    if isinstance(tree, tuple):
        return tuple(map(_plain, tree))
    if isinstance(tree, list):
        return list(map(_plain, tree))
    return {key: _plain(node) for key, node in tree.items()} if isinstance(tree, dict) else tree
