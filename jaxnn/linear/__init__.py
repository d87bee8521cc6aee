"""Linear models, fitted to their optimum: linear regression in closed form or as a stream, and logistic regression.

Data and results are arrays, and every function works under `jit`, `vmap` and sharding. Rules for all of them:

* `x` is floating, [n, d], one example in each row. The arithmetic is in its dtype, but at least in float32.
* Objectives are sums over the examples, each times its entry of `weights`. A penalty of given strength thus counts less
  the more examples there are. The intercept is not penalised.
* An entry 0 of `weights` leaves an example out.

`stream` fits any number of examples in constant memory: `update` for each chunk, `merge` for parts, `gather` for
devices, then `solve`.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.linear._logistic import Logistic, classify, logistic_regression, probabilities
from jaxnn.linear._regression import Linear, linear_regression, predict
from jaxnn.linear._stream import Gram, Root, gather, merge, solve, stream, update

__all__ = [
    "Gram",
    "Linear",
    "Logistic",
    "Root",
    "classify",
    "gather",
    "linear_regression",
    "logistic_regression",
    "merge",
    "predict",
    "probabilities",
    "solve",
    "stream",
    "update",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
