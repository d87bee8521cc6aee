"""One tolerance per dtype, for the whole suite."""

from typing import Any

import numpy as np

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}


def assert_close(actual: Any, desired: Any, *, scale: float | None = None, dtype: Any = None) -> None:
    """|actual - desired| <= tolerance · (|desired| + scale) for each element; nan and ±inf in the same places.

    Args:
      scale: the magnitude an absolute error is measured against, by default that of the largest finite |desired|; 0
        asks for a relative error of each element.
      dtype: whose tolerance to take, by default that of `actual`.
    """
    actual, desired = np.asarray(actual), np.asarray(desired)
    if np.iscomplexobj(actual):
        actual, desired = (np.stack([z.real, z.imag]) for z in (actual, desired))
    tolerance = TOLERANCE[str(np.dtype(dtype or actual.dtype))]
    actual, desired = actual.astype(np.float64), desired.astype(np.float64)
    assert actual.shape == desired.shape, f"shapes differ: {actual.shape} and {desired.shape}"
    if scale is None:
        scale = np.abs(desired, where=np.isfinite(desired), out=np.zeros_like(desired)).max(initial=0.0)
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * scale)
