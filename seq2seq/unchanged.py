"""What was found in large files, kept until they change: nobody waits for the same text twice.

As in Git, a file is unchanged while its size, its inode and the times of its last write and change
are. A file that was written a moment ago is read again, as the next write may have the same time.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import write_text
from .stored import naming_damage, read_json

LARGE = 4 << 20
"""Bytes from which a file is not read again. Smaller ones are: that takes no time."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a write gives another time, on every file system."""
Stamp = list[int]


def remembered(record: Path, file: Path, find: Callable[[], str]) -> str:
    """Return what `find` finds in a file, from the record where the file has not changed since.

    The record is a JSON file. One that is damaged, or cannot be written, is as good as none. What
    `find` raises is raised, and not remembered.
    """
    stamp = _stamp(file)
    if stamp is None:
        return find()
    known, name = _known(record), str(file.resolve())
    entry = known.get(name)
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        found = entry.get("found")
        if isinstance(found, str):
            return found
    found = find()
    if time.time_ns() - max(stamp[2:]) > SETTLED:
        with suppress(OSError):  # a folder that others own
            entry = {"stamp": stamp, "found": found}
            write_text(record, json.dumps({**_known(record), name: entry}, indent=2) + "\n")
    return found


def _stamp(file: Path) -> Stamp | None:
    """Return what changes with a large file; None for a small one, or one that is not there."""
    try:
        found = os.stat(file)
    except OSError:  # reading it says why
        return None
    if found.st_size < LARGE:
        return None
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _known(record: Path) -> dict[str, Any]:
    try:
        with naming_damage(record):
            return dict(read_json(record))
    except (OSError, DataError):
        return {}
