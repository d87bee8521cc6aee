"""Difference of two trees of arrays, for the programs that tests run in processes of their own."""

import jax
import numpy as np


def difference(got, want):
    def of_one(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b), initial=0), 1)

    return float(max(jax.tree.leaves(jax.tree.map(of_one, got, want))))
