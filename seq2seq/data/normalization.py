"""How a line is normalised before it is split into pieces, with a count of what that changes.

Four steps: HTML entities become characters; invisible characters are removed, and every kind of
space becomes a plain one; the line gets its Unicode normal form; surplus spaces are removed. To
normalise a line twice changes nothing more, unless entities are nested deeper than anyone writes.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html.entities import html5, name2codepoint
from typing import NamedTuple

from ..config import NormalForm, languages

SPACES = "\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\u2581" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""Characters that become a plain space. SentencePiece would write U+2581, its mark, as a space."""
CONTROLS = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0)]))
"""Control characters, which become a plain space too."""
INVISIBLE = "\u00ad\u200b\u2060\ufeff"
"""Characters that are removed: soft hyphen, zero-width space, word joiner, byte order mark.

The zero-width joiners U+200C and U+200D are kept: Persian, Hindi and emoji need them.
"""
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks of the writing direction, which are removed (Unicode property Bidi_Control)."""

MOSES = {"bar": "|", "bra": "[", "ket": "]", "APOS": "'"}
"""Entities that HTML does not have: older ones of Moses, and of text in upper case."""
UPPER_CASE = ("AMP", "LT", "GT", "QUOT", "COPY", "REG")
ENTITIES = {
    **{name: html5[f"{name};"] for name in (*name2codepoint, "apos", *UPPER_CASE)},
    **MOSES,
}
"""Name -> character: the entities of HTML 4, of XML and of Moses."""
ENTITY = re.compile(
    r"&(?:(?:amp|AMP|#0{0,5}38|#[xX]0{0,4}26);)*"
    r"([A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
)
"""An entity, whose ampersand may be escaped itself."""
DEEPEST = 10
"""So many entities inside one another are replaced: each takes another look at the whole line."""
LONG_LINE = 5000
"""In longer lines the marks of a letter are grouped: to sort n marks, Python takes n² steps."""
MOST_MARKS = 30
"""Marks in a group (UAX 15, Stream-Safe Text Format). No language has so many on a letter."""
JOINER = "\u034f"
"""Combining grapheme joiner: it is invisible, and ends a group of marks."""
LONGEST_CHANGE = 16
"""So many characters of an entity, or of a letter with its marks, are kept in counts of changes."""

KEPT_IN_CHINESE = re.compile("([！-／：-＠［-｀｛-～…‥]+)")
KEPT_IN_JAPANESE = re.compile("([！-～…‥]+)")
"""Full-width characters that NFKC would turn into ASCII, but that the language uses.

Chinese keeps full-width punctuation, Japanese full-width letters and digits too.
"""


class Change(NamedTuple):
    """Characters of a line, and what they became; nothing if they were removed."""

    before: str
    after: str


Changes = Counter[Change]


@dataclass(frozen=True)
class Normalization:
    """The normalisation of one language's lines."""

    language: str
    form: NormalForm = NormalForm.nfkc
    markup: bool = True
    """Whether entities become characters, and marks of the writing direction are removed."""
    symbols: tuple[str, ...] = ()
    """Placeholders that stay as they are."""

    def __call__(self, line: str, changes: Changes | None = None) -> str:
        """Return a normalised line; `changes` counts what was changed."""
        for _ in range(DEEPEST):
            line = self._unescaped(line, changes)
            line = _plain(line, self.markup, changes)
            line = around(self.symbols, lambda part: self._formed(part, changes), line)
            line = _single_spaced(line, changes)
            if self._unescaped(line) == line:
                break
        return line

    def _unescaped(self, line: str, changes: Changes | None = None) -> str:
        if not self.markup or "&" not in line:
            return line
        return around(self.symbols, lambda part: unescaped(part, changes), line)

    def _formed(self, line: str, changes: Changes | None) -> str:
        line = stream_safe(line, changes) if len(line) > LONG_LINE else line
        formed = formed_as(self.form, line, self.language)
        if changes is not None and formed != line:
            for cluster in clusters(line):
                after = formed_as(self.form, cluster, self.language)
                if after != cluster:
                    changes[Change(cluster[:LONGEST_CHANGE], after[:LONGEST_CHANGE])] += 1
        return formed


def comparable(line: str) -> str:
    """Return a line in the form in which translations are compared with references.

    It is the form of target text in training, without which a model could not write what a
    reference has: a zero-width space between Khmer words, or &apos;.
    """
    return Normalization("und", NormalForm.nfc)(line)


# -- the steps ---


def unescaped(line: str, changes: Changes | None = None) -> str:
    """Return a line with entities such as &apos; and &#91; as characters, also twice escaped ones.

    What is not a complete entity stays: AT&T, R&D; a &b.
    """
    for _ in range(DEEPEST):
        after = _replaced(ENTITY, _character, line, changes)
        if after == line:
            break
        line = after
    return line


def _character(entity: "re.Match[str]") -> str:
    """Return the character that an entity stands for; the entity itself if there is none."""
    if not entity[1].startswith("#"):
        return ENTITIES.get(entity[1], entity[0])
    found = html.unescape(f"&{entity[1]};")
    return found if len(found) == 1 and found != "\ufffd" else entity[0]


def _replaced(
    pattern: "re.Pattern[str]",
    replace: "Callable[[re.Match[str]], str]",
    line: str,
    changes: Changes | None,
) -> str:
    """Replace what a pattern finds; count what became something else."""

    def one(found: "re.Match[str]") -> str:
        after = replace(found)
        if changes is not None and after != found[0]:
            changes[Change(found[0][:LONGEST_CHANGE], after)] += 1
        return after

    return pattern.sub(one, line)


_REMOVED = {True: INVISIBLE + DIRECTIONS, False: INVISIBLE}
_ODD = {
    markup: re.compile(f"[{re.escape(SPACES + CONTROLS + removed)}]")
    for markup, removed in _REMOVED.items()
}
PLAIN = {
    markup: {**dict.fromkeys(SPACES + CONTROLS, " "), **dict.fromkeys(removed, "")}
    for markup, removed in _REMOVED.items()
}


def _plain(line: str, markup: bool, changes: Changes | None = None) -> str:
    return _replaced(_ODD[markup], lambda found: PLAIN[markup][found[0]], line, changes)


def _single_spaced(line: str, changes: Changes | None = None) -> str:
    single = " ".join(line.split())
    if changes is not None and len(single) < len(line):
        changes[Change(" ", "")] += len(line) - len(single)
    return single


def clean(line: str) -> str:
    """Return a line with single plain spaces, and without what is invisible."""
    return _single_spaced(_plain(line, True))


def formed_as(form: NormalForm, line: str, language: str) -> str:
    """Return a line in a normal form; with NFKC, Chinese and Japanese keep full-width forms."""
    if form is not NormalForm.nfkc:
        return unicodedata.normalize("NFC", line) if form is NormalForm.nfc else line
    kept = full_width(language)
    if kept is None:
        return unicodedata.normalize("NFKC", line)
    parts = kept.split(line)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    return "".join(parts)


def full_width(language: str) -> "re.Pattern[str] | None":
    """Return what a language keeps under NFKC; None: nothing."""
    written = languages.language(language)
    if written.is_chinese:
        return KEPT_IN_CHINESE
    return KEPT_IN_JAPANESE if written.is_japanese else None


def stream_safe(line: str, changes: Changes | None = None) -> str:
    """Return a line with a joiner after every 30 marks of one letter."""
    parts, start, run = [], 0, 0
    for i, char in enumerate(line):
        run = run + 1 if unicodedata.combining(char) else 0
        if run > MOST_MARKS:
            parts.append(line[start:i])
            start, run = i, 1
            if changes is not None:
                changes[Change(line[i - 1], line[i - 1] + JOINER)] += 1
    return JOINER.join([*parts, line[start:]])


def clusters(line: str) -> Iterator[str]:
    """Yield the letters of a line, each with its marks, or the parts of a Hangul syllable."""
    start = 0
    for i, c in enumerate(line):
        joins = unicodedata.category(c).startswith("M") or c in "ﾞﾟ" or "\u1160" <= c <= "\u11ff"
        if i > start and not joins:
            yield line[start:i]
            start = i
    if line:
        yield line[start:]


def around(symbols: Sequence[str], change: Callable[[str], str], line: str, space: str = "") -> str:
    """Change the parts of a line between the symbols, and join all by `space`."""
    if not symbols:
        return change(line)
    longest_first = "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
    parts = re.split(f"({longest_first})", line)
    parts[::2] = map(change, parts[::2])
    return space.join(part for part in parts if part)
