"""Canonical correlation of representations, and the rate at which a similarity identifies layers."""

import numpy as np


def basis(x: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the centred columns of a representation, [n, ...] -> [n, rank], in float64."""
    x = x.reshape(len(x), -1).astype(np.float64)
    x = x - x.mean(0)
    if len(x) < x.shape[1]:
        variance, vectors = np.linalg.eigh(x @ x.T)
        return vectors[:, variance > 1e-8 * variance[-1]]
    variance, vectors = np.linalg.eigh(x.T @ x)
    kept = variance > 1e-8 * variance[-1]
    return x @ vectors[:, kept] / np.sqrt(variance[kept])


def cca(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """Mean squared canonical correlations of layers given by their bases, the R² of CCA in Kornblith et al., 2019."""
    return np.array([[np.sum((p.T @ q) ** 2) / min(p.shape[1], q.shape[1]) for q in b] for p in a])


def identified(matrices: list[np.ndarray]) -> float:
    """Rate of layers whose most similar layer in another network is that of the same depth, in both directions."""
    return float(np.mean([m.argmax(axis) == np.arange(len(m)) for m in matrices for axis in (0, 1)]))
