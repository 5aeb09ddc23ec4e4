"""Damage that knows nothing of what a file means: bits, cuts, other files, and no files at all."""

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

SPARSE = 6 << 30
"""Bytes of a file that takes no room on the disk, and none of which may be read into memory."""

Change = Callable[[bytes, random.Random], bytes]
"""From the bytes of a file to others."""


def _place(content: bytes, chance: random.Random) -> tuple[int, int]:
    """Return start and end of a part, most often a short one."""
    start = chance.randrange(len(content) + 1)
    most = chance.choice((1, 8, 64, len(content)))
    return start, min(len(content), start + chance.randint(1, max(most, 1)))


def flip(content: bytes, chance: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        if found:
            found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def empty(content: bytes, chance: random.Random) -> bytes:
    return b""


def delete(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    return content[:start] + content[end:]


def repeat(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 1, 3, 100)) + content[end:]


def overwrite(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    filling = chance.choice((b"\0" * (end - start), chance.randbytes(end - start)))
    return content[:start] + filling + content[end:]


def move(content: bytes, chance: random.Random) -> bytes:
    start, end = _place(content, chance)
    rest, part = content[:start] + content[end:], content[start:end]
    place = chance.randrange(len(rest) + 1)
    return rest[:place] + part + rest[place:]


def append(content: bytes, chance: random.Random) -> bytes:
    return content + chance.choice((b"\0", b"\n", b"{}\n", b"\xff" * 9, chance.randbytes(40)))


def noise(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 8, 100, len(content))))


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (flip, truncate, empty, delete, repeat, overwrite, move, append, noise)
}


# -- what stands in a file's place ---


def removed(path: Path, chance: random.Random) -> None:
    path.unlink()


def folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def plug(path: Path, chance: random.Random) -> None:
    """A socket of the file system."""
    path.unlink()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is at most 107 bytes
        short = Path(folder) / "plug"
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(short))
        shutil.move(short, path)


def dangling(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("no such file")


def circle(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def sparse(path: Path, chance: random.Random) -> None:
    os.truncate(path, SPARSE)


def locked(path: Path, chance: random.Random) -> None:
    """Take away the permission to read; for root, who may read all, remove the file."""
    if os.geteuid():
        path.chmod(0)
    else:
        path.unlink()


def another(path: Path, chance: random.Random) -> None:
    """Put another file of the same folder in its place."""
    others = sorted(p for p in path.parent.iterdir() if p.is_file() and p != path)
    shutil.copyfile(chance.choice(others), path)


def swapped(path: Path, chance: random.Random) -> None:
    """Exchange it with another file of the same folder."""
    others = sorted(p for p in path.parent.iterdir() if p.is_file() and p != path)
    other = chance.choice(others)
    spare = path.with_name("spare")
    path.rename(spare)
    other.rename(path)
    spare.rename(other)


Placement = Callable[[Path, random.Random], None]
PLACEMENTS: dict[str, Placement] = {
    place.__name__: place
    for place in (
        *(removed, folder, fifo, plug, dangling, circle, endless, sparse, locked),
        *(another, swapped),
    )
}
