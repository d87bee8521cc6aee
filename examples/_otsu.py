"""Regions of an image above Otsu's threshold.

Otsu, A Threshold Selection Method from Gray-Level Histograms, 1979.
"""

import numpy as np
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label, regionprops

SMOOTHED = 1.0  # deviation of the Gaussian filter before the threshold, in pixels


def largest(image: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the largest connected regions in an image [h, w], [most, 4], and their areas [most]; 0 is padding."""
    smooth = gaussian(image, SMOOTHED)
    regions = regionprops(label(smooth > threshold_otsu(smooth), connectivity=1))
    found = sorted(regions, key=lambda region: -region.area)[:most]
    boxes, areas = np.zeros((most, 4), np.float32), np.zeros(most, np.float32)
    for i, region in enumerate(found):
        top, left, bottom, right = region.bbox
        boxes[i], areas[i] = (left, top, right, bottom), region.area
    return boxes, areas
