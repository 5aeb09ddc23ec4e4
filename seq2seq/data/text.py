"""What text is before it is split: UTF-8, odd characters mapped to plain ones, Unicode NFKC, words
of Chinese found.
"""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ..errors import DataError

SPACES = (
    "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
"""Read as a plain space."""
INVISIBLE = "\u00ad\u200b\u2060\ufeff"
"""Removed: soft hyphen, zero-width space, word joiner, byte order mark. The zero-width joiners
U+200C and U+200D stay: Persian, Hindi and emoji are spelt with them."""
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0)]))
"""Read as a plain space: a tab inside a sentence is none of its words."""

_PLAIN = str.maketrans({**dict.fromkeys(SPACES + CONTROLS, " "), **dict.fromkeys(INVISIBLE)})
_ODD = re.compile(f"[{re.escape(SPACES + INVISIBLE + CONTROLS)}]")
_KEPT_FROM_NFKC = {
    "zh": re.compile("([！-／：-＠［-｀｛-～…‥]+)"),
    "ja": re.compile("([！-～…‥]+)"),
}
"""What NFKC would turn into ASCII, and the language writes as it is: full-width punctuation, in
Japanese full-width letters and digits too. References keep it, so a translation has to be able to
hold it."""
_CJK = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_SPACE_BY_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")
WITHOUT_SPACES = ("zh", "ja")
"""Languages written without spaces between words."""


def decode_line(raw: bytes, name: str, number: int) -> str:
    """UTF-8 bytes as text, or DataError naming file, line and byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}:{number}: invalid UTF-8 at byte {error.start + 1} (0x{raw[error.start]:02x}); "
            "expected UTF-8 text"
        ) from error


def decoded_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Lines ended by LF or CRLF, and by nothing else, in strict UTF-8; a byte order mark at the
    start is dropped.
    """
    for number, line in enumerate(lines, start=1):
        raw = line.removesuffix(b"\n").removesuffix(b"\r")
        yield decode_line(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, name, number)


def odd_characters(line: str) -> Counter[str]:
    """How often each character that `clean` maps or removes occurs."""
    return Counter(_ODD.findall(line))


def clean(line: str) -> str:
    """A line with plain spaces, one at a time, and nothing invisible."""
    return " ".join(line.translate(_PLAIN).split())


def nfkc(line: str, language: str) -> str:
    """Unicode NFKC; Chinese and Japanese keep their full-width forms."""
    kept = _KEPT_FROM_NFKC.get(language[:2])
    if kept is None:
        return unicodedata.normalize("NFKC", line)
    parts = kept.split(line)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


@cache
def _chinese_words() -> Any:
    """jieba's segmenter with its dictionary read from the package itself.

    Left alone, jieba would announce on stderr what it does, and would keep the dictionary as
    jieba.cache in the folder for temporary files, where anyone may have put another one.
    """
    import jieba

    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return segmenter


def segment_chinese(line: str) -> str:
    """A line with a space between words, as jieba finds them."""
    return " ".join(word for word in _chinese_words().cut(line, HMM=True) if not word.isspace())


def join_chinese(line: str) -> str:
    """The reverse of `segment_chinese`: no space beside a Chinese character."""
    return _SPACE_BY_CJK.sub("", line)
