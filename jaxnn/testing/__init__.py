"""Tests for layers, optimizers and losses of your own: the properties that those of the library have.

`check_layer`, `check_optimizer` and `check_loss` go through a table of properties, such as "jit gives the same output"
or "the gradient equals finite differences in float64". The first that does not hold raises an AssertionError with its
name, the expectation, the finding and the usual fix. `without=` leaves out properties by name.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.testing._layers import check_layer
from jaxnn.testing._losses import check_loss
from jaxnn.testing._optimizers import check_optimizer

__all__ = ["check_layer", "check_loss", "check_optimizer"]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
