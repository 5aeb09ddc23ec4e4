"""Text of every kind, as hypothesis draws it."""

import bz2
import gzip
import io
import lzma
import os
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from functools import cache
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LONG = os.environ.get("SEQ2SEQ_PROPERTIES") == "long"
"""Whether the long profile is asked for: more examples, and lines of up to 1 MB everywhere."""
MOST = 1_000_000 if LONG else 20_000
"""Characters of the longest lines."""


def profile(fast: int, long: int) -> settings:
    """Return the settings of a property: so many examples in the fast and the long profile."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=long if LONG else fast, deadline=None, suppress_health_check=checks
    )


CATEGORIES = sorted({unicodedata.category(chr(code)) for code in range(0x110000)} - {"Cs"})
"""The categories of Unicode; surrogates cannot be written in UTF-8."""


@cache
def of_category(category: str) -> "st.SearchStrategy[str]":
    """Return a strategy for the characters of a category."""
    return st.characters(categories=[category])  # type: ignore[list-item]


SEPARATORS = (
    "\u2028",
    "\u2029",
    "\x0b",
    "\x0c",
    "\x85",
    "\x1c",
    "\x1d",
    "\x1e",
    "\r",
    "\t",
    "\x00",
)
"""What ends a line elsewhere, and not here."""
SPECIAL = (
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "▁",
    "▅",
    "⁇",
    "&apos;",
    "&amp;lt;",
    "\ufeff",
    "\u200f",
    "@@",
)
"""What means something to tokenizers, Moses or files."""

CHARACTERS = st.sampled_from(CATEGORIES).flatmap(of_category)
PARTS = st.one_of(CHARACTERS, st.sampled_from([*SEPARATORS, *SPECIAL, " ", " ", "a", "é", "狗"]))


def is_one_line(line: str) -> bool:
    """Return whether a text is one line of a file: no LF in it, no CR before its end."""
    return "\n" not in line and not line.endswith("\r")


LINES = st.lists(PARTS, max_size=20).map("".join).filter(is_one_line)


@st.composite
def long_lines(draw: st.DrawFn, most: int) -> str:
    """Return a line of up to `most` characters: a few parts, again and again."""
    parts = "".join(draw(st.lists(PARTS, min_size=1, max_size=6)))
    times = draw(st.sampled_from([1, 2, 100, most]))
    line = (parts * (times // len(parts) + 1))[:times]
    return line if is_one_line(line) else "x"


def zipped(data: bytes) -> bytes:
    """Return a zip archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text", data)
    return file.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "zip": zipped,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": zstd.compress,
}
"""Suffix -> how to pack; a property gives each any suffix."""
MEMBERS = st.lists(st.integers(0, 200), max_size=4)
"""Where a file is cut into members that are packed one by one."""


def packed(data: bytes, kind: str, cuts: list[int]) -> bytes:
    """Return packed bytes; a zip archive cannot have several members in a row."""
    places = sorted({0, *(min(cut, len(data)) for cut in cuts if kind != "zip"), len(data)})
    parts = [data[start:end] for start, end in pairwise(places)] or [b""]
    return b"".join(map(PACKERS[kind], parts))


ENDS = st.sampled_from(["\n", "\r\n"])
LAST_ENDS = st.sampled_from(["", "\n", "\r\n"])
