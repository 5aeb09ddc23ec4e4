"""Batches of sentence pairs, and which sentences make up each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .tokenizer import Tokenizer


def pad(sentences: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Sentences with eos, padded (B, T), and their lengths (B,)."""
    lengths = np.array([len(s) + 1 for s in sentences])
    padded = np.full((len(sentences), lengths.max()), Tokenizer.pad_id)
    for row, sentence in zip(padded, sentences, strict=True):
        row[: len(sentence)] = sentence
        row[len(sentence)] = Tokenizer.eos_id
    return torch.from_numpy(padded), torch.from_numpy(lengths)


@dataclass
class Batch:
    """B sentence pairs, padded; both sides end in eos and start without bos."""

    src: Tensor
    """(B, S)"""
    src_lengths: Tensor
    """(B,), counting eos; stays on the CPU."""
    tgt: Tensor
    """(B, T)"""
    tgt_lengths: Tensor
    """(B,), counting eos; stays on the CPU."""
    indices: Tensor
    """(B,) positions in the dataset."""

    @property
    def tgt_tokens(self) -> int:
        """Unpadded target tokens."""
        return int(self.tgt_lengths.sum())

    def share(self, rank: int, size: int) -> "Batch | None":
        """What process `rank` of `size` works on: every size-th sentence; None where there are too
        few.
        """
        if size == 1:
            return self
        src_lengths, tgt_lengths = self.src_lengths[rank::size], self.tgt_lengths[rank::size]
        if not tgt_lengths.numel():
            return None
        return Batch(
            self.src[rank::size, : src_lengths.max()],
            src_lengths,
            self.tgt[rank::size, : tgt_lengths.max()],
            tgt_lengths,
            self.indices[rank::size],
        )

    def to(self, device: torch.device) -> "Batch":
        """The ids on another device."""
        return Batch(
            self.src.to(device, non_blocking=True),
            self.src_lengths,
            self.tgt.to(device, non_blocking=True),
            self.tgt_lengths,
            self.indices,
        )


class BatchSampler:
    """Which sentences make up each batch. The order follows from (seed, epoch) alone.

    Sentences are shuffled, sorted by length within pools of about `bucket_batches` batches (1: not
    at all), and cut into batches of `batch_sentences` or of at most `batch_tokens` unpadded target
    tokens (a longer sentence makes a batch of its own); the batches are shuffled. Without `shuffle`
    all are one pool, and the batches come by rising length.
    """

    def __init__(
        self,
        src_lengths: NDArray[np.int64],
        tgt_lengths: NDArray[np.int64],
        batch_tokens: int | None = None,
        batch_sentences: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        bucket_batches: int = 1,
    ) -> None:
        if batch_sentences is None and batch_tokens is None:
            raise ValueError(
                "data.batch_tokens and data.batch_sentences are both null; expected one of them"
            )
        for name, size in (
            ("batch_tokens", batch_tokens),
            ("batch_sentences", batch_sentences),
            ("bucket_batches", bucket_batches),
        ):
            if size is not None and size < 1:
                raise ValueError(f"data.{name}={size}: expected at least 1")
        if not len(tgt_lengths):
            raise DataError("no sentence pairs are left to make batches of")
        self.src_lengths, self.tgt_lengths = src_lengths, tgt_lengths
        self.batch_tokens, self.batch_sentences, self.seed, self.shuffle = (
            batch_tokens,
            batch_sentences,
            seed,
            shuffle,
        )
        self.bucket_batches = bucket_batches
        self.epoch = self.position = 0
        self._cut_epoch = -1
        self._batches: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self._epoch_batches())

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """What is left of the epoch. Before each batch is given out the state already points at the
        next one.
        """
        remaining = self._epoch_batches()[self.position :]
        for batch in remaining:
            self.position += 1
            if self.position == len(self._batches):
                self.epoch, self.position = self.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the next batch is."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at a saved place."""
        self.epoch, self.position = state["epoch"], state["position"]

    def _epoch_batches(self) -> list[NDArray[np.int64]]:
        if self._cut_epoch != self.epoch:
            self._batches, self._cut_epoch = self._cut(), self.epoch
        return self._batches

    def _cut(self) -> list[NDArray[np.int64]]:
        count = len(self.tgt_lengths)
        if not self.shuffle:
            return self._cut_pool(self._by_length(np.arange(count)))
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(count)
        size = self.bucket_batches * self._sentences_a_batch()
        pools = (
            [order]
            if self.bucket_batches == 1
            else [self._by_length(order[start : start + size]) for start in range(0, count, size)]
        )
        batches = [batch for pool in pools for batch in self._cut_pool(pool)]
        return [batches[i] for i in random.permutation(len(batches))]

    def _sentences_a_batch(self) -> int:
        if self.batch_sentences is not None:
            return self.batch_sentences
        assert self.batch_tokens is not None
        return max(1, int(self.batch_tokens / self.tgt_lengths.mean()))

    def _by_length(self, pool: NDArray[np.int64]) -> NDArray[np.int64]:
        return pool[np.lexsort((self.src_lengths[pool], self.tgt_lengths[pool]))]

    def _cut_pool(self, pool: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cut a pool, in its order."""
        if self.batch_sentences is not None:
            return np.split(pool, range(self.batch_sentences, len(pool), self.batch_sentences))
        assert self.batch_tokens is not None
        ends = np.cumsum(self.tgt_lengths[pool])
        cuts, start = [], 0
        while start < len(pool):
            before = ends[start - 1] if start else 0
            start = max(
                start + 1, int(np.searchsorted(ends, before + self.batch_tokens, side="right"))
            )
            cuts.append(start)
        return np.split(pool, cuts[:-1])
