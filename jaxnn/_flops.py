"""FLOPs of a traced program."""

from math import prod
from typing import Any

CONTRACTIONS = frozenset(["dot_general", "conv_general_dilated", "jaxnn_conv"])


def contractions(program: Any, times: int = 1) -> tuple[int, int]:
    """FLOPs and number of a program's matrix products and convolutions; those in a scan count once per iteration.

    The body of a `while` counts once, because its number of iterations is unknown.
    """
    flops = number = 0
    for eqn in program.eqns:
        if eqn.primitive.name in CONTRACTIONS:
            flops, number = flops + times * flops_of(eqn), number + times
        repeats = times * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
        for inner in (p for v in eqn.params.values() for p in programs_in(v)):
            more = contractions(inner, repeats)
            flops, number = flops + more[0], number + more[1]
    return flops, number


def programs_in(value: Any) -> list[Any]:
    """Open jaxprs inside an operation's parameters; a closed jaxpr holds one as `jaxpr`."""
    if hasattr(value, "eqns"):
        return [getattr(value, "jaxpr", value)]
    return [p for v in value for p in programs_in(v)] if isinstance(value, tuple | list) else []


# Operations that move, select, convert or create values without arithmetic.
_FREE = frozenset(
    [
        "broadcast_in_dim",
        "reshape",
        "transpose",
        "squeeze",
        "expand_dims",
        "slice",
        "dynamic_slice",
        "dynamic_update_slice",
        "pad",
        "concatenate",
        "gather",
        "convert_element_type",
        "bitcast_convert_type",
        "copy",
        "copy_p",
        "name",
        "iota",
        "rev",
        "select_n",
        "platform_index",
        "stop_gradient",
        "device_put",
        "split",
        "pvary",
        "random_wrap",
        "random_unwrap",
        "random_bits",
        "random_seed",
        "random_fold_in",
        "threefry2x32",
        "shift_left",
        "shift_right_logical",
    ]
)


def flops_of(eqn: Any) -> int:
    """FLOPs of one operation: 2 for each multiply-add, 1 for each element of any other arithmetic."""
    name = eqn.primitive.name
    if name in _FREE:
        return 0
    shapes = [v.aval.shape for v in eqn.invars if hasattr(v.aval, "shape")]
    made = sum(prod(v.aval.shape) for v in eqn.outvars if hasattr(v.aval, "shape"))
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * made * prod(shapes[0][i] for i in contracted)
    if name in ("conv_general_dilated", "jaxnn_conv"):
        out, into = eqn.params["dimension_numbers"].rhs_spec[:2]
        if prod(eqn.params["lhs_dilation"]) > 1:  # counted per input element: inserted zeros need no work
            return 2 * prod(shapes[0]) * prod(shapes[1]) // (shapes[1][into] * eqn.params["feature_group_count"])
        return 2 * made * prod(shapes[1]) // shapes[1][out]
    if name.startswith("reduce_window"):
        return made * prod(eqn.params["window_dimensions"])
    if name.startswith(("reduce_", "arg", "cum", "sort")):
        return prod(shapes[0])
    return made
