"""Data on the host: data sets by name, random splits, batches, label encodings."""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.data._batching import batches, split
from jaxnn.data._datasets import Dataset, load, names
from jaxnn.data._fetch import Unavailable
from jaxnn.data._labels import decode, encode, one_hot

__all__ = ["Dataset", "Unavailable", "batches", "decode", "encode", "load", "names", "one_hot", "split"]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
