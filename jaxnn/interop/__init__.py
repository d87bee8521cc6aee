"""Other libraries: weight files, their weights in our layouts, and modules of flax and Equinox as layers."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.interop._checkpoints import Checkpoint, fetch
from jaxnn.interop._equinox import as_equinox, equinox_module
from jaxnn.interop._flax import as_flax, flax_module
from jaxnn.interop._loading import dump, load, plan
from jaxnn.interop._mapping import Weights
from jaxnn.interop._match import Plan
from jaxnn.interop._namings import naming
from jaxnn.interop._nnx import as_nnx, nnx_module
from jaxnn.interop._read import read
from jaxnn.interop._to_onnx import to_onnx
from jaxnn.interop._write import write

__all__ = [
    "Checkpoint",
    "Plan",
    "Weights",
    "as_equinox",
    "as_flax",
    "as_nnx",
    "dump",
    "equinox_module",
    "fetch",
    "flax_module",
    "load",
    "naming",
    "nnx_module",
    "plan",
    "read",
    "to_onnx",
    "write",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
