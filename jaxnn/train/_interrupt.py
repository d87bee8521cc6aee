"""Ctrl-C and SIGTERM during a run: neither may arrive between the donation of the old run and the new run."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from jaxnn.types import Arrays


class Signals:
    """Context manager in which an interrupt raises KeyboardInterrupt, delayed to the end of a `held` block.

    It acts in the main thread only, and only on signals that have Python's default handler; otherwise Python's own
    rules apply.

    Attributes:
      terminated: True after SIGTERM.
    """

    def __init__(self, *, terminates: bool):
        """If `terminates`, SIGTERM is handled like an interrupt."""
        self.terminated = False
        self._held = self._waiting = False
        self._watched: dict[Any, Any] = {signal.SIGINT: signal.default_int_handler}
        if terminates:
            self._watched[signal.SIGTERM] = signal.SIG_DFL
        self._before: dict[Any, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number, usual in self._watched.items():
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: Any) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self.terminated and number == signal.SIGTERM:
            return  # GNU timeout sends it twice, to the process and to its group
        self.terminated |= number == signal.SIGTERM
        if self._held:
            self._waiting = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Context manager that delays an interrupt to its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def wait(self, array: Arrays) -> None:
        """Waits until an array is computed; an interrupt is raised at once, not only after the computation."""
        if not self._before:
            return
        # A signal interrupts a sleep. A thread that blocks on the array instead would still do so when the
        # interpreter ends, which aborts the process. Each sleep lasts at most 1 % of the wait.
        begun = time.perf_counter()
        while not array.is_ready():
            time.sleep(min(max(0.01 * (time.perf_counter() - begun), 2e-5), 0.05))
