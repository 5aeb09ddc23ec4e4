"""Clean-up and encoding of sentence pairs: in chunks, on all cores, every dropped pair counted."""

import hashlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import ENDS_DTYPE, SIDES, Counts, ids_dtype
from .splitting import Pair
from .text import clean, odd_characters
from .tokenizer import Tokenizers

CHUNK_PAIRS = 5000
FEW_PAIRS = 50_000
"""Pairs that are encoded by this process alone: more processes would start too slowly to help."""
RATIO_FROM = 10
"""Pieces on the longer side from which the length ratio counts."""


@dataclass
class Encoded:
    """A chunk of pairs, encoded, without those dropped; repeated pairs are still in it."""

    ids: list[NDArray[np.unsignedinteger]]
    """The ids of each side, all sentences one after the other."""
    lengths: list[NDArray[np.int64]]
    """The length of each side's sentences."""
    keys: list[bytes]
    """A 16-byte hash of each pair's cleaned text."""
    counts: Counts


@dataclass
class Encoder:
    """Clean-up and encoding of a chunk of pairs; it is sent to worker processes as it is."""

    tokenizers: Tokenizers
    max_length: int
    max_ratio: float
    drops: bool
    """Whether pairs may be dropped: only those of train may."""

    def __call__(self, chunk: list[Pair]) -> Encoded:
        """Encode a chunk."""
        counts, sentences, keys = Counts(pairs=len(chunk)), list[tuple[list[int], ...]](), []
        tokenizers = (self.tokenizers.source, self.tokenizers.target)
        for pair in chunk:
            for line in pair:
                counts.odd.update(odd_characters(line))
            both = tuple(t.encode(line) for t, line in zip(tokenizers, pair, strict=True))
            if self.drops and (rule := self.broken_rule(*map(len, both))):
                setattr(counts, rule, getattr(counts, rule) + 1)
                continue
            sentences.append(both)
            text = "\t".join(clean(line) for line in pair).encode("utf-8")
            keys.append(hashlib.blake2b(text, digest_size=16).digest())
        ids, lengths = [], []
        for side, tokenizer in enumerate(tokenizers):
            flat = chain.from_iterable(both[side] for both in sentences)
            ids.append(np.fromiter(flat, ids_dtype(tokenizer.vocab_size)))
            lengths.append(np.array([len(both[side]) for both in sentences], ENDS_DTYPE))
        return Encoded(ids, lengths, keys, counts)

    def broken_rule(self, src: int, tgt: int) -> str | None:
        """Return the first rule that a pair breaks, given the number of pieces on each side."""
        if not src or not tgt:
            return "empty"
        if max(src, tgt) > self.max_length:
            return "too_long"
        if max(src, tgt) >= RATIO_FROM and max(src, tgt) > self.max_ratio * min(src, tgt):
            return "ratio"
        return None


class SeenPairs:
    """The pairs seen so far, in a table on disk: memory does not grow with the corpus."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "seen.sqlite"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):  # in KiB
            self.connection.execute(f"PRAGMA {setting}")
        self.connection.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        """Close and delete the table."""
        self.connection.close()
        self.path.unlink()

    def new(self, keys: list[bytes]) -> list[bool]:
        """Return for each key whether it occurs for the first time."""
        self.connection.execute("BEGIN")
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        found = [self.connection.execute(insert, (key,)).rowcount == 1 for key in keys]
        self.connection.execute("COMMIT")
        return found


class SplitWriter:
    """The array files of a split, written chunk by chunk."""

    def __init__(self, folder: Path, name: str) -> None:
        self.ids, self.ends = (
            [(folder / f"{name}.{side}.{kind}").open("wb") for side in SIDES]
            for kind in ("ids", "ends")
        )
        self.last = [0, 0]

    def write(self, encoded: Encoded, keep: NDArray[np.bool_]) -> None:
        """Append the sentences of a chunk that are kept."""
        for side in range(len(SIDES)):
            lengths = encoded.lengths[side]
            self.ids[side].write(encoded.ids[side][np.repeat(keep, lengths)].tobytes())
            ends = self.last[side] + np.cumsum(lengths[keep])
            self.ends[side].write(ends.tobytes())
            self.last[side] += int(lengths[keep].sum())

    def close(self) -> None:
        """Close the files."""
        for file in (*self.ids, *self.ends):
            file.close()


def encoded_chunks(pairs: Iterable[Pair], encoder: Encoder) -> Iterator[Encoded]:
    """Yield every chunk encoded, in order; the chunks of a large corpus are shared by all cores.

    Only a few chunks are in memory at a time, however fast the text is read.
    """
    stream = _chunks(pairs)
    yield from map(encoder, islice(stream, FEW_PAIRS // CHUNK_PAIRS))
    first = next(stream, None)
    if first is None:
        return
    workers = available_cores()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = deque([pool.submit(encoder, first)])
        for chunk in stream:
            pending.append(pool.submit(encoder, chunk))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while chunk := list(islice(iterator, CHUNK_PAIRS)):
        yield chunk


def available_cores() -> int:
    """Return the number of cores of this process, which a job scheduler may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
