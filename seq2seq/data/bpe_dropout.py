"""BPE-dropout: training sentences that are split in another way in each epoch.

A BPE tokenizer merges characters into pieces. BPE-dropout leaves out each merge at some rate, so
that a word is seen in many parts (Provilkov et al. 2020, arXiv:1910.13267). SentencePiece draws
other splits in every process, whatever its seed is; a run that is resumed needs the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..config import Sides, TokenizerKind
from ..errors import DataError
from .batches import Batch, BatchSampler, as_batch
from .dataset import SIDES, ParallelDataset, Prepared
from .own_model import normal_pieces
from .tokenizer import SPACE, Tokenizer

NO_TEXT = "\n"
"""In place of a piece that is no text; no line has it, and so no piece."""
GONE = -1
"""In place of a piece that was merged into the one before it."""
MOST_SPLITS = 200_000
"""Splits of words that are remembered; about 60 MB."""
Split = tuple[list[int], int]
"""The pieces of a word, and the number of merges that were possible on the way."""


class Merges:
    """The merges of a BPE model, on ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        numbers, is_normal = tokenizer.numbers, normal_pieces(tokenizer.model)
        self.texts = [NO_TEXT] * tokenizer.vocab_size
        """By id: the piece, where it is text."""
        self.ranks = [0.0] * tokenizer.vocab_size
        """By id: a piece of lower rank is merged earlier."""
        for ours, theirs in enumerate(numbers.theirs):
            if theirs >= 0 and is_normal[theirs]:
                self.texts[ours] = tokenizer.id_to_piece(ours)
                self.ranks[ours] = -tokenizer.processor.get_score(theirs)
        self.ids = {text: i for i, text in enumerate(self.texts) if text != NO_TEXT}
        self.starts = [text.startswith(SPACE) for text in self.texts]
        """By id: whether the piece starts a word."""
        self.within_words = not any(SPACE in text[1:] for text in self.ids)
        """Whether no merge joins two words."""
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], Split] = {}

    def drawn(self, ids: Sequence[int], rate: float, chance: random.Random) -> list[int]:
        """Return a sentence of these ids, split again with each merge left out at this rate."""
        found: list[int] = []
        for word in self.words(ids):
            left_out, following = tuple[int, ...](), 0
            while True:
                pieces, merges = self.split(word, left_out)
                draws = (n for n in range(following, merges) if chance.random() < rate)
                if (number := next(draws, None)) is None:
                    break
                left_out, following = (*left_out, number), number + 1
            found += pieces
        return found

    def words(self, ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Yield a sentence's words, or all of it where merges join words."""
        starts = [i for i, piece in enumerate(ids) if i and self.starts[piece]]
        cuts = [0, *(starts if self.within_words else ()), len(ids)]
        return (tuple(ids[a:b]) for a, b in pairwise(cuts))

    def split(self, word: tuple[int, ...], left_out: tuple[int, ...]) -> Split:
        """Return a word's pieces without the merges of these numbers, and how many were possible.

        Numbers count the merges in the order in which they are looked at, from 0. A word that does
        not follow from its characters by these merges alone is never split.
        """
        key = word, left_out
        if key not in self._known:
            if len(self._known) >= MOST_SPLITS:
                self._known.clear()
            characters = self.characters(word)
            found = self.merged(characters, left_out) if characters else ([*word], 0)
            self._known[key] = ([*word], 0) if not left_out and found[0] != [*word] else found
        return self._known[key]

    def characters(self, word: tuple[int, ...]) -> list[int] | None:
        """Return the ids that the merges of a word start from; None if a character has none.

        These are characters, and what is never split: unknown text, bytes, user-defined symbols.
        """
        found: list[int] = []
        for piece in word:
            text = self.texts[piece]
            parts = [piece] if text == NO_TEXT else [self.ids.get(c, GONE) for c in text]
            found += parts
        return None if GONE in found else found

    def merged(self, characters: Sequence[int], left_out: tuple[int, ...]) -> Split:
        """Return the ids after all merges but these, and how many were looked at.

        The pair of the lowest rank is merged first, the leftmost of several. A pair that was left
        out is not looked at again, as in SentencePiece.
        """
        ids, end, number = list(characters), len(characters), -1
        before, after = list(range(-1, end - 1)), list(range(1, end + 1))
        agenda: list[tuple[float, int, int, int, int, int]] = []

        def add(left: int, right: int) -> None:
            if left >= 0 and right < end:
                a, b = ids[left], ids[right]
                whole = self.ids.get(self.texts[a] + self.texts[b])
                if whole is not None:
                    heappush(agenda, (self.ranks[whole], left, right, a, b, whole))

        for i in range(end - 1):
            add(i, i + 1)
        while agenda:
            _, left, right, a, b, whole = heappop(agenda)
            if ids[left] != a or ids[right] != b:  # a piece of the pair was merged before
                continue
            number += 1
            if number in left_out:
                continue
            ids[left], ids[right] = whole, GONE
            after[left] = after[right]
            if after[left] < end:
                before[after[left]] = left
            add(before[left], left)
            add(left, after[left])
        return [i for i in ids if i != GONE], number + 1


class DropoutDataset(ParallelDataset):
    """The training split, whose batches have pieces by BPE-dropout.

    How a sentence is split follows from the seed, the epoch, its position and its side alone: not
    from the batch, the number of processes, or where a run was interrupted. Lengths, and the
    batches that are cut by them, are those without dropout.
    """

    def __init__(
        self, prepared: Prepared, rate: float, sides: Sides, seed: int, max_length: int
    ) -> None:
        """Open split train; raise DataError where a tokenizer is not BPE.

        A sentence that dropout splits into over `max_length` pieces is split without it.
        """
        tokenizers = prepared.tokenizers
        super().__init__(prepared.folder, "train", tokenizers)
        self.rate, self.seed, self.max_length = rate, seed, max_length
        self.merges = dict[str, Merges]()
        for side in sides.names:
            tokenizer = tokenizers.source if side == SIDES[0] else tokenizers.target
            if tokenizer.kind is not TokenizerKind.bpe:
                raise DataError(
                    f"tokenizer.bpe_dropout={rate}: expected a tokenizer of kind bpe; that of the"
                    f" {side} is of kind {tokenizer.kind.value}"
                )
            self.merges[side] = Merges(tokenizer)

    def drawn(self, side: str, index: int, epoch: int) -> NDArray[np.int64]:
        """Return a sentence's ids in an epoch, without eos."""
        ids = self.src(index) if side == SIDES[0] else self.tgt(index)
        if side not in self.merges:
            return ids
        chance = random.Random(f"{self.seed} {epoch} {index} {side}")
        found = self.merges[side].drawn(ids.tolist(), self.rate, chance)
        return np.array(found, np.int64) if len(found) <= self.max_length else ids

    def drawn_batch(self, indices: NDArray[np.int64], epoch: int) -> Batch:
        """Return the sentences at these positions as a batch of an epoch."""
        src, tgt = ([self.drawn(side, int(i), epoch) for i in indices] for side in SIDES)
        return as_batch(src, tgt, indices)

    def batches(self, sampler: BatchSampler) -> Iterator[Batch]:
        """Yield the rest of the sampler's epoch as batches.

        While one is trained on, a thread makes the next.
        """
        epoch = sampler.epoch
        with ThreadPoolExecutor(1, "bpe-dropout") as thread:
            coming = thread.submit(self.drawn_batch, sampler.peek(), epoch)
            for _ in sampler:
                batch = coming.result()
                if sampler.epoch == epoch:
                    coming = thread.submit(self.drawn_batch, sampler.peek(), epoch)
                yield batch
