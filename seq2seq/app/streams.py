"""The standard streams of a command: what happens where they cannot be written to."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Standard(io.FileIO):
    """Standard output or standard error, whose errors say so."""

    def __init__(self, name: str, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.title = f"standard {'error' if name == 'stderr' else 'output'}"
        self.drops_all = name == "stderr"
        """Whether no failure is an error: nobody could read about that of standard error."""
        self.drops_unread = False
        """Whether it takes everything once its reader has gone."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.drops_all or (self.drops_unread and isinstance(error, BrokenPipeError)):
                return memoryview(data).nbytes
            raise OSError(error.errno, error.strerror, self.title) from error


def _standard(stream: object) -> _Standard | None:
    """Return the file behind one of our streams; None behind any other."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Standard) else None


@contextmanager
def named_streams() -> Iterator[None]:
    """Inside, an error of standard output names it, and standard error raises none.

    At the end, what cannot be written is dropped; Python would fail to do so as it exits.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    raises, logging.raiseExceptions = logging.raiseExceptions, False  # else it prints a traceback
    for name, stream in before.items():
        buffer = getattr(stream, "buffer", None)
        if isinstance(getattr(buffer, "raw", buffer), io.FileIO):  # no text of a test or a notebook
            stream.flush()
            text = io.TextIOWrapper(
                io.BufferedWriter(_Standard(name, stream.fileno())),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering or stream.write_through,
            )
            setattr(sys, name, text)
    try:
        yield
    finally:
        logging.raiseExceptions = raises
        for name, stream in before.items():
            if (standard := _standard(ours := getattr(sys, name))) is not None:
                standard.drops_all = True
                ours.flush()
                setattr(sys, name, stream)


@contextmanager
def written() -> Iterator[None]:
    """Write out at the end what was printed inside, also where --help ends the command."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def drop_unread() -> None:
    """Let a closed pipe behind standard output be no error from now on, as after `| head`.

    A training then goes on. What it has found is in its folder. This is for `named_streams`.
    """
    if (standard := _standard(sys.stdout)) is not None:
        standard.drops_unread = True
