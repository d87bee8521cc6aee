"""Regions of a mask: its connected components, divided by watershed, and their agreement with true regions."""

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

import jaxnn as nn

SMALLEST = 25  # pixels of the smallest nucleus: smaller regions are dropped
APART = 6  # pixels between markers of the watershed; with it, true masks of training pixels have an F1 of 0.96


def regions(mask: np.ndarray) -> np.ndarray:
    """Numbers of the connected regions of a mask, without the smallest."""
    numbers, _ = ndimage.label(mask)
    large = np.bincount(numbers.ravel()) >= SMALLEST
    return np.unique(np.where(large[numbers], numbers, 0), return_inverse=True)[1].reshape(mask.shape)


def divided(mask: np.ndarray) -> np.ndarray:
    """Regions divided by watershed where they narrow: its markers are maxima of the distance to the background."""
    whole = regions(mask)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(whole > 0), 2)
    peaks = peak_local_max(distance, min_distance=APART, labels=whole, exclude_border=False)
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = 1 + np.arange(len(peaks))
    return watershed(-distance, markers, mask=whole > 0)


def overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of each found region with each true one."""
    both = np.histogram2d(found.ravel(), true.ravel(), (np.arange(found.max() + 2), np.arange(true.max() + 2)))[0]
    return (both / (both.sum(1, keepdims=True) + both.sum(0) - both))[1:, 1:]


def score(mask: np.ndarray, true: np.ndarray) -> list[float]:
    """IoU and Dice of pixels; number of regions and F1 of those with an IoU above 1/2, without and with watershed."""
    row = [float(f(mask.ravel(), true.ravel() > 0)) for f in (nn.metrics.iou, nn.metrics.f1)]  # F1 of pixels is Dice
    for found in (regions(mask), divided(mask)):
        iou = overlaps(found, true)
        row += [len(iou), 2 * (iou > 0.5).sum() / sum(iou.shape)]
    return row
