"""SIGINT and SIGTERM as wishes, not as ends."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_stop(act: Callable[[int], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `act` instead of ending the process; a second SIGINT
    interrupts at once.
    """
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        act(number)

    previous = {
        number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
