"""Text files as uncompressed bytes: the content decides how they are unpacked, not the name."""

import bz2
import gzip
import lzma
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from ..errors import DataError
from ..files import place
from ..shown import brief

HEAD_BYTES = 512
"""So many bytes tell what a file is: a tar archive names itself in its first 262."""
TAR = (257, b"ustar")
"""Position and bytes of a tar archive's mark (POSIX.1-1988)."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16."""
UNREADABLE = {b"\x1f\x9d": "compress (.Z)", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!\x1a\x07": "RAR"}
"""First bytes -> packed by a program whose files are not read."""
ZIP = b"PK\x03\x04"


def _xz(file: BufferedIOBase) -> BufferedIOBase:
    return cast(BufferedIOBase, lzma.LZMAFile(cast(IO[bytes], file)))


def _zstd(file: BufferedIOBase) -> BufferedIOBase:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return cast(BufferedIOBase, zstd.ZstdFile(file))


FORMATS: dict[bytes, tuple[str, Callable[[BufferedIOBase], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"BZh": ("bzip2", bz2.open),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
"""First bytes -> name of the format, and how to open it; files of several parts are read whole."""


class Prefixed(RawIOBase):
    """The bytes that were read from a file, and then the rest of it."""

    def __init__(self, head: bytes, rest: BufferedIOBase) -> None:
        self.head, self.rest = head, rest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return the number of bytes, 0 at the end."""
        data = self.head[: len(buffer)] or self.rest.read1(len(buffer))
        self.head = self.head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_text(path: Path, member: str = "") -> Iterator[BufferedIOBase]:
    """Open a text file, or a pipe, as uncompressed bytes.

    gzip, xz, bzip2 and zstd are unpacked, and so is a zip archive of one file; of another one,
    `member` is read. Raise DataError where the file cannot be read.
    """
    kind = "file"
    try:
        with ExitStack() as stack:
            file: BufferedIOBase = stack.enter_context(open(path, "rb"))
            file, head = _with_head(file)
            if head.startswith(ZIP):
                kind = "zip file"
                file = stack.enter_context(_member(path, file, member))
            elif found := next((f for magic, f in FORMATS.items() if head.startswith(magic)), None):
                kind = f"{found[0]} file"
                file, head = _with_head(stack.enter_context(found[1](file)))
            _check_text(path, head)
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{place(path)}") from error
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: a zstd file, which needs backports.zstd: pip install 'seq2seq[zstd]'"
            " (or unpack it: zstd -d FILE)"
        ) from error
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise _unreadable(path, kind, error) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # of a module that may be missing
            raise
        raise _unreadable(path, kind, error) from error


def _with_head(file: BufferedIOBase) -> tuple[BufferedIOBase, bytes]:
    """Return a file at its start, and its first bytes; a pipe cannot go back."""
    head = file.read(HEAD_BYTES)
    if file.seekable():
        file.seek(0)
        return file, head
    return BufferedReader(Prefixed(head, file)), head


@contextmanager
def _member(path: Path, file: BufferedIOBase, member: str) -> Iterator[BufferedIOBase]:
    """Open the named member of a zip archive, or the only one."""
    if not file.seekable():
        raise DataError(f"{path}: a zip archive from a pipe cannot be read; unpack it first")
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            opened = stack.enter_context(archive.open(_name(path, archive, member)))
        except RuntimeError as error:  # a password, or another method of compression
            raise DataError(
                f"{path}: a zip archive that cannot be unpacked ({brief(str(error))}); expected"
                " text: unpack it, and name a file of it"
            ) from error
        yield cast(BufferedIOBase, opened)


def _name(path: Path, archive: zipfile.ZipFile, member: str) -> str:
    """Return the name of the only file of an archive; of several, `member` if it is one."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if member and member not in names:
        raise DataError(f"{path}: the zip archive has no member {member!r}")
    if not member and len(names) != 1:
        raise DataError(
            f"{path}: a zip archive of {len(names)} files ({brief(', '.join(names[:3]))}, ...);"
            " expected text: unpack it, and name a file of it"
        )
    return member or names[0]


def _check_text(path: Path, head: bytes) -> None:
    """Raise DataError where the first bytes are those of something else than UTF-8 text."""
    packed = next((name for magic, name in UNREADABLE.items() if head.startswith(magic)), None)
    packed = "tar" if head[TAR[0] :].startswith(TAR[1]) else packed
    if packed:
        raise DataError(f"{path}: packed by {packed}; expected text: unpack it, and name the text")
    if head.startswith(UTF16):
        raise DataError(
            f"{path}: text in UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)"
        )


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    """Return the error about a file that the system refuses, or that is damaged."""
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected a text file"
        )
    return DataError(
        f"{path}: damaged {kind} ({error}); expected a whole one: copy or pack it again"
    )


def check_regular(path: Path) -> None:
    """Raise DataError for a pipe or a device, whose text can be read only once."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it will say why
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(
            f"{path}: a pipe or device; expected a regular file, as the text of a corpus is read"
            " several times (save it: cat > FILE)"
        )
