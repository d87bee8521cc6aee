"""Memory that a compiled program needs, and memory that is free."""

import os
from collections.abc import Sequence
from typing import Any

import jax


def needed(program: Any, devices: Sequence[jax.Device], calls: int = 1) -> int:
    """Bytes per device that a program needs in addition to its arguments: results of all calls, temporaries of one.

    The devices of a CPU share one memory: there it is the sum over the devices.

    Args:
      program: a compiled JAX program.
      devices: devices on which it runs.
      calls: number of calls whose results are kept, >= 1.
    """
    stats = program.memory_analysis()
    bytes_ = calls * stats.output_size_in_bytes + stats.temp_size_in_bytes if stats else 0
    return bytes_ * (len(devices) if devices[0].platform == "cpu" else 1)


def available(devices: Sequence[jax.Device]) -> int | None:
    """Free bytes on the device with the least free memory, for a CPU those of the machine; None if unknown."""
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
    except (OSError, KeyError):  # not Linux: total memory, used or not
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None


def in_words(n: int) -> str:
    """Number of bytes as text with a decimal unit.

    >>> in_words(800), in_words(12_345_678)
    ('800 bytes', '12.3 MB')
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"
