"""Whether a compiled program fits in the memory that is free."""

import os
from collections.abc import Sequence
from typing import Any

import jax


def needed(program: Any, devices: Sequence[jax.Device], calls: int = 1) -> int:
    """Bytes on one device beside the arguments: the results of all calls of the program, and the temporaries of one.

    The devices of a CPU share one memory: there it is the sum over them.
    """
    stats = program.memory_analysis()
    bytes_ = calls * stats.output_size_in_bytes + stats.temp_size_in_bytes if stats else 0
    return bytes_ * (len(devices) if devices[0].platform == "cpu" else 1)


def available(devices: Sequence[jax.Device]) -> int | None:
    """Bytes free on the fullest of the devices, in the machine for those of a CPU; None where nothing tells."""
    if devices[0].platform == "cpu":
        return _of_machine()
    stats = [device.memory_stats() or {} for device in devices]
    free = [s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats if "bytes_limit" in s]
    return min(free, default=None)


def _of_machine() -> int | None:
    try:
        with open("/proc/meminfo") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: all there is, in use or not
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None


def in_words(n: int) -> str:
    """Bytes with a unit, 1000 at a time.

    >>> in_words(800), in_words(12_345_678)
    ('800 bytes', '12.3 MB')
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"
