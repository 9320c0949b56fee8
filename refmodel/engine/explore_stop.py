"""Ctrl-C as a request: the search finishes its chunk, saves and returns."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, the first SIGINT only sets a flag (a second one interrupts as usual); calling it asks the flag.

    Outside the main thread signals cannot be taken over; then it stays False.
    """

    def __init__(self) -> None:
        self.asked = False
        self._old: Any = None

    def __call__(self) -> bool:
        """Whether an interrupt was asked for."""
        return self.asked

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)
