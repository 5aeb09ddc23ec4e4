"""The seal of a safetensors file: a checksum of the whole file, inside its own header.

A header begins with its length (8 bytes, little-endian) and is JSON. Its metadata has one entry: 64
hexadecimal digits, then the text. The digits are the SHA-256 of the file with zeros in their place,
so that every other byte counts: names, types and shapes, the text, and all tensors.
"""

import errno
import hashlib
import os
import re
from io import BufferedRandom, BufferedReader
from pathlib import Path

from ..stored import opened

SEALED = "sealed_state"
"""Key of the entry."""
DIGITS = 64
NO_DIGEST = "0" * DIGITS
LONGEST_HEADER = 100_000_000
"""In bytes; safetensors reads none that is longer."""


class SealError(ValueError):
    """A file that is not what was written; the message says what is wrong."""


def seal(file: Path) -> None:
    """Write the checksum in the place of the zeros, and flush the file to the disk."""
    with open(file, "rb+") as stream:
        start, _, digest = _scan(stream)
        stream.seek(start)
        stream.write(digest.encode())
        stream.flush()
        os.fsync(stream.fileno())


def is_sealed(file: Path) -> bool:
    """Return whether a file has a checksum; SealError where it is another file's, or truncated."""
    with opened(file) as stream:
        start, written, digest = _scan(stream)
    if start and written != digest:
        raise SealError(f"SHA-256 is {digest[:16]}, expected {written[:16]}")
    return start > 0


def read_back(file: Path) -> None:
    """Check a sealed file, from the disk where the system can be asked to forget its copy.

    OSError if it is not what was written.
    """
    with open(file, "rb") as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        is_sealed(file)
    except SealError as error:
        raise OSError(errno.EIO, f"what was written is read back damaged: {error}") from error


def _scan(stream: BufferedReader | BufferedRandom) -> tuple[int, str, str]:
    """Return where the digits are (0: nowhere), the digits, and the file's own checksum.

    SealError where the header does not fit into the file, or the file not to the header.
    """
    size = os.fstat(stream.fileno()).st_size
    prefix = stream.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(size - 8, LONGEST_HEADER):
        raise SealError(f"its header has {length} bytes, the file {size}")
    header = stream.read(length)
    found = re.search(rf'"{SEALED}":"([0-9a-f]{{{DIGITS}}})'.encode(), header)
    if found is None:
        return 0, "", ""
    ends = map(int, re.findall(rb'"data_offsets":\[\d{1,18},(\d{1,18})\]', header))
    if size != (whole := 8 + length + max(ends, default=0)):  # before all of it is read
        raise SealError(f"it has {size} bytes, its header says {whole}")
    start, end = found.span(1)
    digest = hashlib.sha256(prefix + header[:start] + NO_DIGEST.encode() + header[end:])
    return 8 + start, found[1].decode(), hashlib.file_digest(stream, lambda: digest).hexdigest()
