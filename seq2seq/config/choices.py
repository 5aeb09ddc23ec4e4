"""The names that a value may have, in an error: all of a few, the nearest ones of many."""

from collections.abc import Sequence
from difflib import get_close_matches

LISTED = 105
"""The most characters of a list in an error; of a longer one the nearest names are given."""
NEAREST = 3
"""How many these are."""
READ = 100
"""Characters of a typed word that are compared with the names: no name has more."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean X?" for a known word that is close, else nothing."""
    near = _close(word, known)
    return f"; did you mean {near}?" if near else ""


def expected_one_of(word: str, known: Sequence[str], everywhere: str) -> str:
    """Return what was expected of a word that is not among the known ones.

    `everywhere` says where all of them are, such as "--help lists".
    """
    listed = ", ".join(known)
    if len(listed) <= LISTED:
        return f"expected one of {listed}{did_you_mean(word, known)}"
    near = _close(word, known)
    others = [name for name in get_close_matches(word[:READ], known, len(known), 0) if name != near]
    shown = ", ".join([*([near] if near else []), *others][:NEAREST])
    asked = f"did you mean {near}? " if near else ""
    return f"{asked}expected {shown} or another of the {len(known)} that {everywhere}"


def _close(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that is like this one, or has the same last part."""
    last = word.rpartition(".")[2]
    same = sorted(
        (k for k in known if k != word and k.rpartition(".")[2] == last),
        key=lambda k: (k.startswith("data."), k),
    )
    close = get_close_matches(word[:READ], known, 1) or same[:1]
    return close[0] if close else None
