"""A lexical shortlist: the few target pieces that a sentence may become, so that a search is fast.

A source piece may become the target pieces t with the highest p(t | s) of IBM Model 1 (Brown et al.
1993, "The mathematics of statistical machine translation", section 4.1), which is learnt from the
training pairs. A sentence may become whatever its pieces may, its own pieces where both languages
share a vocabulary, and the most frequent target pieces.

N sentences, S source pieces, V target pieces, C candidates, W words of a sentence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ..config import DecodeConfig
from ..config.decode import MOST_CANDIDATES
from ..files import exists, replacing
from ..shown import brief
from ..stored import read_arrays
from .dataset import ParallelDataset, Prepared
from .tokenizer import Tokenizers

FILE = "shortlist.npz"
"""Its name in the folder of a prepared corpus."""

FREQUENT = 100
"""Number of frequent target pieces that every sentence may become."""
NONE = -1
"""Stands where there is no piece."""
LOG = logging.getLogger(__name__)
MOST_PIECES = 2**31
"""More than any vocabulary has."""
MOST_LINKS = 20_000_000
"""Most links that Model 1 learns from; they take 1 GB of memory."""
ITERATIONS = 5
"""Iterations of expectation maximisation."""


@dataclass
class Shortlist:
    """The target pieces that source pieces may become."""

    candidates: NDArray[np.int32]  # (S, C) the most probable first, then NONE
    always: NDArray[np.int32]  # (F,) eos, <unk> and the most frequent target pieces
    copies: bool
    """Whether source and target share a vocabulary, so that a piece may stay as it is."""

    def words(self, sentences: Sequence[Sequence[int]], count: int) -> NDArray[np.int32]:
        """Return what each sentence may become (N, W), in rising order, then NONE.

        Each source piece adds its best `count` candidates.
        """
        rows = []
        for sentence in sentences:
            ids = np.array(sentence, np.int32)
            own = ids if self.copies else ids[:0]
            parts = (self.always, own, self.candidates[ids, :count].ravel())
            row = np.unique(np.concatenate(parts))
            rows.append(row[row != NONE])
        table = np.full((len(rows), max(map(len, rows), default=0)), NONE, np.int32)
        for row, words in zip(table, rows, strict=True):
            row[: len(words)] = words
        return table

    def save(self, path: Path) -> None:
        """Write the shortlist to a file, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file, candidates=self.candidates, always=self.always, copies=self.copies
            )

    @classmethod
    def load(cls, path: Path, size: int = MOST_PIECES) -> "Shortlist":
        """Read a shortlist, of target pieces below `size`; ValueError for a file that is none."""
        expected = {"candidates": ("<i4", 2), "always": ("<i4", 1), "copies": ("|b1", 0)}
        try:
            candidates, always, copies = read_arrays(path, expected)
            if any((ids < NONE).any() or (ids >= size).any() for ids in (candidates, always)):
                raise ValueError("pieces beyond the vocabulary")
            return cls(candidates, always, bool(copies))
        except ValueError as error:
            raise ValueError(
                f"{path}: not a shortlist ({brief(str(error))}); delete it, and it is learnt again"
            ) from error


def shortlist_for(decode: DecodeConfig, prepared: Prepared) -> Shortlist | None:
    """Return the shortlist that a search asks for, of a prepared corpus; None: it asks for none.

    The first time it is learnt from the training pairs, and kept in the corpus' folder.
    """
    if not decode.shortlist:
        return None
    path = prepared.folder / FILE
    with FileLock(prepared.folder.parent / ".lock"):
        if not exists(path):
            LOG.warning("learning a shortlist from the training pairs, once: %s", path)
            learn(prepared.split("train"), prepared.tokenizers).save(path)
    return Shortlist.load(path, prepared.tokenizers.target.vocab_size)


def learn(pairs: ParallelDataset, tokenizers: Tokenizers) -> Shortlist:
    """Return the shortlist of training pairs."""
    source, target = tokenizers.source, tokenizers.target
    sizes = source.vocab_size, target.vocab_size
    cells, probability = ibm_model_1(Links.of(pairs, sizes), sizes)
    rows, columns = np.divmod(cells, sizes[1])
    candidates = best_of_rows(rows, columns, probability, sizes[0])
    counts = np.bincount(pairs.ids[1], minlength=sizes[1])
    frequent = np.argsort(-counts, kind="stable")[:FREQUENT]
    special = [target.eos_id, target.unk_id]
    always = np.concatenate([special, frequent[counts[frequent] > 0]]).astype(np.int32)
    return Shortlist(candidates, always, tokenizers.joint)


@dataclass
class Links:
    """Every way to link a target token to a source token of its sentence, or to none (L,)."""

    tokens: NDArray[np.int64]  # (L,) the number of the target token
    cells: NDArray[np.int64]  # (L,) the pair of pieces s * V + t; s = S stands for none

    @classmethod
    def of(cls, pairs: ParallelDataset, sizes: tuple[int, int]) -> "Links":
        """Return the links of some pairs, at most MOST_LINKS: of a random sample if need be."""
        lengths = pairs.src_lengths, pairs.tgt_lengths - 1  # of the source with a piece for none
        chosen = np.random.default_rng(0).permutation(len(pairs))
        fits = np.cumsum(lengths[0][chosen] * lengths[1][chosen]) <= MOST_LINKS
        chosen = np.sort(chosen[: max(1, int(fits.sum()))])
        none = np.array([sizes[0]])
        source = np.concatenate([np.concatenate([none, pairs.src(i)]) for i in chosen])
        target = np.concatenate([pairs.tgt(i) for i in chosen])
        src_lengths, tgt_lengths = (side[chosen] for side in lengths)
        # each target token meets all source tokens of its sentence
        count = np.repeat(src_lengths, tgt_lengths)
        start = np.repeat(np.cumsum(src_lengths) - src_lengths, tgt_lengths)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        pieces = source[np.repeat(start, count) + within]
        tokens = np.repeat(np.arange(len(target)), count)
        return cls(tokens, pieces * sizes[1] + target[tokens])


def ibm_model_1(
    links: Links, sizes: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of pieces s * V + t that occur, and p(t | s) of each.

    Expectation maximisation from equal probabilities.
    """
    cells, which = np.unique(links.cells, return_inverse=True)
    source, probability = cells // sizes[1], np.ones(len(cells))
    for _ in range(ITERATIONS):
        share = probability[which]
        share /= np.bincount(links.tokens, share)[links.tokens]
        counts = np.bincount(which, share, len(cells))
        probability = counts / np.bincount(source, counts)[source]
    known = source < sizes[0]
    return cells[known], probability[known]


def best_of_rows(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.int32]:
    """Return the columns of the largest values of each row (count, C), then NONE."""
    order = np.lexsort((columns, -values, rows))
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(rows, np.arange(count))
    places = np.arange(len(rows)) - starts[rows]
    best = places < MOST_CANDIDATES
    table = np.full((count, MOST_CANDIDATES), NONE, np.int32)
    table[rows[best], places[best]] = columns[best]
    return table
