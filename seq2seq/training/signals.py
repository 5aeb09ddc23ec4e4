"""Signals as requests: training saves before it stops.

They are Ctrl-C, SIGTERM, and those that SLURM sends before a job's time ends or another job takes
its place: `sbatch --signal=USR1@60` chooses one, submitit SIGUSR2.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ..errors import Stopped

OF_SLURM = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


@contextmanager
def on_stop(act: Callable[[int], None]) -> Iterator[None]:
    """Inside, these signals call `act` with the signal's number and do not end the process.

    A second SIGINT interrupts at once. On leaving, the former handlers are back. One of a signal of
    SLURM is then called for it: submitit's queues the job again, to go on from what is saved.
    """
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        act(number)

    previous = {
        number: signal.signal(number, handler)
        for number in (signal.SIGINT, signal.SIGTERM, *OF_SLURM)
    }
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
        for number in received:
            if number in OF_SLURM and callable(previous[number]):
                signal.raise_signal(number)


class CutShort(BaseException):
    """A signal has asked to stop: what was under way is left, and done again by a resumed run."""


@contextmanager
def cut_short_by_signals(received: list[int]) -> Iterator[None]:
    """Inside, the signals of `on_stop` are added to `received`, and the first raises CutShort.

    So does one that was received before. What is inside must leave nothing half done.
    """

    def leave(number: int) -> None:
        received.append(number)
        if len(received) == 1:  # another one must not break into the way out
            raise CutShort

    with on_stop(leave):
        if received:
            raise CutShort
        yield


def stop(number: int, update: int | None, resume_command: str) -> NoReturn:
    """End the program after a signal: exit code 130 after SIGINT, else 0.

    `update` is the one that was saved; None if there is none yet.
    """
    saved = "nothing to save yet" if update is None else f"saved at update {update}"
    raise Stopped(
        f"{signal.Signals(number).name}: {saved}; continue with: {resume_command}",
        130 if number == signal.SIGINT else 0,
    )
