"""Feeds: batches from user-supplied iterables, checked, grouped into pieces, and read ahead by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._mesh import is_spread
from jaxnn.train._epoch import Ordered, Whole
from jaxnn.types import Arrays, Batch, Data

BATCHES, BYTES = 64, 2**23  # maximum batches and bytes of a piece; it has at least one batch
AHEAD = 2  # pieces read ahead


class Piece(NamedTuple):
    """Data of some steps of an epoch: grouped batches, or all arrays for all steps.

    Attributes:
      data: the data of the steps.
      steps: number of steps.
    """

    data: Data
    steps: int


def is_feed(data: Data) -> bool:
    """True if `data` is a function of the epoch or an iterable of batches, not a pytree of arrays."""
    if isinstance(data, Iterator):
        return True  # later versions of JAX do not treat iterators as leaves
    if hasattr(data, "shape") or isinstance(data, str | bytes) or not jax.tree_util.all_leaves([data]):
        return False
    return callable(data) or hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def check_feed(argument: str, feed: Any, epochs: int) -> None:
    """Raises TypeError for an iterator, which can be read only once, if there are several epochs."""
    if epochs > 1 and not callable(feed) and isinstance(feed, Iterator):
        fix = "Pass a function that makes one: lambda epoch: batches()."
        raise wrong_type("drive", f"{argument} to be iterable again in each epoch", feed, fix)


def batches_of(argument: str, feed: Any, epoch: int) -> Iterator[Any]:
    """Iterator over the checked batches of one epoch, as NumPy arrays; arrays sharded over devices are unchanged."""
    found = feed(epoch) if callable(feed) else feed
    if not hasattr(found, "__iter__") and not hasattr(found, "__getitem__"):
        raise wrong_type("drive", f"{argument} to give an iterable of batches", found)
    empty = True
    for batch in found:
        empty, batch = False, jax.tree.map(lambda a: a if is_spread(a) else np.asarray(a), batch)
        check.examples("drive", f"each batch of {argument}", batch)
        yield batch
    if empty:
        raise invalid("drive", f"{argument} to give batches", told=f"none in epoch {epoch + 1}")


def pieces_of(feed: Any, epoch: int, skip: int, epochs: int, most: int | None = None) -> Generator[Any, None, None]:
    """Generator of one batch, then of pieces from batch `skip` of `epoch` on, with None at the end of each epoch.

    Successive batches of equal shape form a piece. A batch of another shape, such as a smaller last batch, starts a new
    piece. A batch that is sharded over devices is a piece of its own and stays sharded.

    Args:
      feed: function of the epoch or iterable.
      epoch: first epoch.
      skip: batches of the first epoch to skip.
      epochs: end of the range of epochs.
      most: maximum number of steps per piece; None for no limit.
    """
    capacity = 0
    for number in range(epoch, epochs):
        group: list[Any] = []
        for i, batch in enumerate(batches_of("train", feed, number)):
            if not capacity:
                capacity = max(1, min(BATCHES, BYTES // max(1, sum(a.nbytes for a in jax.tree.leaves(batch)))))
                capacity = min(capacity, most or capacity)
                yield batch
            if number == epoch and i < skip:
                continue
            if any(map(is_spread, jax.tree.leaves(batch))):
                if group:
                    yield _joined(group, capacity)
                    group = []
                yield Piece(Whole(batch), 1)
                continue
            full = len(group) == capacity or (most and i % most == 0)
            if group and (full or _shapes(batch) != _shapes(group[0])):
                yield _joined(group, capacity)
                group = []
            group.append(batch)
        if group:
            yield _joined(group, capacity)
        yield None


def _shapes(batch: Batch) -> Arrays:
    return jax.tree.structure(batch), [(a.shape, a.dtype) for a in jax.tree.leaves(batch)]


def _joined(group: list[Any], capacity: int) -> Piece:
    """A piece on the device, padded to its capacity, so that all pieces share one program.

    The batches are stored as data with an order, like an epoch of arrays, not stacked: a step then reads its batch by
    the same instructions and rounds identically.
    """
    filled = group + group[-1:] * (capacity - len(group))
    data = jax.tree.map(lambda *a: jax.device_put(np.concatenate(a)), *filled)
    size = jax.tree.leaves(group[0])[0].shape[0]
    order = np.arange(capacity * size, dtype=np.int32).reshape(capacity, size)
    return Piece(Ordered(data, jax.device_put(order)), len(group))


def prefetched(items: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Generator of the same items, computed ahead by a thread whose exceptions it raises; close() stops the thread."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(AHEAD)
    stop, end = threading.Event(), object()
    x64 = jax.dtypes.canonicalize_dtype(np.float64) == np.float64  # threads do not inherit settings of `with` blocks
    device = jax.config.jax_default_device  # type: ignore[attr-defined]

    def hand_over(item: Any, error: BaseException | None = None) -> bool:
        while not stop.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            with jax.enable_x64(x64), jax.default_device(device):
                if all(map(hand_over, items)):
                    hand_over(end)
        except BaseException as error:
            hand_over(end, error)
        finally:
            items.close()

    thread = threading.Thread(target=work, name="jaxnn feed", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join(timeout=1.0)  # do not wait for a source that blocks: it would delay an interrupt
