"""Text made safe for the place where it is shown: a terminal, a message, Markdown, JSON.

What is shown is what was written. A character that would act instead of being seen, such as the
escape character at a terminal, is shown by its code.
"""

import json
import re
from typing import Any

from .errors import Diverged

_ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, Unicode's line ends, and halves of characters."""
_MARKDOWN = re.compile(r"[&<~$\\`*\[\]|#]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", "~": "&#126;", "$": "&#36;"}
"""Characters that some Markdown programs act on but that a backslash does not protect in all."""
LONGEST = 200
"""The most characters of a message, its paths counted by their last names: two lines of 100."""
FOLDERS = re.compile(r"(?:[^\s/'\"=:;,()]*/)+(?=[^\s/])")
"""The folders of a path."""
WORD, VALUE_WORD = re.compile(r"[^\s/]+"), re.compile(r"[^\s/=]+")
"""A word or the name of a file; the same, with a setting's key and its value apart."""
NAME = 255
"""The most characters of a file's name."""
VALUE = 60
"""The most characters of a value in a message."""
ELLIPSIS, GAP = "…", " [...] "
"""In place of the middle of a value, and of a whole message."""


def escaped(text: str) -> str:
    r"""Return text with each control character by its code, as in Python: \x1b, \n, \u2028."""
    return _ACTS.sub(lambda found: ascii(found[0])[1:-1], text)


def brief(value: str, most: int = VALUE) -> str:
    """Return a value of at most so many characters: a longer one without its middle."""
    if len(value) <= most:
        return value
    end = (most - len(ELLIPSIS)) // 3
    return value[: most - len(ELLIPSIS) - end] + ELLIPSIS + value[-end:]


def counted(number: float, noun: str, form: str = ",") -> str:
    """Return a number with its noun, whose plural ends in s: 1 pair, 2,000 pairs, 1.5 hours."""
    shown = format(number, form)
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def are(number: int) -> str:
    """Return the verb for so many things: is, are."""
    return "is" if number == 1 else "are"


def as_message(text: str) -> str:
    """Return a message on one line of at most LONGEST characters, besides the folders of paths.

    Control characters have their codes. Long words are cut first, then the middle of the rest.
    """
    line = escaped(" ".join(part.strip() for part in text.split("\n")).strip())
    line = _cut(line, WORD, NAME)  # also so that the search for folders takes no time
    for words, most in ((VALUE_WORD, 80), (VALUE_WORD, 40), (WORD, 80), (WORD, 40)):
        if len(_counted(line)) <= LONGEST:
            return line
        line = _cut(line, words, most)
    places = _counted(line)
    if len(places) <= LONGEST:
        return line
    end = (LONGEST - len(GAP)) * 2 // 3  # which says what to do
    return line[: places[LONGEST - len(GAP) - end]] + GAP + line[places[-end] :]


def failed_job(overrides: str, reason: str) -> str:
    """Return the message about a job that failed or diverged.

    Of many overrides it names the last, which a sweep varies. What may help a run that diverged is
    left out: its divergence is a result of the sweep.
    """
    begins = "failed: "
    if reason.startswith(Diverged.BEGINS):
        begins, reason = Diverged.BEGINS, reason.removeprefix(Diverged.BEGINS).partition(";")[0]
    room = max(LONGEST - len(f"{begins}: {reason}"), VALUE)
    named = overrides if len(overrides) <= room else ELLIPSIS + overrides[1 - room :]
    return as_message(f"{begins}{named}: {reason}")


def _cut(line: str, words: "re.Pattern[str]", most: int) -> str:
    return words.sub(lambda word: brief(word[0], most), line)


def _counted(line: str) -> list[int]:
    """Return the positions of the characters that are not those of a path's folders."""
    folders = {i for found in FOLDERS.finditer(line) for i in range(*found.span())}
    return [i for i in range(len(line)) if i not in folders]


def markdown(text: str) -> str:
    """Return text as Markdown that shows it literally, also in the cell of a table."""
    return _MARKDOWN.sub(lambda char: _ENTITIES.get(char[0], "\\" + char[0]), escaped(text))


def json_line(value: Any) -> str:
    r"""Return a value as JSON on one line, in real characters, but with control characters as \u.

    No program takes a character of it for the end of a line.
    """
    line = json.dumps(value, ensure_ascii=False)
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
