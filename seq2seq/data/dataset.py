"""Prepared corpora: encoded sentences as memory-mapped arrays.

A prepared corpus is a folder named by a fingerprint of everything that decides it. Each split and
side has `<split>.<side>.ids`, the ids of all sentences without eos, and `<split>.<side>.ends`, the
position after each sentence. A split to be translated has its text as `<split>.<side>.txt` too. The
tokenizers and manifest.json complete the folder.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.choices import expected_one_of
from ..errors import DataError
from ..files import exists, write_text
from ..shown import brief, counted
from ..stored import checked, damaged, mapped, naming_damage, prepare_again, read_json, text
from ..unchanged import remembered
from .batches import Batch, BatchSampler, as_batch
from .normalization import Change, Changes
from .tokenizer import Tokenizers

SIDES = ("source", "target")
ENDS_DTYPE = np.dtype(np.int64)
MOST_CHANGES = 10_000
"""So many changed characters of a split are counted apart. manifest.json has then under 7 MB."""
LOOKED_THROUGH = "looked_through.json"
"""File of a prepared corpus that says which of its large arrays were found whole."""


def ids_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type that holds every id of a vocabulary."""
    return np.min_scalar_type(max(vocab_size - 1, 0))


class ParallelDataset:
    """One split of a prepared corpus.

    Of large arrays only what is used is read, once they were found whole.
    """

    src_lengths: NDArray[np.int32]  # (N,) with eos
    tgt_lengths: NDArray[np.int32]  # (N,) with eos

    def __init__(self, folder: Path, name: str, tokenizers: Tokenizers) -> None:
        self.folder, self.name = folder, name
        self.ids, self.ends, lengths = [], [], []
        for side, tokenizer in zip(SIDES, (tokenizers.source, tokenizers.target), strict=True):
            path = folder / f"{name}.{side}.ends"
            self.ends.append(ends := self._mapped(path, ENDS_DTYPE))
            sizes = np.diff(np.fromfile(path, ENDS_DTYPE), prepend=0)  # is not kept in memory
            if (sizes < 0).any():
                raise damaged(path, "no ends of sentences", prepare_again(folder))
            if len(ends) != (count := len(self.ends[0])):
                found = f"{counted(len(ends), 'sentence')}, {count} in {name}.{SIDES[0]}.ends"
                raise damaged(path, found, prepare_again(folder))
            lengths.append((sizes + 1).astype(np.int32))
            dtype, count = ids_dtype(tokenizer.vocab_size), int(ends[-1])
            path = folder / f"{name}.{side}.ids"
            self.ids.append(self._mapped(path, dtype, count, tokenizer.vocab_size))
        self.src_lengths, self.tgt_lengths = lengths

    def _mapped(
        self, path: Path, dtype: np.dtype[Any], count: int | None = None, below: int | None = None
    ) -> NDArray[Any]:
        """Map an array of numbers, all smaller than `below`; DataError where it is damaged."""
        advice = prepare_again(path.parent)

        def look_through() -> str:
            checked(path, advice)
            if below is not None and mapped(path, dtype, count).max(initial=0) >= below:
                raise damaged(path, "ids beyond the vocabulary of the tokenizers", advice)
            return path.name

        remembered(self.folder / LOOKED_THROUGH, path, look_through)
        return mapped(path, dtype, count)

    def __len__(self) -> int:
        return len(self.ends[0])

    def src(self, index: int) -> NDArray[np.int64]:
        """Return the ids of a source sentence, without eos."""
        return self._sentence(0, index)

    def tgt(self, index: int) -> NDArray[np.int64]:
        """Return the ids of a target sentence, without eos."""
        return self._sentence(1, index)

    def _sentence(self, side: int, index: int) -> NDArray[np.int64]:
        start = self.ends[side][index - 1] if index else 0
        return self.ids[side][start : self.ends[side][index]].astype(np.int64)

    def lines(self, side: str) -> list[str]:
        """Return the text of a side; raise DataError for train, whose text is not kept."""
        path, advice = self.folder / f"{self.name}.{side}.txt", prepare_again(self.folder)
        if not exists(path):
            raise DataError(f"{path}: no such file; the text of split {self.name!r} is not kept")
        lines = text(checked(path, advice), sys.maxsize).split("\n")[:-1]
        if len(lines) != len(self):
            found = f"{counted(len(lines), 'line')} for {counted(len(self), 'pair')}"
            raise damaged(path, found, advice)
        return lines

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the sentences at these positions as a batch."""
        return as_batch([self.src(i) for i in indices], [self.tgt(i) for i in indices], indices)

    def batches(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Yield the rest of the sampler's epoch as batches."""
        return map(self.batch, sampler)


@dataclass
class Counts:
    """What clean-up did to a split: the number of pairs before it, kept, and dropped by each rule.

    Dropped pairs have a side without pieces (empty) or with too many (too_long), sides of very
    different lengths (ratio), or the text of an earlier pair (duplicates).
    """

    pairs: int = 0
    kept: int = 0
    empty: int = 0
    too_long: int = 0
    ratio: int = 0
    duplicates: int = 0
    blank: int = 0
    """Blank lines of a TSV file, which are no pairs."""
    changes: Changes = field(default_factory=Counter)
    """How often normalisation turned which characters into which, also in pairs dropped later."""
    in_train: int = 0
    """Pairs of another split that are among the training pairs, too."""
    other_changes: int = 0
    """How often normalisation changed what is not in `changes`, as it is too rare."""

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of two parts of a split."""
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def forget_rare_changes(self) -> None:
        """Keep the most frequent changes, and one count of the others.

        Odd text has millions of them, for which neither memory nor manifest.json has room.
        """
        if len(self.changes) > MOST_CHANGES:
            kept = Counter(dict(self.changes.most_common(MOST_CHANGES)))
            self.other_changes += self.changes.total() - kept.total()
            self.changes = kept

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON can hold them."""
        changes = [{**change._asdict(), "count": count} for change, count in self.changes.items()]
        others = {} if self.other_changes else {"other_changes"}
        return {k: v for k, v in vars(self).items() if k not in others} | {"changes": changes}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Counts:
        """Return the counts that `as_json` made."""
        counts = dict(values)
        changes = {Change(c["before"], c["after"]): c["count"] for c in counts.pop("changes")}
        for count in (*counts.values(), *changes.values()):
            if type(count) is not int or count < 0:
                raise ValueError(f"{brief(str(count))} is no count")
        return cls(**counts, changes=Counter(changes))

    @property
    def dropped(self) -> dict[str, int]:
        """Number of pairs that each rule dropped."""
        return {name: getattr(self, name) for name in ("empty", "too_long", "ratio", "duplicates")}


OPTIONAL = ("texts", "left_out", "unseen")
"""Left out of manifest.json where there are none."""


@dataclass
class Manifest:
    """Description of a prepared corpus, stored as manifest.json."""

    name: str
    fingerprint: str
    languages: list[str]
    """Source and target language."""
    splits: dict[str, Counts]
    texts: dict[str, str] = field(default_factory=dict)
    """A checksum of each split's text, before it was cleaned."""
    left_out: int = 0
    """Training lines that the tokenizers were not trained on."""
    unseen: list[str] = field(default_factory=list)
    """User-defined symbols that the tokenizers' training text does not have."""

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest; raise DataError where it is damaged."""
        advice = prepare_again(path.parent)
        with naming_damage(path, advice):
            values = read_json(checked(path, advice), advice)
            splits = {name: Counts.from_json(c) for name, c in values["splits"].items()}
            known = {key: values[key] for key in OPTIONAL if key in values}
            known["texts"] = {k: str(v) for k, v in dict(known.get("texts", {})).items()}
            names = values["name"], values["fingerprint"], values["languages"]
            return cls(*names, splits, **known)

    def write(self, path: Path) -> None:
        """Write the manifest as JSON, without what there is none of."""
        values = {k: v for k, v in vars(self).items() if v or k not in OPTIONAL}
        values["splits"] = {name: counts.as_json() for name, counts in self.splits.items()}
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


@dataclass
class Prepared:
    """A prepared corpus."""

    folder: Path
    tokenizers: Tokenizers
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Open a folder; raise DataError where it holds no prepared corpus."""
        manifest = Manifest.read(folder / "manifest.json")
        return cls(folder, Tokenizers.load(folder), manifest)

    def split(self, name: str) -> ParallelDataset:
        """Return one split; raise DataError where it does not exist or is damaged."""
        if name not in self.manifest.splits:
            expected = expected_one_of(name, list(self.manifest.splits), "its manifest.json names")
            file = self.folder / "manifest.json"
            raise DataError(f"{file}: has no split {name!r}; {expected}")
        return ParallelDataset(self.folder, name, self.tokenizers)
