"""What runs and prepared corpora have stored, read without trust: a file may be a stranger's.

Nothing waits for a pipe, nothing is read without bound, and an error names the file.
"""

import errno
import hashlib
import json
import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from .errors import AGAIN, DataError
from .files import exists, write_text
from .shown import brief

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_TEXT = 16 << 20
"""Bytes of the largest file of settings or results that is read; its JSON needs 20 times that."""
LARGEST_FILE = 256 << 20
"""Bytes of the largest other file that is read into memory as a whole, such as a tokenizer."""
CHECKSUM = "checksum"
"""Key of the checksum in a JSON file that has one of its other values."""
CHECKSUMS = "checksums.json"
"""File of a folder that has the checksums of its other files, by their names."""
DAMAGE = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(RecursionError, OverflowError),
)
"""What is raised where a file's content is not as expected."""
ARCHIVE_DAMAGE = (
    *(EOFError, BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(SyntaxError, TokenError),  # of the text before an array
)
"""What is also raised where an archive of arrays is damaged."""
WRONG_KIND = (errno.ENXIO, errno.ELOOP, errno.ENODEV)
"""Errors of the system about a path that leads to no regular file."""


def prepare_again(folder: Path) -> str:
    """Return what helps where a file of a prepared corpus is damaged."""
    return f"delete {folder} to prepare the corpus again"


def damaged(path: Path, error: object, advice: str = AGAIN) -> DataError:
    """Return the error about a file whose content is wrong, with the reason in brief."""
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    return DataError(f"{path}: damaged ({brief(reason)}); {advice}")


@contextmanager
def naming_damage(path: Path, advice: str = AGAIN) -> Iterator[None]:
    """Raise DataError, which names the file, for what is wrong with its content."""
    try:
        yield
    except DataError:
        raise
    except DAMAGE as error:
        raise damaged(path, error, advice) from error


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file as bytes; DataError for a pipe or a device, which would not end.

    OSError for a file that is missing, a folder, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in WRONG_KIND:
            raise _not_regular(path) from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _not_regular(path)
    except (OSError, DataError):
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        yield file


def _not_regular(path: Path) -> DataError:
    return DataError(f"{path}: a pipe, a device or a link in a circle; expected a regular file")


def content(path: Path, most: int = LARGEST_FILE) -> bytes:
    """Return the bytes of a file; DataError for one that is larger than `most`."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DataError(f"{path}: {size:,} bytes; expected at most {most:,}")
        return file.read(size)


def text(path: Path, most: int = LARGEST_TEXT) -> str:
    """Return the text of a file in UTF-8; DataError for any other one."""
    with naming_damage(path):
        return content(path, most).decode("utf-8")


def read_json(path: Path, advice: str = AGAIN) -> Any:
    """Return the content of a JSON file; DataError where it is none."""
    with naming_damage(path, advice):
        return json.loads(content(path, LARGEST_TEXT).decode("utf-8"))


# -- with a checksum ---


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checked_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object with a checksum of its values."""
    made = {**values, CHECKSUM: _checksum(values)}
    write_text(path, json.dumps(made, indent=2, ensure_ascii=False) + "\n")


def read_checked_json(path: Path, advice: str = AGAIN) -> dict[str, Any]:
    """Return the values of a JSON object; DataError where they are not those of its checksum.

    Files of versions up to 0.2 have none.
    """
    found = read_json(path, advice)
    with naming_damage(path, advice):
        if not isinstance(found, dict):
            raise TypeError("expected an object of JSON")
        expected = found.pop(CHECKSUM, None)
        if expected is not None and expected != _checksum(found):
            raise ValueError(f"its checksum is {brief(str(expected), 20)}, not that of its values")
    return found


def _checksum(values: dict[str, Any]) -> str:
    whole = json.dumps(values, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def write_checksums(folder: Path) -> None:
    """Write the sizes and checksums of the files of a folder into it."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    known = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}
    write_checked_json(folder / CHECKSUMS, known)


def checked(path: Path, advice: str) -> Path:
    """Return the path of a file whose checksum is the one that its folder has; else DataError.

    Folders of versions up to 0.2 have none.
    """
    file = path.with_name(CHECKSUMS)
    known = read_checked_json(file, advice) if exists(file) else {}
    if (expected := known.get(path.name)) is None:
        return path
    if not isinstance(expected, dict) or not {"bytes", "sha256"} <= expected.keys():
        raise damaged(file, f"no bytes and sha256 of {path.name}", advice)
    if not exists(path):
        raise DataError(f"{path}: no such file; {advice}")
    with naming_damage(path, advice), opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != expected["bytes"]:  # before all of it is read
            raise ValueError(
                f"{size} bytes, expected {brief(str(expected['bytes']), 20)} by {CHECKSUMS}"
            )
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected["sha256"]:
            raise ValueError(
                f"SHA-256 is {found[:8]}, expected {str(expected['sha256'])[:8]} by {CHECKSUMS}"
            )
    return path


# -- arrays ---


def read_arrays(path: Path, expected: Mapping[str, tuple[str, int]]) -> "list[NDArray[Any]]":
    """Return arrays of an archive that numpy wrote, given their types and numbers of axes by name.

    ValueError for any other file. An array is not made before its size is known to be right.
    """
    try:
        with opened(path) as file, ZipFile(file) as archive:
            return [_array(archive, name, *kind) for name, kind in expected.items()]
    except (*DAMAGE, *ARCHIVE_DAMAGE) as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.filename is not None:  # of a file that cannot be opened
            raise
        raise ValueError(str(error)) from error


def _array(archive: ZipFile, name: str, kind: str, axes: int) -> "NDArray[Any]":
    import numpy as np
    from numpy.lib import format as npy

    info = archive.getinfo(f"{name}.npy")
    if info.file_size > LARGEST_FILE:
        raise ValueError(f"{name}: {info.file_size:,} bytes; expected at most {LARGEST_FILE:,}")
    with archive.open(info) as member:
        if npy.read_magic(member) != (1, 0):
            raise ValueError(f"{name}: of another version of the format")
        shape, by_columns, dtype = npy.read_array_header_1_0(member)
        numbers = member.read()
    size = math.prod(shape) * dtype.itemsize
    if (dtype, len(shape), by_columns, size) != (np.dtype(kind), axes, False, len(numbers)):
        raise ValueError(f"{name}: {dtype} of shape {shape}; expected {kind} with {axes} axes")
    return np.frombuffer(numbers, dtype).reshape(shape)


def mapped(path: Path, dtype: "np.dtype[Any]", count: int | None = None) -> "NDArray[Any]":
    """Map an array file of a prepared corpus into memory.

    It has `count` numbers, as the ends of its sentences say, or at least one. DataError where it is
    missing or its size differs.
    """
    import numpy as np

    advice = prepare_again(path.parent)
    if not exists(path):
        raise DataError(f"{path}: no such file; {advice}")
    with opened(path) as file:
        found = os.fstat(file.fileno()).st_size
        wanted = max(found // dtype.itemsize, 1) if count is None else count
        expected = wanted * dtype.itemsize
        if found != expected:
            by = "" if count is None else f" by {path.with_suffix('.ends').name}"
            raise DataError(f"{path}: damaged: {found} bytes, expected {expected}{by}; {advice}")
        # An empty file cannot be mapped: a split of empty sentences has no ids.
        return np.memmap(file, dtype, mode="r") if wanted else np.zeros(0, dtype)
