"""Checks of arguments, each with one meaning and one text. Only static facts are looked at, never an array's values.

The class of an error follows from the fault, wherever it is made:

    TypeError     the wrong kind of thing: a str, None or list for a number, a bool or float for an integer, 1 for a
                  flag, a traced value where the value itself is needed, an array of another dtype, another structure
    ValueError    the right kind, but not this one: a number out of range, NaN or infinite, an array of another shape,
                  an unknown name, a missing key

Functions take `(where, argument, value)`: the name that the caller knows the function by, the name of the argument, and
what was passed.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn._dtypes import is_kind
from jaxnn._errors import InvalidType, describe, invalid, is_function, is_layer, wrong_type
from jaxnn._inputs import (
    BATCHES_FIX,
    has_examples,
    is_array,
    is_batches,
    is_typed_key,
    known,
    to_arrays,
    to_numbers,
    under_trace,
    whole,
)
from jaxnn.types import Arrays

# ---- Python values


def scalar(
    where: str,
    argument: str,
    value: Any,
    low: float = 0.0,
    below: float = math.inf,
    ends: str = "[)",
    *,
    static: bool = False,
    nan: bool = False,
    fix: str = "",
) -> None:
    """Raises unless `value` is a real number in an interval. The value of a JAX array, which may be traced, is free.

    Args:
      low, below, ends: the interval; "[" and "]" include an end, "(" and ")" do not.
      static: refuse JAX arrays, where the number itself is needed.
      nan: allow NaN.
    """
    if static and isinstance(value, jax.Array):
        raise _fixed(where, f"{argument} to be a real number", value, "float")
    is_number = isinstance(value, int | float | jax.Array | np.ndarray | np.generic) and is_kind(
        value, "floating or integer"
    )
    if not is_number or isinstance(value, bool):
        raise wrong_type(where, f"{argument} to be a real number", value, fix or "Pass a float.")
    if np.ndim(value):
        raise invalid(where, f"{argument} to be a scalar", value, "Sweep over values with jax.vmap.")
    if known(value) and not (nan and math.isnan(value)):
        v = float(value)
        if not ((low < v or (v == low and ends[0] == "[")) and (v < below or (v == below and ends[1] == "]"))):
            interval = (
                "to be finite"
                if (low, below, ends) == (-math.inf, math.inf, "()")
                else f"in {ends[0]}{low:g}, {below:g}{ends[1]}"
            )
            raise invalid(where, f"{argument} {interval}", told=f"{_item(value)!r}", fix=fix)


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def count(where: str, argument: str, value: Any, least: int | None = 1, most: int | None = None, fix: str = "") -> int:
    """The value as an int; raises unless it is an integer >= `least` and <= `most`, where these are given."""
    n = whole(value)
    if n is not None and (least is None or n >= least) and (most is None or n <= most):
        return n
    bounds = [f" {sign} {n}" for sign, n in ((">=", least), ("<=", most)) if n is not None]
    expected = f"{argument} to be an integer{' and'.join(bounds)}"
    if n is not None:
        raise invalid(where, expected, told=str(n), fix=fix)
    if isinstance(value, jax.core.Tracer):
        raise _fixed(where, expected, value, "int")
    raise wrong_type(where, expected, value, fix)


def flags(where: str, fix: str = "", /, **values: Any) -> None:
    """Raises unless all values are True or False."""
    for argument, value in values.items():
        if not isinstance(value, bool):
            if isinstance(value, jax.core.Tracer):
                raise _fixed(where, f"{argument} to be True or False", value, "bool")
            raise wrong_type(where, f"{argument} to be True or False", value, fix)


def choice(where: str, argument: str, value: Any, choices: Sequence[str | None], fix: str = "") -> None:
    """Raises unless `value` is one of the names."""
    expected = f"{argument} to be one of {', '.join(map(repr, choices))}"
    if not isinstance(value, str) and not (value is None and None in choices):
        raise wrong_type(where, expected, value, fix)
    if value not in choices:
        raise invalid(where, expected, value, fix)


def text(where: str, argument: str, value: Any, of: str = "a str") -> None:
    """Raises unless `value` is a str."""
    if not isinstance(value, str):
        raise wrong_type(where, f"{argument} to be {of}", value)


def function(where: str, argument: str, value: Any, signature: str = "", fix: str = "") -> None:
    """Raises unless `value` is a function, which a `Layer` is not."""
    if not is_function(value):
        raise wrong_type(where, f"{argument} to be a function {signature}".rstrip(), value, fix)


def model(where: str, argument: str, value: Any, fix: str = "") -> None:
    """Raises unless `value` is a `Layer`."""
    if not is_layer(value):
        raise wrong_type(where, f"{argument} to be a Layer", value, fix)


def axis(where: str, argument: str, value: Any, rank: int, of: str = "x") -> int:
    """The value as an int; raises unless it is an axis of an array with `rank` axes."""
    n = whole(value)
    if n is None:
        raise wrong_type(where, f"{argument} to be an integer", value)
    if not -rank <= n < rank:
        raise invalid(where, f"{argument} from {-rank} to {rank - 1}, an axis of {of}", told=str(n))
    return n


def axes(where: str, argument: str, value: Any, rank: int, of: str = "x", least: int = 1) -> tuple[int, ...]:
    """One axis or several as a tuple of axes from 0, each once and at least `least` of them."""
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    found = tuple(axis(where, argument, a, rank, of) % rank for a in given)
    if len(set(found)) < len(found) or len(found) < least:
        some = ", at least one" if least else ""
        raise invalid(where, f"{argument} to be different axes of {of}{some}", value)
    return found


def dtype(where: str, argument: str, value: Any, fix: str = "") -> np.dtype:
    """The value as a dtype; raises unless it is a real floating one."""
    try:
        found = None if value is None else jnp.dtype(value)  # jnp.dtype(None) is float64
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        told = describe(value) if found is None else found.name
        raise wrong_type(where, f"{argument} to be a floating dtype", told=told, fix=fix)
    return found


def _fixed(where: str, expected: str, value: Any, kind: str) -> InvalidType:
    """The error for a JAX array where a Python value is needed."""
    fix = f"It is fixed while tracing: pass a Python {kind}, under jit by static_argnames."
    traced = "a traced " if isinstance(value, jax.core.Tracer) else "the array "
    return wrong_type(where, expected, told=traced + describe(value), fix=fix)


# ---- arrays


def array(where: str, argument: str, x: Any, *, rank: int | None = None, least: int = 0, shape: str = "") -> Arrays:
    """`x` as a JAX array, or as it is if it is a shape; raises unless it is of a floating dtype and of a rank.

    Args:
      rank, least: the number of axes, or the least number of them.
      shape: the shape in words, for errors, such as "[n, *space, c]".
    """
    of_shape = f" of shape {shape}" if shape else ""
    if not is_array(x):
        raise wrong_type(where, f"{argument} to be an array{of_shape}", x, to_numbers(x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "Cast it: jnp.asarray(x, jnp.float32)."
        if shape:
            fix = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
        raise wrong_type(where, f"{argument}{of_shape}{' and' if shape else ' of'} a floating dtype", x, fix)
    if len(x.shape) < least or (rank is not None and len(x.shape) != rank):
        raise invalid(where, f"{argument}{of_shape}", x)
    return x if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x)


def array_like(where: str, argument: str, x: ArrayLike) -> Array:
    """`x` as an array of a floating dtype and any shape; a Python float is one, too."""
    return jnp.asarray(x) if isinstance(x, float) else array(where, argument, x)


def kind(where: str, argument: str, x: Any, kind: str, fix: str = "") -> None:
    """Raises unless `x` is an array or a number of one of the `KINDS` of dtypes."""
    if not is_kind(x, kind):
        raise wrong_type(where, f"{argument} of {'an' if kind[0] in 'aeiou' else 'a'} {kind} dtype", x, fix)


def shape(
    where: str, argument: str, x: Any, expected: tuple[int, ...], of: str = "", fix: str = "Nothing is broadcast."
) -> None:
    """Raises unless `x` is of the shape."""
    if jnp.shape(x) != expected:
        raise invalid(where, f"{argument} of shape {list(expected)}{of}", x, fix)


def same_shape(where: str, a_name: str, a: Any, b_name: str, b: Any) -> None:
    """Raises ValueError unless `a` and `b` have the same shape."""
    if jnp.shape(a) != jnp.shape(b):
        got = f"{describe(a)} and {describe(b)}"
        fix = "Nothing is broadcast: reshape one of them."
        raise invalid(where, f"{a_name} and {b_name} of equal shape", told=got, fix=fix)


def examples(where: str, argument: str, data: Any, least: int = 1) -> int:
    """The number of examples, on axis 0 of all arrays; raises unless it is the same in all of them."""
    leaves: list[Any] = [data] if isinstance(data, Iterator) else jax.tree.leaves(data)
    if not leaves or not all(map(has_examples, leaves)):
        raise wrong_type(where, f"{argument} to be arrays with examples on axis 0", data, to_arrays(data))
    lengths = {a.shape[0] for a in leaves}
    if len(lengths) > 1 or min(lengths) < least:
        some = ", and at least one" if least else ""
        fix = BATCHES_FIX if is_batches(data) else ""
        raise invalid(where, f"{argument} to have as many examples in every array{some}", data, fix)
    return lengths.pop()


def concrete(where: str, tree: Any, fix: str) -> None:
    """Raises if something traced is in `tree`."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.core.Tracer):
            raise wrong_type(where, "concrete arrays", told=f"a traced {describe(leaf)}", fix=fix)


def eager(where: str, tree: Any, fix: str) -> None:
    """Raises under a trace, whether or not something traced is in `tree`."""
    concrete(where, tree, fix)
    if under_trace():
        raise wrong_type(where, "a call outside of jit, vmap, grad and scan", told="one inside", fix=fix)


# ---- keys

IMPLEMENTATIONS = {2: "threefry2x32", 4: "rbg"}  # of raw key data, by their width


def typed_key(where: str, value: Any, order: str = "") -> jax.Array:
    """A typed key, or a batch of keys, from typed ones or from raw key data; raises for anything else."""
    key(where, value, order)
    return value if is_typed_key(value) else jax.random.wrap_key_data(value, impl=IMPLEMENTATIONS[value.shape[-1]])


def key(where: str, value: Any, order: str = "", *, one: bool = False) -> None:
    """Raises unless `value` is a key, typed or raw, or a batch of keys.

    Args:
      order: the call with its arguments in order, for errors: they may have been exchanged.
      one: refuse a batch.
    """
    shape = getattr(value, "shape", None) or ()
    if not is_typed_key(value):
        if getattr(value, "dtype", None) != jnp.uint32 or not shape or shape[-1] not in IMPLEMENTATIONS:
            seed = whole(value)
            fix = f"The order is {order}." if order else ""
            fix = fix if seed is None else f"Pass jax.random.key({seed})."
            raise wrong_type(where, "a key, as jax.random.key(0) makes it", value, fix)
        shape = shape[:-1]
    if one and shape:
        raise invalid(where, "one key", value, "For a batch of keys use jax.vmap.")
