"""Tables of properties, the message of one that does not hold, and differences of trees in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import describe, wrong_type
from jaxnn._paths import first_difference
from jaxnn.compiler import compiler_options
from jaxnn.types import Arrays

# Tolerances at slack=1, relative to an element plus the largest of its array.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}


class Property(NamedTuple):
    """A property of a layer, an optimizer or a loss.

    Attributes:
      expected: the expectation in words, after "expected".
      fault: function of the case: the finding in words, "" if the property holds, None if it does not apply. An
        exception is a finding, too.
      fix: sentence with the usual correction.
    """

    expected: str
    fault: Callable[[Any], str | None]
    fix: str


def verify(where: str, name: str, table: Mapping[str, Property], case: Any, without: Sequence[str]) -> tuple[str, ...]:
    """Names of the properties that hold; raises AssertionError at the first that does not.

    Args:
      where: name of the public function.
      name: name of the piece that is tested.
      table: properties by name, in the order of their tests.
      case: argument of each `fault`.
      without: names of properties that are left out.
    """
    if isinstance(without, str):
        raise wrong_type(where, "without to be a tuple of names of properties", without, f"Pass ({without!r},).")
    for rule in without:
        check.choice(where, "each name in without", rule, tuple(table))
    held = []
    for rule, of in table.items():
        if rule not in without:
            got, cause = found(of.fault, case)
            if got:
                text = f"{where}: {name} fails {rule!r}.\n  expected: {of.expected}\n  got: {got}\n  fix: {of.fix}"
                raise AssertionError(text) from cause
            held += [rule] if got is not None else []
    return tuple(held)


def found(fault: Callable[[Any], str | None], case: Any) -> tuple[str | None, Exception | None]:
    """The finding of a fault, and the exception if it is one: its class and the first line of its text."""
    try:
        return fault(case), None
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'without a message'}", error


def differs(got: Arrays, want: Arrays, slack: float = 0.0) -> str:
    """The first difference of two trees in words, "" if there is none.

    Args:
      got, want: trees of arrays.
      slack: factor on the tolerances. 0 requires equal elements.

    >>> differs({"y": np.ones(2)}, {"y": np.zeros(2)})
    'y differs by up to 1'
    >>> differs({"y": np.ones(2)}, {"y": np.ones(3)})
    'y is float64[2], not float64[3]'
    """
    if text := shapes_differ(got, want):
        return text
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        gap = _gap(_numbers(a), _numbers(b), slack * TOLERANCES.get(str(a.dtype), 0.0))
        if gap:
            return f"{jax.tree_util.keystr(path, simple=True, separator='/')} differs by up to {gap:.2g}"
    return ""


def shapes_differ(got: Arrays, want: Arrays) -> str:
    """The first difference of two trees in paths, shapes, dtypes and kinds of nodes in words, "" if there is none.

    >>> shapes_differ({"n": np.ones(2)}, {})
    'n is float64[2], not nothing'
    """
    first = first_difference(got, want)
    if first:
        path, a, b = first
        return f"{path} is {a}, not {b}"
    nodes, wanted = (str(jax.tree.structure(tree)) for tree in (got, want))
    return "" if nodes == wanted else f"the structure {nodes}, not {wanted}"


def _gap(a: Any, b: Any, tolerance: float) -> float:
    """The largest difference, if one is beyond the tolerance; inf where only one is finite; otherwise 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    size = np.where(np.isfinite(b), np.abs(b), 0.0)
    return float(gaps.max()) if (gaps > tolerance * (size + size.max(initial=0.0))).any() else 0.0


def _numbers(a: Any) -> Any:
    """An array as NumPy's of 64 bits; keys as their data."""
    a = np.asarray(jax.random.key_data(a) if is_key(a) else a)
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def not_finite(tree: Arrays) -> str:
    """The first floating leaf with NaN or an infinity in words, "" if there is none."""
    for path, a in jax.tree_util.tree_leaves_with_path(tree):
        if is_floating(a) and not np.isfinite(_numbers(a)).all():
            kind = "NaN" if np.isnan(_numbers(a)).any() else "an infinity"
            return f"{kind} in {jax.tree_util.keystr(path, simple=True, separator='/')}"
    return ""


def weak(tree: Arrays) -> str:
    """The first weakly typed leaf in words, "" if there is none."""
    for path, a in jax.tree_util.tree_leaves_with_path(tree):
        if getattr(a, "weak_type", False):
            return f"{jax.tree_util.keystr(path, simple=True, separator='/')} is weakly typed {describe(a)}"
    return ""


def no_array(tree: Arrays) -> str:
    """The first leaf that is not an array in words, "" if there is none."""
    for path, a in jax.tree_util.tree_leaves_with_path(tree):
        if not isinstance(a, jax.Array | np.ndarray):
            at = jax.tree_util.keystr(path, simple=True, separator="/")
            return f"{at or 'the result'} is {describe(a)} of type {type(a).__name__}"
    return ""


def is_floating(a: Any) -> bool:
    """True for an array of real floating numbers."""
    return jnp.issubdtype(a.dtype, jnp.floating)


def is_key(a: Any) -> bool:
    """True for a typed key."""
    return jnp.issubdtype(a.dtype, jax.dtypes.prng_key)


def cast(tree: Arrays, dtype: Any) -> Any:
    """The tree with its floating leaves in another dtype."""
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if is_floating(a) else a, tree)


def copied(tree: Arrays) -> Any:
    """The tree with its arrays as copies of NumPy."""
    return jax.tree.map(lambda a: a if is_key(a) else np.array(a), tree)


def shapes(tree: Arrays) -> Any:
    """The tree with shapes and dtypes in place of its arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def stacked(trees: Sequence[Arrays]) -> Any:
    """Equal trees as one, with a leading axis."""
    return jax.tree.map(lambda *a: jnp.stack(a), *trees)


def part(tree: Arrays, i: int) -> Any:
    """Element i of the leading axis of all leaves."""
    return jax.tree.map(lambda a: a[i], tree)


def quick(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The jitted function, compiled with few optimizations."""
    return jax.jit(f, compiler_options=compiler_options(quick=True), **options)
