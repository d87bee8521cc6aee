"""Photos of scikit-image, a quarter of their size, as the tests of augmentations compare them."""

import functools

import numpy as np
import pytest


@functools.cache
def photo(name="astronaut"):
    """A photo [h, w, 3], uint8: "astronaut" [128, 128], "coffee" [100, 150], "chelsea" [75, 113]."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed: no photo was compared")
    return np.ascontiguousarray(getattr(data, name)()[::4, ::4])


def levels(actual, desired):
    """The largest difference of two images of bytes, in levels."""
    assert actual.dtype == desired.dtype == np.uint8
    assert actual.shape == desired.shape
    return np.abs(actual.astype(int) - desired.astype(int)).max()


def differing(actual, desired):
    """The fraction of pixels that differ by more than one level."""
    assert actual.shape == desired.shape
    return (np.abs(np.asarray(actual).astype(int) - np.asarray(desired).astype(int)) > 1).any(-1).mean()
