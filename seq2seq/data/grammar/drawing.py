"""Drawing of sentence pairs from a synchronous grammar.

An alternative is one way to write a category: a rule, or one entry of a word table. Expanding a
category means three steps. Choose an alternative whose features agree with the requested ones;
expand its children in the order written; fill in its outputs. Feature values are sets, and two
sets agree where they intersect.
"""

import random
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from ...config import GrammarSplit
from ...shown import counted
from .numerals import GENERATORS
from .rules import EMPTY, Alternative, Child, GrammarParser, Side, Values, Variable, Words

Wanted = Mapping[str, Values]
"""The features that are asked of a category."""
Choice = tuple[list[Alternative], list[float]]
"""The alternatives of a category, and the running sums of their weights."""
NEW_ATTEMPTS = 10
"""Draws for a word that the sentence does not contain yet."""
MOST_ATTEMPTS = 100_000
"""Draws for one suitable sentence before giving up."""


class Pair(NamedTuple):
    """One sentence in both languages."""

    source: str
    target: str


class Derivation(NamedTuple):
    """A sentence that is being drawn: its random numbers, and the alternatives used so far."""

    rng: random.Random
    used: list[Alternative]


class Node(NamedTuple):
    """An expanded category: its features as far as they are known, and its words by output."""

    features: dict[str, Values]
    outputs: dict[str, Words]


@dataclass
class Grammar:
    """A synchronous grammar; `sides` holds the source language, then the target language."""

    start: str
    sides: tuple[Side, Side]
    alternatives: tuple[Alternative, ...]
    once: frozenset[str]
    _by_category: dict[str, list[Alternative]] = field(init=False, repr=False)
    _growing: set[str] = field(init=False, repr=False)
    _choices: dict[object, Choice] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_category = defaultdict(list)
        for alternative in self.alternatives:
            self._by_category[alternative.category].append(alternative)
        self._growing = _growing_categories(self.alternatives)

    def sample(self, rng: random.Random, max_words: int | None = None, min_words: int = 1) -> Pair:
        """Draw a pair whose source has min_words to max_words words (None: min_words + 20)."""
        return self.derive(rng, max_words, min_words)[0]

    def derive(
        self, rng: random.Random, max_words: int | None = None, min_words: int = 1
    ) -> tuple[Pair, list[Alternative]]:
        """Draw a pair as `sample` does; return it with the alternatives it was made of."""
        most = min_words + 20 if max_words is None else max_words
        if not 1 <= min_words <= most:
            found = f"min_words {min_words}, max_words {max_words}"
            raise ValueError(f"{found}: expected 1 <= min_words <= max_words")
        for _ in range(MOST_ATTEMPTS):
            drawn = Derivation(rng, [])
            try:
                node = self._expand(drawn, self.start, {}, rng.randint(min_words, most))
            except RecursionError as error:
                [(line, _)] = Counter(a.line for a in drawn.used).most_common(1)
                raise ValueError(
                    f"line {line}: repeats itself too deeply; expected grow=WORDS in rules that"
                    " contain themselves, or a smaller weight"
                ) from error
            source, target = (side.write(node.outputs[side.name]) for side in self.sides)
            fits = min_words <= len(source.split()) <= most
            if fits and not (self.sides[0].forbids(source) or self.sides[1].forbids(target)):
                return Pair(source, target), drawn.used
        raise ValueError(f"no sentence of {min_words} to {most} words in {MOST_ATTEMPTS} draws")

    def _expand(self, drawn: Derivation, category: str, wanted: Wanted, size: int) -> Node:
        """Expand a category, with the wanted features, to about `size` source words."""
        if category in GENERATORS:
            return _generate(drawn.rng, category, wanted)
        alternative = self._choose(drawn, category, wanted, size)
        drawn.used.append(alternative)
        bound = _bind_wanted(alternative, wanted)
        nodes: dict[str, Node] = {}
        growing_left = sum(child.category in self._growing for child in alternative.children)
        for child in alternative.children:
            growing = child.category in self._growing
            share = max(1, size // growing_left) if growing else 1
            node = self._expand(drawn, child.category, _resolve(child.features, bound), share)
            nodes[child.name] = node
            size -= len(node.outputs.get(self.sides[0].name, ()))
            growing_left -= growing
            _bind(child, node, bound)
        outputs = {name: _fill(alternative, name, nodes, bound) for name in alternative.outputs}
        features = _resolve(alternative.features, bound)
        known = {name: values & wanted.get(name, values) for name, values in features.items()}
        return Node(known, outputs)

    def _choose(self, drawn: Derivation, category: str, wanted: Wanted, size: int) -> Alternative:
        """Draw an alternative by its weight; of a `once` category preferably an unused one."""
        key = (category, size, frozenset(wanted.items()))
        if key not in self._choices:
            self._choices[key] = self._weigh(category, wanted, size)
        alternatives, sums = self._choices[key]
        used = {a.line for a in drawn.used} if category in self.once else set()
        for _ in range(1 + NEW_ATTEMPTS):
            place = bisect(sums, drawn.rng.random() * sums[-1], hi=len(sums) - 1)
            if alternatives[place].line not in used:
                break
        return alternatives[place]

    def _weigh(self, category: str, wanted: Wanted, size: int) -> Choice:
        """Return the alternatives that agree with the wanted features, and summed weights."""
        able = [a for a in self._by_category[category] if _agrees(a, wanted)]
        weights = [
            0.0 if size < a.grow else a.weight * (size / a.grow) ** 2 if a.grow else a.weight
            for a in able
        ]
        if not any(weights):
            asked = " ".join(f"{key}={'|'.join(sorted(values))}" for key, values in wanted.items())
            words = counted(size, "word")
            raise ValueError(f"{category}({asked}): expected a rule or entry for {words}")
        return able, list(accumulate(weights))


def generate_splits(
    grammar: Grammar, sizes: Mapping[str, GrammarSplit], seed: int
) -> dict[str, list[Pair]]:
    """Draw the pairs of all splits from a seed; no source sentence occurs twice in them."""
    rng, seen = random.Random(seed), set[str]()
    splits: dict[str, list[Pair]] = {name: [] for name in sizes}
    for name, size in sizes.items():
        repeats = 0
        while len(splits[name]) < size.count:
            pair = grammar.sample(rng, size.max_words, size.min_words)
            repeats += pair.source in seen
            if repeats > MOST_ATTEMPTS:
                raise ValueError(f"split {name!r}: {size.count} different sentences are too many")
            if pair.source not in seen:
                seen.add(pair.source)
                splits[name].append(pair)
    return splits


def load_grammar(path: str | Path) -> Grammar:
    """Read a grammar file; raise DataError with file, line, value and what was expected."""
    return Grammar(*GrammarParser(Path(path)).parse())


def _generate(rng: random.Random, name: str, wanted: Wanted) -> Node:
    """Draw a number, date, year or clock time between the wanted bounds."""
    low, high = (int(next(iter(wanted[bound]))) for bound in ("low", "high"))
    forms = GENERATORS[name](rng, low, high)
    return Node({}, {column: tuple(text.split()) for column, text in forms.items()})


def _resolve(features: Mapping[str, Values | Variable], bound: Wanted) -> dict[str, Values]:
    """Replace variables by their values; leave unbound ones out."""
    resolved = {}
    for name, value in features.items():
        if not isinstance(value, Variable):
            resolved[name] = value
        elif (candidates := bound.get(value.name, value.limit)) is not None:
            resolved[name] = candidates
    return resolved


def _bind(child: Child, node: Node, bound: dict[str, Values]) -> None:
    """Limit a rule's variables to the features of an expanded child."""
    for feature, value in child.features.items():
        if isinstance(value, Variable) and feature in node.features:
            found = node.features[feature]
            bound[value.name] = found & bound.get(value.name, found)


def _bind_wanted(alternative: Alternative, wanted: Wanted) -> dict[str, Values]:
    """Return the values of a rule's variables by what is wanted of its own features."""
    bound: dict[str, Values] = {}
    for feature, value in alternative.features.items():
        if isinstance(value, Variable):
            candidates = wanted.get(feature, value.limit)
            if candidates is not None:
                bound[value.name] = candidates & (value.limit or candidates)
    return bound


def _agrees(alternative: Alternative, wanted: Wanted) -> bool:
    """Return whether no feature of an alternative contradicts the wanted ones."""
    for feature, values in wanted.items():
        own = alternative.features.get(feature)
        own = own.limit if isinstance(own, Variable) else own
        if own is not None and not own & values:
            return False
    return True


def _fill(a: Alternative, name: str, nodes: Mapping[str, Node], bound: Wanted) -> Words:
    """Return the words of an output, with its children's words and its variables filled in."""
    words: list[str] = []
    for item in a.outputs[name]:
        if isinstance(item, str):
            words.append(item)
        elif isinstance(item, Variable):
            words.append(_single(a, item, bound))
        else:
            column = item.column if isinstance(item.column, str) else _single(a, item.column, bound)
            outputs = nodes[item.child].outputs
            if column not in outputs:
                expected = f"expected an output of {item.child} ({' '.join(outputs)})"
                raise ValueError(f"line {a.line}: {item.child}.{column}: {expected}")
            words.extend(outputs[column])
    return tuple(word for word in words if word != EMPTY)


def _single(a: Alternative, variable: Variable, bound: Wanted) -> str:
    """Return the one value of a variable that is written out."""
    values = bound.get(variable.name, frozenset())
    if len(values) != 1:
        found = f"${variable.name}: expected one value to write, got {sorted(values)}"
        raise ValueError(f"line {a.line}: {found}")
    return next(iter(values))


def _growing_categories(alternatives: tuple[Alternative, ...]) -> set[str]:
    """Return the categories below which a rule marked `grow` can occur."""
    growing = {a.category for a in alternatives if a.grow}
    while True:
        above = {a.category for a in alternatives if any(c.category in growing for c in a.children)}
        if above <= growing:
            return growing
        growing |= above
