"""Interpolated modified Kneser-Ney models of symbols, by sorted arrays of n-grams.

    p_n(s | context) = (count - discount(count)) / total + (sum of discounts / total) p_{n-1}(s | shorter context)

The highest order counts occurrences, the lower ones the different symbols before an n-gram; p_0 is uniform. The
discounts of the counts 1, 2 and from 3 on are estimated from the numbers of n-grams with the counts 1 to 4.

Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, 1998.
"""

import numpy as np


def bits_by_order(train: np.ndarray, held: np.ndarray, symbols: int, most: int) -> np.ndarray:
    """Bits of each symbol of a held-out text by the models of order 1 to `most`, [most, len(held)]."""
    if symbols ** (most + 1) >= 2**63:
        raise ValueError(f"{most + 1} symbols of {symbols} do not fit into an integer of 64 bits")
    text = np.concatenate([train[-most:], held])
    shorter, bits = np.full(len(held), 1 / symbols), []
    counted = np.unique(_grams(train, 1, symbols), return_counts=True)
    for n in range(1, most + 1):
        wanted = _grams(text[most - n + 1 :], n, symbols)
        bits.append(-np.log2(_mixed(shorter, *counted, wanted, symbols)))
        counted = np.unique(_grams(train, n + 1, symbols), return_counts=True)
        before = np.unique(counted[0] % symbols**n, return_counts=True)
        shorter = _mixed(shorter, *before, wanted, symbols)
    return np.stack(bits)


def mixture(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Bits of the probabilities `share` of one and 1 - `share` of the other."""
    return -np.log2(share * 2**-one + (1 - share) * 2**-other)


def _grams(text: np.ndarray, n: int, symbols: int) -> np.ndarray:
    """The n-grams as numbers in base `symbols`, [len(text) - n + 1]."""
    return sum(text[i : len(text) - n + 1 + i].astype(np.int64) * symbols ** (n - 1 - i) for i in range(n))


def _mixed(shorter: np.ndarray, grams: np.ndarray, counts: np.ndarray, wanted: np.ndarray, symbols: int) -> np.ndarray:
    """Probability of the last symbol of each wanted n-gram, from sorted n-grams with counts and the shorter context."""
    n = [np.sum(counts == i) for i in range(1, 5)]
    y = n[0] / max(1, n[0] + 2 * n[1])
    discounts = np.array([0, *(i - (i + 1) * y * n[i] / max(1, n[i - 1]) for i in (1, 2, 3))]).clip(0, range(4))
    contexts, place = np.unique(grams // symbols, return_inverse=True)
    less, total = discounts[np.minimum(counts, 3)], np.bincount(place, counts)
    own = _found((counts - less) / total[place], grams, wanted, 0)
    return own + _found(np.bincount(place, less) / total, contexts, wanted // symbols, 1) * shorter


def _found(values: np.ndarray, keys: np.ndarray, wanted: np.ndarray, default: float) -> np.ndarray:
    """The value of each wanted key, or the default."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], default)
