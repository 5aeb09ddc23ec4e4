"""Output that nobody reads any more, as after `| head`: what is printed is dropped."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Lasting(io.FileIO):
    """A file that takes everything once its reader has gone."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


@contextmanager
def dropping_unread() -> Iterator[None]:
    """Inside, a closed pipe behind standard output or standard error is no error.

    A training then goes on. What it has found is in its folder.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            lasting = io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False))
            text = io.TextIOWrapper(
                lasting,
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
            )
            setattr(sys, name, text)
    try:
        yield
    finally:
        for name, stream in before.items():
            if getattr(sys, name) is not stream and stream is not None:
                getattr(sys, name).flush()
                setattr(sys, name, stream)
