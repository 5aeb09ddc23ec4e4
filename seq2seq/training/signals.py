"""SIGINT and SIGTERM as requests: training saves before it stops."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ..errors import Stopped


@contextmanager
def on_stop(act: Callable[[int], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `act` with the signal's number and do not end the process.

    A second SIGINT interrupts at once. On leaving, the former handlers are back.
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


def stop(number: int, update: int, resume_command: str) -> NoReturn:
    """End the program after a signal: exit code 0 after SIGTERM, 130 after SIGINT."""
    raise Stopped(
        f"{signal.Signals(number).name}: saved at update {update}; continue with: {resume_command}",
        0 if number == signal.SIGTERM else 130,
    )
