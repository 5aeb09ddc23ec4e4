"""What text is before it is split: odd characters mapped to plain ones, Unicode NFKC, words of Chinese found."""

import logging
import re
import unicodedata
from collections import Counter

SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Read as a plain space."""
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
"""Removed: soft hyphen, zero-width characters, byte order mark."""
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0)]))
"""Read as a plain space: a tab inside a sentence is none of its words."""

_PLAIN = str.maketrans({**dict.fromkeys(SPACES + CONTROLS, " "), **dict.fromkeys(INVISIBLE)})
_ODD = re.compile(f"[{re.escape(SPACES + INVISIBLE + CONTROLS)}]")
_FULL_WIDTH_PUNCTUATION = re.compile("([！-／：-＠［-｀｛-～]+)")
_CJK = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_SPACE_BY_CJK = re.compile(f"(?<=[{_CJK}]) | (?=[{_CJK}])")
WITHOUT_SPACES = ("zh", "ja")
"""Languages written without spaces between words."""


def odd_characters(line: str) -> Counter[str]:
    """How often each character that `clean` maps or removes occurs."""
    return Counter(_ODD.findall(line))


def clean(line: str) -> str:
    """A line with plain spaces, one at a time, and nothing invisible."""
    return " ".join(line.translate(_PLAIN).split())


def nfkc(line: str, language: str) -> str:
    """Unicode NFKC; in Chinese and Japanese full-width punctuation stays as it is, being the right one there."""
    if not language.startswith(WITHOUT_SPACES):
        return unicodedata.normalize("NFKC", line)
    parts = _FULL_WIDTH_PUNCTUATION.split(line)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


def segment_chinese(line: str) -> str:
    """A line with a space between words, as jieba finds them."""
    import jieba

    if not jieba.dt.initialized:
        jieba.setLogLevel(logging.WARNING)  # it would announce that it builds its dictionary
        jieba.dt.tmp_dir = None
    return " ".join(word for word in jieba.cut(line, HMM=True) if not word.isspace())


def join_chinese(line: str) -> str:
    """The reverse of `segment_chinese`: no space beside a Chinese character."""
    return _SPACE_BY_CJK.sub("", line)
