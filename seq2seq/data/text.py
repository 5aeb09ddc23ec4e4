"""Text: read line by line as strict UTF-8, then normalised for the tokenizer."""

import codecs
import gzip
import hashlib
import re
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from io import BufferedIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from ..config import languages
from ..errors import DataError
from ..files import place

SPACES = "\u00a0\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Characters that `clean` maps to a plain space."""
INVISIBLE = "\u00ad\u200b\u2060\ufeff"
"""Characters that `clean` removes: soft hyphen, zero-width space, word joiner, byte order mark.
The zero-width joiners U+200C and U+200D are kept: Persian, Hindi and emoji need them."""
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0)]))
"""Control characters, which `clean` maps to a plain space too."""

_PLAIN = str.maketrans({**dict.fromkeys(SPACES + CONTROLS, " "), **dict.fromkeys(INVISIBLE)})
_ODD = re.compile(f"[{re.escape(SPACES + INVISIBLE + CONTROLS)}]")
_KEPT_IN_CHINESE = re.compile("([！-／：-＠［-｀｛-～…‥]+)")
_KEPT_IN_JAPANESE = re.compile("([！-～…‥]+)")
"""Full-width characters that NFKC would turn into ASCII, but that the language uses.

Chinese keeps full-width punctuation, Japanese full-width letters and digits too. Reference
translations contain them, so the model must be able to write them.
"""
_CJK = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_LONG_RUN = re.compile("[\u4e00-\u9fff]{2000}")
_SPACE_BY_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")


@contextmanager
def open_text(path: Path, member: str = "") -> Iterator[BufferedIOBase]:
    """Open a text file as uncompressed bytes.

    The content decides what is unpacked, not the file's name: gzip always, a zip archive only where
    a `member` is asked for. Raise DataError where the file cannot be read.
    """
    try:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            is_gzip, is_zip = file.read(2) == b"\x1f\x8b", member and zipfile.is_zipfile(file)
            file.seek(0)
            if is_gzip:
                yield stack.enter_context(gzip.open(file, "rb"))
            elif is_zip:
                archive = stack.enter_context(zipfile.ZipFile(file))
                if member not in archive.namelist():
                    raise DataError(f"{path}: the zip archive has no member {member!r}")
                yield cast(BufferedIOBase, stack.enter_context(archive.open(member)))
            else:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{place(path)}") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        kind = "gzip" if is_gzip else "zip"
        raise DataError(f"{path}: damaged {kind} file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def decoded_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield lines of UTF-8 bytes as text, without the LF or CRLF that ends them.

    A byte order mark at the very start is dropped. Raise DataError with `name`, line and byte where
    the bytes are not UTF-8.
    """
    for number, line in enumerate(lines, start=1):
        raw = line.removesuffix(b"\n").removesuffix(b"\r")
        raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: invalid UTF-8 at byte {error.start + 1} "
                f"(0x{raw[error.start]:02x}); expected UTF-8 text"
            ) from error


def read_lines(path: Path, member: str = "") -> Iterator[str]:
    """Yield the lines of a file, or of a zip archive's member (see `decoded_lines`)."""
    with open_text(path, member) as file:
        yield from decoded_lines(file, str(path))


def text_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's uncompressed text."""
    with open_text(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def odd_characters(line: str) -> Counter[str]:
    """Count the characters of a line that `clean` maps or removes."""
    return Counter(_ODD.findall(line))


def clean(line: str) -> str:
    """Return a line with single plain spaces and without invisible characters."""
    return " ".join(line.translate(_PLAIN).split())


def nfkc(line: str, language: str) -> str:
    """Normalise a line by Unicode NFKC; Chinese and Japanese keep their full-width forms."""
    written = languages.language(language)
    if not (written.is_chinese or written.is_japanese):
        return unicodedata.normalize("NFKC", line)
    kept = _KEPT_IN_CHINESE if written.is_chinese else _KEPT_IN_JAPANESE
    parts = kept.split(line)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


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
    return _SPACE_BY_CJK.sub("", line)
