"""Text made safe for the place where it is shown: a terminal, a message, Markdown, JSON.

What is shown is what was written. A character that would act instead of being seen, such as the
escape character at a terminal, is shown by its code.
"""

import json
import re
from typing import Any

_ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, Unicode's line ends, and halves of characters."""
_MARKDOWN = re.compile(r"[&<~$\\`*\[\]|#]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", "~": "&#126;", "$": "&#36;"}
"""Characters that some Markdown programs act on but that a backslash does not protect in all."""
LONGEST = 600
"""The most characters of an error message."""
GAP = " [...] "


def escaped(text: str) -> str:
    r"""Return text with each control character by its code, as in Python: \x1b, \n, \u2028."""
    return _ACTS.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str, most: int = LONGEST) -> str:
    """Return text of at most so many characters: a longer one without its middle."""
    if len(text) <= most:
        return text
    start = (most - len(GAP)) * 2 // 3
    return text[:start] + GAP + text[start + len(GAP) - most :]


def markdown(text: str) -> str:
    """Return text as Markdown that shows it literally, also in the cell of a table."""
    return _MARKDOWN.sub(lambda char: _ENTITIES.get(char[0], "\\" + char[0]), escaped(text))


def json_line(value: Any) -> str:
    r"""Return a value as JSON on one line, in real characters, but with control characters as \u.

    No program takes a character of it for the end of a line.
    """
    line = json.dumps(value, ensure_ascii=False)
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
