"""How a settings class checks its values: ranges of numbers, and settings that nothing would read.

Every error is a ValueError `group.key=value: expected ...`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from typing import Any

from ..shown import brief

RANGE = "range"
"""Key of a field's metadata that holds its Range."""
MOST = 10**12
"""The largest count that a setting accepts, where nothing else limits it."""
PATH = "path"
"""Key of a field's metadata that marks the path of a file or folder."""
_saved: ContextVar[bool] = ContextVar("settings of a saved run", default=False)
_unread: ContextVar[dict[str, str] | None] = ContextVar("settings without effect", default=None)


@dataclass(frozen=True)
class Range:
    """The numbers that a setting accepts; None is no limit."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (isinstance(value, int) or math.isfinite(value))  # a float holds no large whole number
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        limits = {
            "at least": self.at_least,
            "more than": self.above,
            "at most": None if self.at_most == MOST else self.at_most,
            "less than": self.below,
        }
        return " and ".join(f"{words} {n}" for words, n in limits.items() if n is not None)

    def expected(self, value: float) -> str:
        """Return in words the limits that a value breaks."""
        return f"at most {MOST}" if self.at_most == MOST < value else str(self)


def number(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with its default and its range; a tuple has it per item."""
    return field(default=default, metadata={RANGE: Range(at_least, above, at_most, below)})


def numbers(default: Sequence[int], *, at_least: int, at_most: int = MOST) -> Any:
    """Return a dataclass field for a list of numbers, each in a range."""
    bounds = Range(at_least, at_most=at_most)
    return field(default_factory=lambda: list(default), metadata={RANGE: bounds})


def path(default: str | None = None) -> Any:
    """Return a dataclass field for the path of a file or folder; ~ is the home folder in it."""
    return field(default=default, metadata={PATH: True})


def as_text(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_text, value))}]"
    return str(value)


def dotted(group: str, name: str) -> str:
    """Return the dotted key of a setting; the group is empty for settings of the run itself."""
    return f"{group}.{name}" if group else name


def check_ranges(settings: Any, group: str) -> None:
    """Raise ValueError for the first number of a settings object that is out of its range.

    A tuple has as many numbers as its default.
    """
    for f in fields(settings):
        value, bounds = getattr(settings, f.name), f.metadata.get(RANGE)
        if bounds is None:
            continue
        parts = value if isinstance(value, (list, tuple)) else [value]
        count = len(f.default) if isinstance(f.default, tuple) else len(parts)
        wrong = [n for n in parts if n is not None and n not in bounds]
        if wrong or len(parts) != count:
            each = f"{count} numbers, each " if isinstance(f.default, tuple) else ""
            limit = bounds.expected(wrong[0]) if wrong else bounds
            shown = brief(as_text(value))
            raise ValueError(f"{dotted(group, f.name)}={shown}: expected {each}{limit}")


def expand_paths(settings: Any) -> None:
    """Replace ~ and ~NAME at the start of each path of a settings object by that home folder."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.metadata.get(PATH) and value is not None:
            setattr(settings, f.name, os.path.expanduser(value))


@contextmanager
def saved_settings() -> Iterator[None]:
    """Accept what an earlier version saved: a setting without effect returns to its default.

    Everywhere else such a setting is refused.
    """
    token = _saved.set(True)
    try:
        yield
    finally:
        _saved.reset(token)


def only_with(settings: Any, group: str, condition: str, holds: bool, *names: str) -> None:
    """Raise ValueError for a setting that only has an effect under a condition that does not hold.

    Its default is always accepted. `condition` names the settings that make it matter.
    """
    if holds or note_unless(group, condition, holds, *names):
        return
    defaults = {f.name: default_of(f) for f in fields(settings) if f.name in names}
    for name, default in defaults.items():
        value = getattr(settings, name)
        if value == default:
            continue
        if not _saved.get():
            raise ValueError(
                f"{dotted(group, name)}={brief(as_text(value))}: expected {as_text(default)}, the"
                f" default: another value has an effect only with {condition}"
            )
        setattr(settings, name, default)


def note_unless(group: str, condition: str, holds: bool, *names: str) -> bool:
    """Note settings that only have an effect under a condition that does not hold.

    Unlike `only_with` this refuses no value: a sweep may set them for all its runs, and earlier
    runs have them. Return whether settings are being noted (see `noting`).
    """
    found = _unread.get()
    if found is not None and not holds:
        found.update({dotted(group, name): condition for name in names})
    return found is not None


@contextmanager
def noting() -> Iterator[dict[str, str]]:
    """Give the settings without effect of what is checked inside: key -> condition.

    Inside nothing is refused for its combination with other settings.
    """
    found: dict[str, str] = {}
    token = _unread.set(found)
    try:
        yield found
    finally:
        _unread.reset(token)


def refuse(message: str) -> None:
    """Raise ValueError, except for a combination that a saved run has already been trained with."""
    if not _saved.get() and _unread.get() is None:
        raise ValueError(message)


def default_of(f: "Field[Any]") -> Any:
    """Return the default of a dataclass field."""
    return f.default if f.default_factory is MISSING else f.default_factory()
