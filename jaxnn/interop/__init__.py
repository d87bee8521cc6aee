"""Models of other libraries as layers, and their weights: flax.linen, Equinox, PyTorch, Keras, ONNX."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.interop._checkpoints import Checkpoint, fetch, naming
from jaxnn.interop._equinox import equinox_module
from jaxnn.interop._flax import flax_module
from jaxnn.interop._loading import dump, load, plan
from jaxnn.interop._match import Plan

__all__ = ["Checkpoint", "Plan", "dump", "equinox_module", "fetch", "flax_module", "load", "naming", "plan"]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
