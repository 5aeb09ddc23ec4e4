"""Lengths, outliers, repetitions, unknown characters and scripts of a corpus.

Every split is read as a stream: what is kept of a sentence is a few numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig, languages
from ..data.columns import Numbered
from ..data.corpora import numbered_split, splits
from ..data.normalization import clean
from ..data.scripts import ScriptCount
from ..data.tokenizer import Tokenizer

SIDES = ("source", "target")
PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)
MOST_EXAMPLES = 5
OUTLIER = 2.5
"""A pair is an outlier where its length ratio is so many times the usual one, or the usual its.

Ratios of short sentences vary more: sentences under `SHORT` characters are passed over.
"""
SHORT = 15
SHOWN = 100
"""Characters of a sentence that an example shows."""
SCRIPT_LINES = 5000
"""So many lines of each split are looked at for their script."""
REPLACEMENT = "\ufffd"
"""What programs write for a character that they could not read."""


@dataclass
class Example:
    """A pair, shortened, and where it is."""

    line: int
    source: str
    target: str
    found: str = ""
    """What is wrong with it, or where else it is."""


@dataclass
class Overlap:
    """Sentences of a split that are in train too, compared without odd spaces."""

    source: int = 0
    target: int = 0
    pair: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass
class Side:
    """One side of a split."""

    language: str
    unit: str
    """What `words` counts: words, or characters where spaces do not separate words."""
    words: dict[str, float] = field(default_factory=dict)
    """Percentile -> length."""
    pieces: dict[str, float] = field(default_factory=dict)
    empty: int = 0
    damaged: int = 0
    """Lines with U+FFFD, which stands for what was lost before."""
    letters_from: int = 0
    """Lines with letters, among the first ones."""
    other_script: int = 0
    """How many of them are not written in the language's script."""
    scripts: str = ""
    unknown_characters: dict[str, int] = field(default_factory=dict)
    """Characters that train does not have -> occurrences."""
    unknown_pieces: int = 0


@dataclass
class Split:
    """What was found in one split."""

    name: str
    pairs: int = 0
    repeated: int = 0
    """Pairs that an earlier pair of the split equals."""
    repeated_sources: int = 0
    """Sources that an earlier source of the split equals, whatever their targets."""
    copies: int = 0
    """Pairs whose two sides are the same text with letters."""
    longer_than_limit: int = 0
    """Pairs with a side of more pieces than data.max_length."""
    outliers: int = 0
    worst: list[Example] = field(default_factory=list)
    source: Side = field(default_factory=lambda: Side("", ""))
    target: Side = field(default_factory=lambda: Side("", ""))
    in_train: Overlap | None = None
    lengths: list[NDArray[np.int64]] = field(default_factory=list, repr=False)
    """Lengths of both sides in `unit`, for the figure."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """The source's and the target's side."""
        return self.source, self.target


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _example(pair: Numbered, found: str = "") -> Example:
    line, (src, tgt) = pair
    return Example(line, src[:SHOWN], tgt[:SHOWN], found)


def _percentiles(lengths: Sequence[int]) -> dict[str, float]:
    values = np.percentile(np.array(lengths or [0]), PERCENTILES, method="nearest")
    return {str(p): float(value) for p, value in zip(PERCENTILES, values, strict=True)}


class Survey:
    """The survey of a corpus, split by split; train has to be the first."""

    def __init__(
        self,
        data: DataConfig,
        tokenizers: Sequence[Tokenizer] | None,
        progress: Callable[[str], object],
        joint: bool = False,
    ) -> None:
        """Read all splits.

        tokenizers: Of the source and of the target; None: pieces are not counted.
        joint: Whether one tokenizer is trained on both sides, so that it has the characters of
          both.
        """
        self.data, self.tokenizers, self.progress = data, tokenizers, progress
        self.languages = (data.source_language, data.target_language)
        known = set[str]()
        self.known = (known, known if joint else set[str]())
        """The characters of train that the tokenizer of each side has seen."""
        names = [*splits(data)]
        names += [] if "valid" in names else ["valid"]
        self.splits = [self._split(name) for name in names]
        self._compare_with_train()

    # -- one split ---

    def _split(self, name: str) -> Split:
        found, reader = Split(name), _Reader(self.languages, self.tokenizers)
        found.source, found.target = reader.sides
        for pair in numbered_split(self.data, name):
            reader.add(pair)
            if not reader.pairs % 10_000:
                self.progress(f"{name}: {reader.pairs:,} pairs")
        reader.finish(found, self.data.max_length)
        for side, characters, known in zip(found.sides, reader.characters, self.known, strict=True):
            if name == "train":
                known.update(characters)
            unknown = {c: n for c, n in characters.most_common() if c not in known}
            side.unknown_characters = dict(sorted(unknown.items(), key=lambda item: -item[1]))
        ratios = _ratios(reader.sizes)
        worst = np.argsort(-np.abs(ratios))[:MOST_EXAMPLES]
        found.outliers = int((np.abs(ratios) > np.log(OUTLIER)).sum())
        chosen = {
            int(i): float(np.exp(abs(ratios[i]))) for i in worst if abs(ratios[i]) > np.log(OUTLIER)
        }
        found.worst = self._examples(name, chosen, ratios)
        return found

    def _examples(
        self, name: str, chosen: dict[int, float], ratios: NDArray[np.float64]
    ) -> list[Example]:
        """Read the pairs at these positions again, the worst first."""
        examples = {}
        for i, pair in enumerate(numbered_split(self.data, name) if chosen else ()):
            if i in chosen:
                longer = "target" if ratios[i] > 0 else "source"
                examples[i] = _example(pair, f"{longer} {chosen[i]:.1f} times as long as usual")
        return [examples[i] for i in chosen]

    # -- across splits ---

    def _compare_with_train(self) -> None:
        """Find the sentences of other splits in train: one pass over train, none of it is kept."""
        others = [split for split in self.splits if split.name != "train"]
        looked_for = {split.name: _keys(numbered_split(self.data, split.name)) for split in others}
        wanted = [set().union(*(k[i] for k in looked_for.values())) for i in range(3)]
        lines: list[dict[int, int]] = [{}, {}, {}]
        for line, (src, tgt) in numbered_split(self.data, "train"):
            for i, key in enumerate(_keys_of(src, tgt)):
                if key in wanted[i]:
                    lines[i].setdefault(key, line)
        for split in others:
            split.in_train = self._overlap(split.name, lines)

    def _overlap(self, name: str, lines: Sequence[dict[int, int]]) -> Overlap:
        found = Overlap()
        for pair in numbered_split(self.data, name):
            keys = _keys_of(*pair[1])
            places = [lines[i].get(key) for i, key in enumerate(keys)]
            for i, kind in enumerate(("source", "target", "pair")):
                setattr(found, kind, getattr(found, kind) + (places[i] is not None))
            named = [
                f"{kind} = train:{place}"
                for kind, place in zip(("source", "target", "pair"), places, strict=True)
                if place
            ]
            if named and len(found.examples) < MOST_EXAMPLES:
                found.examples.append(_example(pair, named[-1]))
        return found


def _keys_of(src: str, tgt: str) -> tuple[int, int, int]:
    src, tgt = clean(src), clean(tgt)
    return _hash(src), _hash(tgt), _hash(f"{src}\t{tgt}")


def _keys(pairs: Iterator[Numbered]) -> list[set[int]]:
    columns: list[set[int]] = [set(), set(), set()]
    for _, pair in pairs:
        for column, key in zip(columns, _keys_of(*pair), strict=True):
            column.add(key)
    return columns


def _ratios(sizes: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return log(target / source) of each pair less its median; 0 for short and empty sides."""
    src, tgt = (np.array(side, float) for side in sizes)
    both = (src > 0) & (tgt > 0)
    logs = np.zeros(len(src))
    logs[both] = np.log(tgt[both] / src[both])
    logs[both] -= np.median(logs[both]) if both.any() else 0
    logs[np.maximum(src, tgt) < SHORT] = 0
    return logs


class _Reader:
    """What is counted while a split is read."""

    def __init__(self, tags: Sequence[str], tokenizers: Sequence[Tokenizer] | None) -> None:
        self.tokenizers = tokenizers
        self.has_spaces = [languages.language(tag).has_spaces for tag in tags]
        units = ["words" if spaces else "characters" for spaces in self.has_spaces]
        self.sides = [Side(tag, unit) for tag, unit in zip(tags, units, strict=True)]
        self.pairs = self.copies = 0
        self.words: tuple[list[int], list[int]] = ([], [])
        self.pieces: tuple[list[int], list[int]] = ([], [])
        self.sizes: tuple[list[int], list[int]] = ([], [])
        self.characters: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self.hashes: tuple[list[int], list[int]] = ([], [])
        self.first: tuple[list[str], list[str]] = ([], [])

    def add(self, pair: Numbered) -> None:
        """Count a pair."""
        self.pairs += 1
        plain = [clean(line) for line in pair[1]]
        self.copies += plain[0] == plain[1] and any(map(str.isalpha, plain[0]))
        src, _, both = _keys_of(*plain)
        self.hashes[0].append(src)
        self.hashes[1].append(both)
        for i, (side, line) in enumerate(zip(self.sides, plain, strict=True)):
            side.empty += not line
            side.damaged += REPLACEMENT in line
            self.sizes[i].append(len(line))
            self.words[i].append(len(line.split()) if self.has_spaces[i] else len(line))
            if len(self.first[i]) < SCRIPT_LINES:
                self.first[i].append(line)
            if self.tokenizers is None:
                self.characters[i].update(line)
                continue
            tokenizer = self.tokenizers[i]
            ids = tokenizer.encode(line)
            self.pieces[i].append(len(ids))
            side.unknown_pieces += ids.count(tokenizer.unk_id)
            self.characters[i].update(tokenizer.normalization(line))

    def finish(self, found: Split, limit: int) -> None:
        """Write the counts into the split's."""
        found.pairs, found.copies = self.pairs, self.copies
        repeated = [len(keys) - len(set(keys)) for keys in self.hashes]
        found.repeated_sources, found.repeated = repeated
        found.lengths = [np.array(words, np.int64) for words in self.words]
        if self.tokenizers is not None:
            longest = np.maximum(*(np.array(pieces, np.int64) for pieces in self.pieces))
            found.longer_than_limit = int((longest > limit).sum())
        for i, side in enumerate(self.sides):
            side.words = _percentiles(self.words[i])
            side.pieces = _percentiles(self.pieces[i]) if self.tokenizers is not None else {}
            count = ScriptCount(self.first[i], side.language)
            if count.spoken.scripts:
                side.letters_from, side.other_script = count.lines, count.lines - count.written
                side.scripts = str(count)
