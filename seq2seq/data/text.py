"""Text: read line by line as strict UTF-8; Chinese words separated and joined."""

import codecs
import hashlib
import re
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ..errors import DataError
from .opening import open_text

_CJK = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_LONG_RUN = re.compile("[\u4e00-\u9fff]{2000}")
SPACE_BY_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")


class SupportsReadline(Protocol):
    """A binary file, as far as reading lines needs it."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its next `size` bytes."""
        ...


LONGEST_LINE = 2**24
"""The most bytes of a line: a file of anything but text may have no line end at all."""
OLD_LINES = 10
"""So many CR in a file of one line are the ends of lines, and not text."""


def decoded_lines(file: SupportsReadline, name: str) -> Iterator[str]:
    """Yield the lines of UTF-8 bytes as text, without the LF or CRLF that ends them.

    A byte order mark at the very start is dropped. Raise DataError with `name`, line and byte where
    the bytes are not UTF-8, for a line of more than 16 MB, and for a file whose lines end in CR
    alone.
    """
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), b""), start=1):
        if number == 1 and not line.endswith(b"\n") and line.count(b"\r") >= OLD_LINES:
            raise DataError(
                f"{name}: its lines end in CR alone, as on old Macs; expected LF or CRLF"
                " (tr '\\r' '\\n' < FILE > NEW)"
            )
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise DataError(
                f"{name}:{number}: a line of {LONGEST_LINE >> 20} MB or more; expected text, with"
                " one sentence a line"
            )
        raw = line.removesuffix(b"\n").removesuffix(b"\r")
        start = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
        try:
            yield raw[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: invalid UTF-8 at byte {start + error.start + 1} "
                f"(0x{raw[start + error.start]:02x}); expected UTF-8 text"
            ) from error


def read_lines(path: Path, member: str = "") -> Iterator[str]:
    """Yield the lines of a file, or of a zip archive's member (see `decoded_lines`)."""
    with open_text(path, member) as file:
        yield from decoded_lines(file, str(path))


def text_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's uncompressed text."""
    with open_text(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _chinese_words() -> Any:
    """Return jieba's segmenter, with its dictionary read from the package itself.

    By default jieba logs to stderr, and caches the dictionary in the shared folder for temporary
    files, where another user could replace it.
    """
    import jieba

    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter


def segment_chinese(line: str) -> str:
    """Separate the words of a Chinese line by spaces, as jieba finds them.

    A run of over 2,000 characters is cut first: jieba's time can grow with the square of a run.
    """
    ends = [run.end() for run in _LONG_RUN.finditer(line)]
    parts = (line[start:end] for start, end in pairwise([0, *ends, len(line)]))
    cut = _chinese_words().cut
    return " ".join(word for part in parts for word in cut(part, HMM=True) if not word.isspace())


def join_chinese(line: str) -> str:
    """Remove the spaces next to Chinese characters, to reverse `segment_chinese`."""
    return SPACE_BY_CJK.sub("", line)
