"""The interval around a median that all benchmarks print."""

from collections.abc import Iterable
from math import comb


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Order statistics around the median with at least 95 %, by the binomial distribution; the range of few values."""
    found = sorted(values)
    n, k, below = len(found), 0, 0.0
    while 2 * (below + comb(n, k) / 2**n) <= 0.05:
        below += comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return found[k - 1], found[n - k]
