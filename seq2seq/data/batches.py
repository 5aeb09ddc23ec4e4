"""Batches of sentence pairs, and which sentences make up each.

torch is imported where the first batch is made: cleaning and encoding text works without it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def pad(sentences: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Return sentences with eos, padded to (B, T), and their lengths (B,)."""
    import torch

    lengths = np.array([len(s) + 1 for s in sentences])
    padded = np.full((len(sentences), lengths.max()), Tokenizer.pad_id)
    for row, sentence in zip(padded, sentences, strict=True):
        row[: len(sentence)] = sentence
        row[len(sentence)] = Tokenizer.eos_id
    return torch.from_numpy(padded), torch.from_numpy(lengths)


@dataclass
class Batch:
    """B sentence pairs, padded; both sides end in eos and start without bos.

    The lengths count eos, and are always on the CPU.
    """

    src: Tensor  # (B, S)
    src_lengths: Tensor  # (B,)
    tgt: Tensor  # (B, T)
    tgt_lengths: Tensor  # (B,)
    indices: Tensor  # (B,) positions in the dataset

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Source and target with their lengths, as the model takes them."""
        return self.src, self.src_lengths, self.tgt, self.tgt_lengths

    @property
    def tgt_tokens(self) -> int:
        """Number of target tokens without padding."""
        return int(self.tgt_lengths.sum())

    def is_divided(self, size: int) -> bool:
        """Return whether each of so many processes has a share of the batch."""
        return 1 < size <= len(self.src_lengths)

    def share(self, rank: int, size: int) -> Batch | None:
        """Return every size-th sentence from number `rank` on.

        The first process (rank 0) has all of a batch of fewer sentences than processes, and the
        others have None.
        """
        if size == 1 or (rank == 0 and not self.is_divided(size)):
            return self
        if not self.is_divided(size):
            return None
        part = slice(rank, None, size)
        src_lengths, tgt_lengths = self.src_lengths[part], self.tgt_lengths[part]
        src, tgt = self.src[part, : src_lengths.max()], self.tgt[part, : tgt_lengths.max()]
        return Batch(src, src_lengths, tgt, tgt_lengths, self.indices[part])

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its ids on another device."""
        src, tgt = (ids.to(device, non_blocking=True) for ids in (self.src, self.tgt))
        return replace(self, src=src, tgt=tgt)


def as_batch(
    src: list[NDArray[np.int64]], tgt: list[NDArray[np.int64]], indices: NDArray[np.int64]
) -> Batch:
    """Return sentences without eos, which are at these positions in a dataset, as a batch."""
    import torch

    return Batch(*pad(src), *pad(tgt), torch.from_numpy(np.asarray(indices)))


@dataclass(eq=False)
class CutEpoch:
    """An epoch's batches, in a few bytes a sentence."""

    epoch: int
    order: NDArray[np.int32]
    """(N,) positions of all sentences in the dataset, one batch after the other."""
    ends: NDArray[np.int64]
    """Where each batch ends in `order`."""
    turns: NDArray[np.int64]
    """Numbers of the batches, in the order in which they are given out."""

    def __getitem__(self, position: int) -> NDArray[np.int64]:
        """Return the sentences of the batch whose turn it is."""
        number = self.turns[position]
        start = self.ends[number - 1] if number else 0
        return self.order[start : self.ends[number]].astype(np.int64)


@dataclass(eq=False)
class BatchSampler:
    """Choice of the sentences in each batch; the order follows from (seed, epoch) alone.

    Sentences are shuffled, then sorted by length within pools of about `bucket_batches` batches (1:
    not sorted). Each pool is cut into batches of `batch_sentences`, or of at most `batch_tokens`
    target tokens without padding; a longer sentence makes a batch of its own. Last, the batches are
    shuffled. Without `shuffle`, all sentences are one pool, and batches come by rising length. The
    lengths (N,) count eos.
    """

    src_lengths: NDArray[np.integer]
    tgt_lengths: NDArray[np.integer]
    batch_tokens: int | None = None
    batch_sentences: int | None = None
    seed: int = 0
    shuffle: bool = True
    bucket_batches: int = 1
    epoch: int = field(default=0, init=False)
    position: int = field(default=0, init=False)
    """Number of batches of the epoch that were given out."""
    _cut: CutEpoch | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.batch_sentences is None and self.batch_tokens is None:
            raise ValueError(
                "data.batch_tokens and data.batch_sentences are both null; expected one of them"
            )
        for name in ("batch_tokens", "batch_sentences", "bucket_batches"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"data.{name}={size}: expected at least 1")
        if not len(self.tgt_lengths):
            raise DataError("no sentence pairs are left to make batches of")

    def __len__(self) -> int:
        return len(self._current().turns)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rest of the epoch; the state moves to the next batch before each is yielded."""
        cut = self._current()
        for position in range(self.position, len(cut.turns)):
            self.position += 1
            if self.position == len(cut.turns):
                self.epoch, self.position = self.epoch + 1, 0
            yield cut[position]

    def sizes(self, processes: int = 1) -> NDArray[np.int64]:
        """Return the number of sentences of each batch of the current epoch.

        For several processes it is that of the largest `Batch.share`.
        """
        whole = np.diff(self._current().ends, prepend=0)
        return np.where(whole < processes, whole, -(-whole // processes))

    def peek(self) -> NDArray[np.int64]:
        """Return the next batch, which stays the next one."""
        return self._current()[self.position]

    def state_dict(self) -> dict[str, int]:
        """Return the place of the next batch."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a saved place; ValueError for one that is not in an epoch."""
        epoch, position = state["epoch"], state["position"]
        if type(epoch) is not int or type(position) is not int or epoch < 0 or position < 0:
            raise ValueError("no place in an epoch")
        self.epoch = epoch
        if position >= len(self):
            raise ValueError(f"batch {position} of an epoch of {len(self)}")
        self.position = position

    def _current(self) -> CutEpoch:
        """Return the current epoch, cut into batches."""
        if self._cut is None or self._cut.epoch != self.epoch:
            self._cut = None  # frees the memory of the last one
            self._cut = self._cut_epoch()
        return self._cut

    def _cut_epoch(self) -> CutEpoch:
        """Cut the current epoch into batches."""
        order = np.arange(len(self.tgt_lengths), dtype=np.int32)
        if not self.shuffle:
            order = self._by_length(order)
            cuts = self._ends(order)
            return CutEpoch(self.epoch, order, cuts, np.arange(len(cuts)))
        random = np.random.default_rng([self.seed, self.epoch])
        random.shuffle(order)
        size = len(order)
        if self.bucket_batches > 1:
            per_batch = self.batch_sentences or (self.batch_tokens or 0) / self.tgt_lengths.mean()
            size = self.bucket_batches * max(1, int(per_batch))
        ends = list[NDArray[np.int64]]()
        for start in range(0, len(order), size):
            pool = order[start : start + size]
            if self.bucket_batches > 1:
                pool[:] = self._by_length(pool)
            ends.append(start + self._ends(pool))
        cuts = np.concatenate(ends)
        return CutEpoch(self.epoch, order, cuts, random.permutation(len(cuts)))

    def _by_length(self, pool: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sort sentences by target length, then by source length."""
        return pool[np.lexsort((self.src_lengths[pool], self.tgt_lengths[pool]))]

    def _ends(self, pool: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return where the batches of a pool end, in its order."""
        if self.batch_sentences is not None:
            starts = np.arange(0, len(pool), self.batch_sentences)
            return np.minimum(starts + self.batch_sentences, len(pool))
        assert self.batch_tokens is not None
        tokens = np.cumsum(self.tgt_lengths[pool]).data  # of which bisect reads a number at once
        ends, start, before = [], 0, 0
        while start < len(pool):
            last = min(start + self.batch_tokens, len(pool))
            start = max(start + 1, bisect_right(tokens, before + self.batch_tokens, start, last))
            ends.append(start)
            before = tokens[start - 1]
        return np.array(ends)
