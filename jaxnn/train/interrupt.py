"""Ctrl-C and SIGTERM while a run is driven: neither falls where the old run is gone and the new one not there yet."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax


class Signals:
    """Within `with`, an interrupt raises KeyboardInterrupt, but in `held` parts, which it lets end before.

    In the main thread only, and where nobody else has taken the signals: elsewhere Python's own rules hold.

    Attributes:
      terminated: whether SIGTERM came.
    """

    def __init__(self, *, terminates: bool):
        """`terminates`: whether SIGTERM is to be heeded, too."""
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
        self.terminated |= number == signal.SIGTERM
        if self._held:
            self._waiting = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A part that no interrupt breaks: one that came meanwhile is raised at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def wait(self, array: Any) -> None:
        """Waits until an array is computed, so that an interrupt is heard at once and not only then."""
        if not self._before or array.is_ready():
            return
        done = threading.Event()

        def wait() -> None:
            with contextlib.suppress(Exception):  # whoever reads the array has it raised
                jax.block_until_ready(array)
            done.set()

        threading.Thread(target=wait, name="jaxnn wait", daemon=True).start()
        done.wait()
