"""Command lines with options: an error is one line that names the option as it was typed."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from ..config.checks import RANGE, Range
from ..config.choices import expected_one_of
from ..shown import as_message, escaped
from .foreign import ours

N = TypeVar("N", int, float)
ARGUMENT = re.compile(r"argument (\S+): (?:'(.*)': (?=expected |did you mean ))?", re.DOTALL)
"""How argparse begins an error, and the value that the types below put before "expected"."""
LISTS = "--help lists"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to show and explain what other toolkits call an option."""

    knows_others = True
    """Whether an option of another toolkit is answered with ours."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; exit with code 2 where an unknown option has another name here."""
        given = sys.argv[1:] if args is None else list(args)
        for option in takewhile(lambda word: word != "--", given if self.knows_others else []):
            known = option.partition("=")[0] in self._option_string_actions
            if not known and (found := ours(option, self._option_string_actions)):
                is_none = re.match(r"no (such )?option[:;] ", found)
                answer = found[is_none.end() :] if is_none else f"instead: {found}"
                self.exit(2, f"{self.prog}: {escaped(option)}: not an option here; {answer}\n")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line."""
        found = ARGUMENT.match(message)
        if found is not None:
            value = "" if found[2] is None else f" {found[2]}"
            message = f"{found[1]}{value}: {message[found.end() :]}"
        tail = "" if LISTS in message else f" ({LISTS} the options)"
        self.exit(2, as_message(f"{self.prog}: {message}{tail}") + "\n")


def parser(description: str | None) -> Parser:
    """Return a parser of a command line whose --help shows the description as it is written.

    Options have to be written in full: a part of another option's name is no option.
    """
    return Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


# -- types of options: argparse calls them with what was typed ---


def whole(bounds: Range | None = None) -> Callable[[str], int]:
    """Return the type of an option that is a whole number in a range."""
    return _number(int, "a whole number", bounds)


def decimal(bounds: Range | None = None) -> Callable[[str], float]:
    """Return the type of an option that is a number in a range."""
    return _number(float, "a number", bounds)


def setting(group: Any, name: str) -> Callable[[str], Any]:
    """Return the type of an option that replaces a number of a settings class, with its range."""
    [found] = [f for f in fields(group) if f.name == name]
    kind = whole if int in (found.type, *get_args(found.type)) else decimal
    return kind(found.metadata[RANGE])


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return the type of an option that is one of these names."""
    known = list(names)

    def read(typed: str) -> str:
        if typed not in known:
            raise argparse.ArgumentTypeError(f"'{typed}': {expected_one_of(typed, known, LISTS)}")
        return typed

    return read


def some_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the type of an option that is some of these names, with commas."""
    one = one_of(names)
    return lambda typed: list(dict.fromkeys(one(name) for name in typed.split(",")))


def output_file(typed: str) -> Path:
    """Return the path of a file to write; refuse one that cannot be written, before any work."""
    path = Path(typed)
    if path.is_dir():
        raise wrong(typed, "a file; this is a folder")
    _check_place(typed, path.parent)
    return path


def output_folder(typed: str) -> Path:
    """Return the path of a folder to write in; refuse one that cannot be, before any work."""
    _check_place(typed, Path(typed))
    return Path(typed)


def _check_place(typed: str, folder: Path) -> None:
    """Raise the error of a type if a folder is none, or may not be written or made."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise wrong(typed, f"a place in a folder; {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise wrong(typed, f"a folder that may be written; {there} may not")


def wrong(typed: str, expected: str) -> argparse.ArgumentTypeError:
    """Return the error of a type: what was typed, and what was expected."""
    return argparse.ArgumentTypeError(f"'{typed}': expected {expected}")


def _number(kind: Callable[[str], N], words: str, bounds: Range | None) -> Callable[[str], N]:
    def read(typed: str) -> N:
        try:
            found = kind(typed)
        except ValueError as error:
            raise wrong(typed, words) from error
        if bounds is not None and found not in bounds:
            raise wrong(typed, bounds.expected(found))
        return found

    return read
