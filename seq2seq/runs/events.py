"""TensorBoard's event files: a resumed run cuts what was logged after its checkpoint.

A file is a sequence of records. Each has the length of its data (8 bytes, little-endian), a
checksum of it (4 bytes), the data, and a checksum of these (4 bytes). The data is an Event.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from ..files import replacing

NAMES = "events.out.tfevents.*"
"""Pattern of the names: events.out.tfevents.SECONDS.HOST.PROCESS.NUMBER."""
AROUND = 8 + 4, 4
"""Bytes of a record before and after its data."""


def cut_events(folder: Path, keep: Callable[[Event], bool]) -> None:
    """Remove the events for which `keep` is false from all event files of a folder.

    So does an incomplete record, as a killed run leaves it, with all that is after it. Each file is
    replaced by itself, under its own name: whoever is killed here cuts the rest at the next start.
    """
    for file in sorted(folder.glob(NAMES)):
        content = file.read_bytes()
        kept = b"".join(record for record, event in _records(content) if keep(event))
        if len(kept) != len(content):
            with replacing(file) as temporary:
                temporary.write_bytes(kept)


def put_before_now(folder: Path) -> None:
    """Rename event files whose names would be after that of a file that is made now.

    TensorBoard reads files in the order of their names. Files of this second, and of a clock that
    was set back since, get numbers in the place of their time, in the same order.
    """
    files = sorted(folder.glob(NAMES))
    if files and files[-1].name >= f"{NAMES[:-1]}{int(time.time()):010d}":
        for number, file in enumerate(files):
            rest = file.name.removeprefix(NAMES[:-1]).partition(".")[2]
            file.rename(file.with_name(f"{NAMES[:-1]}{number:010d}.{rest}"))


def _records(content: bytes) -> Iterator[tuple[bytes, Event]]:
    """Yield each whole record of a file and its event."""
    before, after = AROUND
    start = 0
    while start + before <= len(content):
        data = start + before
        end = data + int.from_bytes(content[start : start + 8], "little")
        try:
            event = Event.FromString(content[data:end])
        except DecodeError:
            return
        if end + after > len(content):
            return
        yield content[start : end + after], event
        start = end + after
