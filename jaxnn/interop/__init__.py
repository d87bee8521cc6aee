"""Models of other libraries as layers: modules of flax.linen and Equinox."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.interop._equinox import equinox_module
from jaxnn.interop._flax import flax_module

__all__ = ["equinox_module", "flax_module"]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
