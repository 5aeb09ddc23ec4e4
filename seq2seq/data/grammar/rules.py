"""File format of a synchronous grammar: rules and word tables, read and checked.

The head of the built-in corpus' `grammar.txt` explains the format.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

from ...errors import DataError
from ...shown import brief, counted
from ..text import read_lines
from .numerals import BOUNDS, GENERATORS, LANGUAGES

Values = frozenset[str]
Words = tuple[str, ...]
EMPTY = "-"
"""A word or a feature value that is written as nothing."""


@dataclass(frozen=True)
class Variable:
    """`$name` in a rule: a feature value that is the same wherever the variable occurs.

    Its first occurrence may limit it to some values: `$name:values`.
    """

    name: str
    limit: Values | None = None


@dataclass(frozen=True)
class Reference:
    """`Child.column` in an output: a child's words; a variable's value may name the column."""

    child: str
    column: str | Variable


Item = str | Variable | Reference
Features = dict[str, Values | Variable]


@dataclass(frozen=True)
class Child:
    """`Name=Category(feature=value ...)` in a rule."""

    name: str
    category: str
    features: Features


@dataclass(frozen=True)
class Alternative:
    """A rule, or an entry of a word table, which has no children."""

    category: str
    line: int
    features: Features
    weight: float
    grow: int
    children: tuple[Child, ...]
    outputs: dict[str, tuple[Item, ...]]

    def items(self) -> Iterator[Item]:
        """Yield the items of all outputs."""
        return chain.from_iterable(self.outputs.values())


@dataclass
class Side:
    """The rules by which one language's words become a sentence."""

    name: str
    joint: str
    capital: bool
    rewrites: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    forbidden: list[re.Pattern[str]] = field(default_factory=list)

    def write(self, words: Words) -> str:
        """Return words as a sentence: joined, rewritten and capitalised."""
        text = self.joint.join(words)
        for pattern, replacement in self.rewrites:
            text = pattern.sub(replacement, text)
        return text[:1].upper() + text[1:] if self.capital else text

    def forbids(self, text: str) -> bool:
        """Return whether a finished sentence contains a forbidden pattern."""
        return any(pattern.search(text) for pattern in self.forbidden)


class GrammarParser:
    """Parser of a grammar file; `line` is the number of the current line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        self.start = ""
        self.sides: dict[str, Side] = {}
        self.sets: dict[str, Values] = {}
        self.once: set[str] = set()
        self.alternatives: list[Alternative] = []
        self.block: Alternative | None = None  # the current rule, or head of a word table
        self.columns: list[str] = []  # columns of the current word table; empty in a rule
        self.outputs_of: dict[str, set[str]] = {}  # outputs that a category always has
        self.features_of: dict[str, set[str]] = {}  # features that a category may have

    def parse(self) -> tuple[str, tuple[Side, Side], tuple[Alternative, ...], Values]:
        """Return the start category, both sides, the alternatives in file order, and `once`.

        Raise DataError with file, line, value and what was expected.
        """
        for number, full_text in enumerate(read_lines(self.path), start=1):
            self.line = number
            text = re.sub(r"(^|\s)#.*", "", full_text).rstrip()
            if not text:
                continue
            if text[0].isspace():
                self._body(text.split())
            else:
                self._head(text)
        self._check()
        source, target = self.sides.values()
        return self.start, (source, target), tuple(self.alternatives), frozenset(self.once)

    def _fail(self, message: str, line: int | None = None) -> NoReturn:
        """Raise DataError about a line, by default the current one."""
        raise DataError(f"{self.path}:{line or self.line}: {message}")

    def _head(self, text: str) -> None:
        """Read a line that is not indented: a setting, or the head of a rule or word table."""
        self.block, self.columns = None, []
        match text.split():
            case ["start", category] if not self.start:
                self.start = category
            case ["side", *words]:
                self._side(words)
            case ["rewrite", name, _, *_] if name in self.sides:
                self.sides[name].rewrites.append(self._rewrite(text.split(maxsplit=2)[2]))
            case ["forbid", name, _, *_] if name in self.sides:
                self.sides[name].forbidden.append(self._pattern(text.split(maxsplit=2)[2]))
            case ["once", *categories]:
                self.once |= set(categories)
            case ["set", name, values] if name not in self.sets:
                self.sets[name] = self._values(values)
            case ["rule", category, *features]:
                self.block = self._alternative(category, features)
                self.alternatives.append(self.block)
            case ["words", category, *words] if words:
                self.columns = [word for word in words if "=" not in word]
                self._check_once(self.columns, "column")
                self.block = self._alternative(category, words[len(self.columns) :])
            case _:
                expected = "start, side, rewrite, forbid, once, set, rule or words"
                self._fail(f"{brief(text)!r}: expected {expected}, start and each set once")

    def _side(self, words: list[str]) -> None:
        """Read the side of a language."""
        match words:
            case [name, ("spaced" | "unspaced") as joint, *options] if options in ([], ["capital"]):
                if name in self.sides:
                    self._fail(f"side {name!r}: expected each side once")
                self.sides[name] = Side(name, " " * (joint == "spaced"), bool(options))
            case _:
                found = brief(" ".join(["side", *words]))
                self._fail(f"{found!r}: expected 'side NAME spaced' or unspaced, and maybe capital")

    def _rewrite(self, text: str) -> tuple[re.Pattern[str], str]:
        """Return the pattern and the replacement of a rewrite line."""
        parts = text.split(" => ")
        if len(parts) != 2:
            self._fail(f"{brief(text)!r}: expected PATTERN => TEXT, with one ' => '")
        pattern, replacement = self._pattern(parts[0]), parts[1].strip().strip('"')
        try:
            pattern.sub(replacement, "")
        except (re.error, IndexError) as error:  # IndexError: a group's name
            self._fail(
                f"{brief(replacement)!r}: expected text with groups of its pattern ({error})"
            )
        return pattern, replacement

    def _check_once(self, names: Iterable[str], kind: str) -> None:
        """Check that no name occurs twice, of which one would be lost."""
        for name, count in Counter(names).items():
            if count > 1:
                self._fail(f"{name!r}: expected each {kind} once")

    def _pattern(self, text: str) -> re.Pattern[str]:
        """Compile a regular expression, which may be in quotes."""
        text = text.strip().strip('"')
        try:
            return re.compile(text)
        except re.error as error:
            self._fail(f"{brief(text)!r}: expected a regular expression ({error})")

    def _alternative(self, category: str, words: list[str]) -> Alternative:
        """Return an alternative with features, weight and `grow`, but without outputs yet."""
        if category in GENERATORS:
            self._fail(f"{category!r}: expected another name than that of a built-in category")
        features = self._features(words)
        weight = float(self._number(features.pop("weight", None), r"\d{1,9}(\.\d{1,9})?", "1"))
        grow = int(self._number(features.pop("grow", None), r"\d{1,9}", "0"))
        return Alternative(category, self.line, features, weight, grow, (), {})

    def _number(self, value: Values | Variable | None, form: str, default: str) -> str:
        """Return the number of this form that a feature's value writes."""
        text = default if value is None else _written(value)
        if not re.fullmatch(form, text):
            whole = "" if "." in form else "whole "
            self._fail(f"{brief(text)!r}: expected a {whole}number below 1,000,000,000")
        return text

    def _features(self, words: list[str]) -> Features:
        """Return the features that words like name=value, name=a|b and name=$variable write."""
        features: Features = {}
        self._check_once((word.partition("=")[0] for word in words), "feature")
        for word in words:
            name, equals, value = word.partition("=")
            if not (name and equals and value):
                self._fail(f"{word!r}: expected feature=value")
            variable, colon, limit = value.partition(":")
            if variable[0] == "$":
                limited = self._values(limit) if colon else None
                features[name] = Variable(variable[1:], limited)
            else:
                features[name] = self._values(value)
        return features

    def _values(self, text: str) -> Values:
        """Return the values that a|b writes, with the names of sets replaced by their values."""
        values = (self.sets.get(value, frozenset({value})) for value in text.split("|"))
        return frozenset().union(*values)

    def _body(self, words: list[str]) -> None:
        """Read an indented line: a part of the current rule, or an entry of the word table."""
        if self.block is None:
            self._fail(f"{words[0]!r}: expected a rule or a word table above this indented line")
        if self.columns:
            self._entry(self.block, words)
            return
        rule, name = self.block, words[0]
        if name == "with":
            rule = replace(rule, children=(*rule.children, *self._children(" ".join(words[1:]))))
            self._check_once((child.name for child in rule.children), "part")
        elif name in rule.outputs:
            self._fail(f"{name!r}: expected each output once in a rule")
        else:
            names = {child.name for child in rule.children}
            items = tuple(self._item(word, name, names) for word in words[1:])
            rule = replace(rule, outputs={**rule.outputs, name: items})
        self.block = self.alternatives[-1] = rule

    def _entry(self, table: Alternative, words: list[str]) -> None:
        """Read an entry of a word table: cells ('+s' is the first one with an s), then features."""
        cells = [word for word in words if "=" not in word]
        if len(cells) != len(self.columns):
            columns = f"{counted(len(self.columns), 'column')} ({' '.join(self.columns)})"
            self._fail(f"{brief(' '.join(cells))!r}: expected {columns}")
        cells = [cells[0] + cell[1:] if cell[0] == "+" else cell for cell in cells]
        entry = self._alternative(table.category, words[len(cells) :])
        outputs: dict[str, tuple[Item, ...]] = {
            name: tuple(cell.split("_")) for name, cell in zip(self.columns, cells, strict=True)
        }
        features = {**table.features, **entry.features}
        weight = entry.weight * table.weight
        self.alternatives.append(replace(entry, features=features, weight=weight, outputs=outputs))

    def _children(self, text: str) -> list[Child]:
        """Return the children that a rule's `with` line names."""
        pattern = r"\s*(\w+)=(\w+)(?:\(([^()]*)\))?(?=\s|$)"
        if not re.fullmatch(f"({pattern})+", text):
            self._fail(f"{brief(text)!r}: expected 'with Name=Category(feature=value ...) ...'")
        return [
            Child(name, category, self._features(features.split()))
            for name, category, features in re.findall(pattern, text)
        ]

    def _item(self, word: str, output: str, names: set[str]) -> Item:
        """Return a word of an output: itself, a variable, or a reference to one of the children."""
        child, dot, column = word.partition(".")
        if child in names and (column or not dot):
            column = column or output
            return Reference(child, Variable(column[1:]) if column[0] == "$" else column)
        if re.fullmatch(r"[A-Z]\w*\.\S+", word):
            self._fail(f"{word!r}: expected the name of a child of this rule before the dot")
        return Variable(word[1:]) if word[0] == "$" else word

    def _check(self) -> None:
        """Check what is known only after the whole file is read."""
        if len(self.sides) != 2:
            self._fail(f"sides {list(self.sides)}: expected two 'side' lines")
        columns, features = self.outputs_of, self.features_of
        entries: dict[object, int] = {}
        for a in self.alternatives:
            columns[a.category] = columns.get(a.category, set(a.outputs)) & set(a.outputs)
            features.setdefault(a.category, set()).update(a.features)
            identity = (a.category, *a.outputs.items(), frozenset(a.features.items()))
            if not a.children and (first := entries.setdefault(identity, a.line)) != a.line:
                message = f"{a.category}: expected each entry once, line {first} has the same"
                self._fail(message, a.line)
        if self.start not in columns or not columns[self.start] >= set(self.sides):
            sides = " and ".join(self.sides)
            self._fail(f"start {self.start!r}: expected a category that gives {sides}")
        for category in sorted(self.once - columns.keys()):
            self._fail(f"once {category!r}: expected a category that has rules or words")
        for rule in self.alternatives:
            self._check_variables(rule)
            for child in rule.children:
                self._check_child(rule, child)
        finite = _finite_categories(self.alternatives)
        for rule in self.alternatives:
            if (category := rule.category) not in finite:
                message = f"{category}: expected a rule or entry without {category} in it"
                self._fail(message, rule.line)

    def _check_variables(self, rule: Alternative) -> None:
        """Check that each variable of an output occurs in a feature."""
        given = [rule.features, *(child.features for child in rule.children)]
        values = [value for part in given for value in part.values()]
        names = {value.name for value in values if isinstance(value, Variable)}
        for item in rule.items():
            variable = item.column if isinstance(item, Reference) else item
            if isinstance(variable, Variable) and variable.name not in names:
                expected = "a variable of this rule's or its parts' features"
                self._fail(f"${variable.name}: expected {expected}", rule.line)

    def _check_child(self, rule: Alternative, child: Child) -> None:
        """Check a child's category, features and outputs against what the whole file defines."""
        category = child.category
        if category in GENERATORS:
            self._check_bounds(rule, child)
        elif category not in self.outputs_of:
            self._fail(f"{category!r}: expected a category that has rules or words", rule.line)
        else:
            for unknown in sorted(child.features.keys() - self.features_of[category]):
                self._fail(f"{unknown!r}: expected a feature that {category} has", rule.line)
        outputs = set(LANGUAGES) if category in GENERATORS else self.outputs_of[category]
        for item in rule.items():
            if not isinstance(item, Reference) or isinstance(item.column, Variable):
                continue
            if item.child == child.name and item.column not in outputs:
                given = " ".join(sorted(outputs))
                place = f"{child.name}.{item.column}"
                self._fail(f"{place}: expected an output of {category} ({brief(given)})", rule.line)

    def _check_bounds(self, rule: Alternative, child: Child) -> None:
        """Check that a number, date, year or clock time has two bounds."""
        if set(child.features) != {"low", "high"}:
            expected = f"{child.category}(low=NUMBER high=NUMBER)"
            self._fail(f"{child.name}: expected {expected}", rule.line)
        texts = {name: _written(value) for name, value in child.features.items()}
        for name, text in texts.items():
            if not re.fullmatch(r"\d{1,9}", text):
                self._fail(f"{name}={brief(text)}: expected a whole number", rule.line)
        low, high = int(texts["low"]), int(texts["high"])
        least, most = BOUNDS[child.category]
        without_year = child.category == "date" and high == 0
        if not (least <= low <= high <= most or without_year):
            expected = f"{least} <= low <= high <= {most}"
            self._fail(f"{child.name}: low={low} high={high}: expected {expected}", rule.line)


def _written(value: Values | Variable) -> str:
    """Return a feature's value as a file writes it."""
    return f"${value.name}" if isinstance(value, Variable) else "|".join(sorted(value))


def _finite_categories(alternatives: Iterable[Alternative]) -> set[str]:
    """Return the categories that have an alternative of which no part has to contain itself."""
    finite = set(GENERATORS)
    while True:
        found = {a.category for a in alternatives if {c.category for c in a.children} <= finite}
        if found <= finite:
            return finite
        finite |= found
