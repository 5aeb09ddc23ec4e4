"""Whether text is written in the script of its language.

Scripts tell German from Chinese, but not German from French.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

from fontTools.unicodedata import script, script_name

from ..config import languages
from ..config.languages import Language

FEW_LINES = 100
"""Fewer lines with letters say nothing."""
LEAST_LINES = 0.1
"""Least share of the lines with letters that is in the language's script."""
LEAST_LETTERS = 0.25
"""Least share of such a line's letters: names and loanwords may be longer than the rest."""
DENSE = {"Hani": 3, "Hira": 2, "Kana": 2, "Hang": 2}
"""Script -> about so many letters of an alphabet say what one of its letters does."""
WITHOUT_KANA = 8
"""No Japanese sentence has so many Chinese characters and no syllable sign."""
NO_SCRIPT = ("Zyyy", "Zinh", "Zzzz")
"""ISO 15924: used by many scripts, inherited from the character before, unknown."""
LETTERS = {
    **dict.fromkeys(languages.CHINESE, ("Hani", "Bopo")),
    **dict.fromkeys(languages.JAPANESE, ("Hani", "Hira", "Kana")),
    **dict.fromkeys(languages.KOREAN, ("Hang",)),
}
"""Script of a language -> those of its letters, where they have other codes."""


@cache
def _script(character: str) -> str | None:
    """Return the script of a letter; None for any other character."""
    if not unicodedata.category(character).startswith("L"):
        return None
    found = str(script(character))
    return None if found in NO_SCRIPT else found


def letters_by_script(line: str) -> Counter[str]:
    """Count a line's letters by script (ISO 15924)."""
    return Counter(found for character in line if (found := _script(character)))


def is_written(letters: Counter[str], spoken: Language) -> bool:
    """Return whether a line with these letters may be text of a language."""
    expected = {letter for code in spoken.scripts for letter in LETTERS.get(code, (code,))}
    written = {code: count * DENSE.get(code, 1) for code, count in letters.items()}
    own = sum(written.get(code, 0) for code in expected)
    if own < LEAST_LETTERS * sum(written.values()):
        return False
    if spoken.is_chinese:
        return not letters["Hira"]
    has_kana = bool(letters["Hira"] or letters["Kana"])
    return not spoken.is_japanese or has_kana or letters["Hani"] < WITHOUT_KANA


class ScriptCount:
    """How many lines of a text are written in the script of its language, and in which they are."""

    def __init__(self, lines: Iterable[str], tag: str) -> None:
        self.spoken, self.scripts = languages.language(tag), Counter[str]()
        self.lines = self.written = 0
        for line in lines:
            if found := letters_by_script(line):
                self.lines += 1
                self.written += is_written(found, self.spoken)
                self.scripts += found

    @property
    def is_other(self) -> bool:
        """Whether the text is plainly not in its language."""
        known = bool(self.spoken.scripts) and self.lines >= FEW_LINES
        return known and self.written < LEAST_LINES * self.lines

    def __str__(self) -> str:
        shares = (
            f"{script_name(code)} {count / self.scripts.total():.0%}"
            for code, count in self.scripts.most_common(2)
        )
        return (
            f"{self.lines - self.written:,} of {self.lines:,} lines are not ({', '.join(shares)})"
        )
