"""What XLA must be told to compile a network well."""

import jax
import jaxlib

from jaxnn import _checks as check

# The first version of jaxlib that hands convolutions away, and the last minor one in which the options are known.
KNOWN = (0, 10, 1), (0, 12)


def compiler_options(*, quick: bool = False) -> dict[str, str | int]:
    """The options under which convolutions use all cores of a CPU, for `jax.jit(f, compiler_options=...)`.

    XLA's CPU compiler hands two-dimensional float32 convolutions of more than 16 channels to a library that takes one
    core, and many times as long for the gradient of the weights. With these options they stay with XLA, while matrix
    products and reductions go on as they were. `drive` and `predict` compile so by themselves; what you jit needs
    them to be as fast, and to give the bits of `drive`. Only the outermost `jit` counts.

    Args:
      quick: LLVM optimizes at level 1 of 3: a whole run compiles in half to two thirds of the time and goes as fast,
        with other roundings. `sweep` compiles so.

    Empty where there is nothing to say: on TPU and GPU, and for a jaxlib in which it was not measured.

    >>> step = jax.jit(lambda x: x + 1, compiler_options=compiler_options())
    >>> step(1.0).item()
    2.0
    """
    check.flags("compiler_options", quick=quick)
    version = tuple(int(part) for part in jaxlib.__version__.split(".")[:3])
    if jax.default_backend() != "cpu" or version < KNOWN[0] or version[:2] > KNOWN[1]:
        return {}
    options: dict[str, str | int] = {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
    }
    return options | {"xla_backend_optimization_level": 1} if quick else options
