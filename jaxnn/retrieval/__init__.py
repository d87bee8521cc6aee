"""Nearest neighbours: exact search among vectors by cosine, Euclidean distance or inner product.

`index(vectors, metric=)` prepares vectors [n, d], `nearest(index, queries, k)` finds the k nearest to each query. Every
vector is compared, in blocks, on one device or on a mesh. Rules for all metrics:

* Vectors and queries are floating. The arithmetic is in the dtype of the vectors, but at least in float32.
* Equal vectors, and others of equal value, are in the order of their indices.
* A vector with NaN is further than all others; a query with NaN has NaN as its values.

An index is a named tuple of arrays: it passes through `jit` and `vmap`, and `nn.save` and `nn.load` store it. For the
quality of a search see `nn.metrics.recall_at_k` and `nn.metrics.retrieval_average_precision`.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.retrieval._index import Cosine, Euclidean, InnerProduct, index
from jaxnn.retrieval._nearest import Neighbours, nearest

__all__ = ["Cosine", "Euclidean", "InnerProduct", "Neighbours", "index", "nearest"]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
