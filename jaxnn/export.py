"""A trained network as a program of its own, to be served where neither the library nor its Python code is."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn.layer import Layer, structs

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Layer,
    params: Any,
    state: Any,
    x: Any,
    *,
    sizes: Any = "n, ...",
    constraints: Sequence[str] = (),
    platforms: Sequence[str] | None = None,
    baked: bool = True,
) -> jax.export.Exported:
    """The model in inference, x [n, ...] -> y [n, ...], as StableHLO for batches of any size: a `jax.export.Exported`.

    `exported.serialize()` gives its bytes; whoever has them needs jax alone:

        y = jax.export.deserialize(data).call(x)

    Args:
      model: any layer.
      params, state: of the model; where they are not baked, shapes do.
      x: an example of the input, an array or its shape, or a pytree of them. Named tuples become tuples: a program has
        no classes. So a `Padded` is called as (x, lengths), and what a model returns as one is a tuple as well.
      sizes: which axes of x are free, as `jax.export.symbolic_shape` has it: a name is a free size, equal to those of
        the same name, a number is fixed, "_" is as in x, and "..." so are all others. "n, t, ..." is for sequences of
        any length, None for the shape of x alone; a tree of strings for a tree of inputs.
      constraints: of the free sizes, such as ("t >= 2", "t <= 512"), for programs that are not the same for all.
      platforms: where it is to run, out of cpu, cuda, rocm and tpu; by default on the platform of this process.
      baked: True puts params and state into the program, `call(x) -> y`. False leaves them outside, to be saved by
        `nn.save` and exchanged without exporting again: `call(params, state, x) -> (y, state)`; also for a model whose
        state moves in inference, such as a key/value cache, and for gradients with respect to params.

    Returns a `jax.export.Exported`. Serialisation needs the package flatbuffers. Runs of later versions of jax read it
    as jax.export promises, for six months. For gradients serialise with vjp_order=1.

    Raises ValueError for an unknown platform, an x without the free axes, and for shapes as params that are to be
    baked; TypeError for what is no model or no array. What a model cannot do with a free size raises jax's error, with
    the layer's path.

    Differences: as `torch.export` with dynamic shapes; ONNX is another format, which jax does not write.

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

    def run(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        y, state = model.apply(params, state, structure.unflatten(jax.tree.leaves(x)), train=False)
        return _plain(y), state

    def served(x: Any) -> Any:
        params, state = jax.tree.map(jnp.asarray, held)
        return run(params, state, x)[0]

    try:
        given = jax.export.symbolic_args_specs(_plain(like), sizes, constraints)
    except ValueError as error:
        fix = "sizes=None takes the shape of x alone."
        raise invalid("export", f"x to have the axes of sizes={sizes!r}", like, fix) from error
    to = None if platforms is None else tuple(platforms)
    if not baked:
        held = structs("export", (params, state), "params and state")
        return jax.export.export(jax.jit(run), platforms=to)(*held, given)
    for v in jax.tree.leaves((params, state)):
        if isinstance(v, jax.ShapeDtypeStruct):
            raise invalid("export", "arrays as params and state", v, "baked=False leaves them outside the program.")
    held = jax.device_get((params, state))  # the program's constants lie on no device
    return jax.export.export(jax.jit(served), platforms=to)(given)


def _plain(tree: Any) -> Any:
    """The tree with tuples in place of named tuples."""
    if isinstance(tree, tuple):
        return tuple(map(_plain, tree))
    if isinstance(tree, list):
        return list(map(_plain, tree))
    return {key: _plain(node) for key, node in tree.items()} if isinstance(tree, dict) else tree
