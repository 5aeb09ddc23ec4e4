"""Encoded corpora as memory-mapped arrays, and batches of them.

A prepared corpus is a folder named after a fingerprint of all that made it. For each split and side
it holds `<split>.<side>.ids`, the ids of all sentences one after the other without eos, and
`<split>.<side>.ends`, where each sentence ends; its text, where it is to be translated, as
`<split>.<side>.txt`; the tokenizers; and manifest.json.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from .batches import Batch, BatchSampler, pad
from .tokenizer import Tokenizers

SIDES = ("source", "target")
ENDS_DTYPE = np.dtype(np.int64)


def ids_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest type that holds every id."""
    return np.min_scalar_type(max(vocab_size - 1, 0))


def _check_size(path: Path, expected: int) -> None:
    if (found := path.stat().st_size) != expected:
        raise DataError(
            f"{path}: damaged: {found} bytes, expected {expected}; delete {path.parent} "
            "to have it made again"
        )


class ParallelDataset:
    """One split of a prepared corpus. Lengths count eos."""

    def __init__(self, folder: Path, name: str, tokenizers: Tokenizers) -> None:
        self.folder, self.name = folder, name
        self.ids, self.ends = [], []
        for side, tokenizer in zip(SIDES, (tokenizers.source, tokenizers.target), strict=True):
            ends_path, path = folder / f"{name}.{side}.ends", folder / f"{name}.{side}.ids"
            whole = ends_path.stat().st_size // ENDS_DTYPE.itemsize * ENDS_DTYPE.itemsize
            _check_size(ends_path, max(whole, ENDS_DTYPE.itemsize))
            ends = np.memmap(ends_path, ENDS_DTYPE, mode="r")
            dtype = ids_dtype(tokenizer.vocab_size)
            expected = int(ends[-1]) * dtype.itemsize
            _check_size(path, expected)
            # An empty file can't be mapped: a split of empty sentences alone has no ids.
            self.ids.append(np.memmap(path, dtype, mode="r") if expected else np.zeros(0, dtype))
            self.ends.append(ends)
        self.src_lengths, self.tgt_lengths = (np.diff(ends, prepend=0) + 1 for ends in self.ends)

    def __len__(self) -> int:
        return len(self.ends[0])

    def _sentence(self, side: int, index: int) -> NDArray[np.int64]:
        start = self.ends[side][index - 1] if index else 0
        return self.ids[side][start : self.ends[side][index]].astype(np.int64)

    def src(self, index: int) -> NDArray[np.int64]:
        """A source sentence's ids, without eos."""
        return self._sentence(0, index)

    def tgt(self, index: int) -> NDArray[np.int64]:
        """A target sentence's ids, without eos."""
        return self._sentence(1, index)

    def _lines(self, side: str) -> list[str]:
        path = self.folder / f"{self.name}.{side}.txt"
        if not path.exists():
            raise DataError(f"{path}: no such file; the text of split {self.name!r} is not kept")
        return (
            path.read_bytes().decode("utf-8").split("\n")[:-1]
        )  # as bytes: a lone CR ends no line

    def source_lines(self) -> list[str]:
        """The source text, line by line; not kept for train."""
        return self._lines("source")

    def target_lines(self) -> list[str]:
        """The target text, line by line; not kept for train."""
        return self._lines("target")

    def batch(self, indices: NDArray[np.int64]) -> "Batch":
        """These sentences as a batch."""
        src, src_lengths = pad([self.src(i) for i in indices])
        tgt, tgt_lengths = pad([self.tgt(i) for i in indices])
        return Batch(src, src_lengths, tgt, tgt_lengths, torch.from_numpy(np.asarray(indices)))


def batches(dataset: ParallelDataset, sampler: BatchSampler) -> Iterator[Batch]:
    """The rest of the sampler's epoch as batches."""
    for indices in sampler:
        yield dataset.batch(indices)


@dataclass
class Prepared:
    """A prepared corpus."""

    folder: Path
    tokenizers: Tokenizers
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Prepared":
        """What stands in a folder."""
        file = folder / "manifest.json"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: not a prepared corpus ({error})") from error
        return cls(folder, Tokenizers.load(folder), manifest)

    def split(self, name: str) -> ParallelDataset:
        """One split."""
        if name not in self.manifest["splits"]:
            expected = ", ".join(self.manifest["splits"])
            raise DataError(f"{self.folder}: has no split {name!r}; expected one of {expected}")
        return ParallelDataset(self.folder, name, self.tokenizers)
