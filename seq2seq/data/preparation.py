"""From text to a prepared corpus: clean-up that is counted, tokenizers, encoding on all cores.

A corpus is streamed: memory does not grow with it. It is written beside its final name and renamed
when whole.
"""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ..config import DataConfig, TokenizerConfig
from ..errors import DataError
from ..files import write_text
from .corpora import locate, split_pairs, splits, text_sha256
from .dataset import SIDES, Prepared, ids_dtype
from .text import clean, odd_characters
from .tokenizer import Tokenizers

VERSION = 2
"""Of everything below that decides what ends up in the arrays: raise it where that changes."""
CHUNK_PAIRS = 5000
FEW_PAIRS = 50_000
"""Below this, starting more processes takes longer than they save."""
TOKENIZER_PAIRS = 200_000
"""A tokenizer is trained on so many pairs, drawn evenly from a corpus that has more."""
LIBRARIES = ("sentencepiece", "jieba")
"""What else decides how text is split."""
RATIO_FROM = 10
"""Pieces on the longer side from which the length ratio counts."""

Pair = tuple[str, str]


@dataclass
class Counts:
    """What clean-up did to a split."""

    pairs: int = 0
    kept: int = 0
    empty: int = 0
    too_long: int = 0
    ratio: int = 0
    duplicates: int = 0
    odd: Counter[str] = field(default_factory=Counter)
    """Characters mapped or removed, by character."""

    def add(self, other: "Counts") -> None:
        """Count another part of the split too."""
        for name in ("pairs", "kept", "empty", "too_long", "ratio", "duplicates"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.odd.update(other.odd)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `dataclasses.asdict` would count the pairs of a Counter instead of copying
        it.
        """
        return {**vars(self), "odd": dict(sorted(self.odd.items()))}


@dataclass
class Encoded:
    """A chunk of pairs, encoded: of those that no rule but the one on duplicates dropped."""

    ids: tuple[list[bytes], list[bytes]]
    """Of each side and sentence, the ids in the side's type."""
    keys: list[bytes]
    """A 16-byte hash of each pair's cleaned text."""
    counts: Counts


@dataclass
class Encoder:
    """Cleans and encodes chunks; goes to the worker processes as it is."""

    tokenizers: Tokenizers
    max_length: int
    max_ratio: float
    drops: bool
    """Whether pairs may be dropped: those of train alone."""

    def __call__(self, chunk: list[Pair]) -> Encoded:
        """Encode a chunk."""
        counts, ids, keys = Counts(pairs=len(chunk)), ([], []), []  # type: ignore[var-annotated]
        sides = (self.tokenizers.source, self.tokenizers.target)
        dtypes = [ids_dtype(t.vocab_size) for t in sides]
        for pair in chunk:
            for line in pair:
                counts.odd.update(odd_characters(line))
            both = [tokenizer.encode(line) for tokenizer, line in zip(sides, pair, strict=True)]
            if self.drops and (rule := self.broken_rule(*map(len, both))):
                setattr(counts, rule, getattr(counts, rule) + 1)
                continue
            for side, dtype, found in zip(ids, dtypes, both, strict=True):
                side.append(np.array(found, dtype).tobytes())
            text = "\t".join(clean(line) for line in pair).encode("utf-8")
            keys.append(hashlib.blake2b(text, digest_size=16).digest())
        counts.kept = len(keys)
        return Encoded(ids, keys, counts)

    def broken_rule(self, src: int, tgt: int) -> str | None:
        """The first rule that a pair of so many pieces breaks."""
        if not src or not tgt:
            return "empty"
        if max(src, tgt) > self.max_length:
            return "too_long"
        if max(src, tgt) >= RATIO_FROM and max(src, tgt) > self.max_ratio * min(src, tgt):
            return "ratio"
        return None


class SeenPairs:
    """Which pairs were there before: a table on disk, so that memory does not grow with the
    corpus.
    """

    def __init__(self, folder: Path) -> None:
        self.connection = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=OFF")
        self.connection.execute("PRAGMA synchronous=OFF")
        self.connection.execute("PRAGMA cache_size=-65536")  # KiB
        self.connection.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        """Close the table."""
        self.connection.close()

    def new(self, keys: list[bytes]) -> list[bool]:
        """Of each key, whether it comes for the first time."""
        self.connection.execute("BEGIN")
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        found = [self.connection.execute(insert, (key,)).rowcount == 1 for key in keys]
        self.connection.execute("COMMIT")
        return found


class SplitWriter:
    """Appends encoded sentences to a split's arrays."""

    def __init__(self, folder: Path, name: str, tokenizers: Tokenizers) -> None:
        self.files: list[tuple[BinaryIO, BinaryIO]] = [
            (
                (folder / f"{name}.{side}.ids").open("wb"),
                (folder / f"{name}.{side}.ends").open("wb"),
            )
            for side in SIDES
        ]
        self.sizes = [
            ids_dtype(t.vocab_size).itemsize for t in (tokenizers.source, tokenizers.target)
        ]
        self.ends = [0, 0]

    def write(self, encoded: Encoded, keep: list[bool]) -> None:
        """Append those sentences of a chunk that are kept."""
        for side, (ids, ends) in enumerate(self.files):
            kept = [b for b, wanted in zip(encoded.ids[side], keep, strict=True) if wanted]
            ids.writelines(kept)
            lengths = np.array([len(b) // self.sizes[side] for b in kept], np.int64)
            ends.write((self.ends[side] + np.cumsum(lengths)).astype(np.int64).tobytes())
            self.ends[side] += int(lengths.sum())

    def close(self) -> None:
        """Close the files."""
        for pair in self.files:
            for file in pair:
                file.close()


def chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Pairs, CHUNK_PAIRS at a time."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, CHUNK_PAIRS)):
        yield chunk


def encoded_chunks(pairs: Iterable[Pair], encoder: Encoder) -> Iterator[Encoded]:
    """Every chunk encoded, in order: the first ones here, a large corpus' others on all cores.

    Only a few chunks are under way at a time, however fast the text is read.
    """
    stream = chunks(pairs)
    yield from map(encoder, islice(stream, FEW_PAIRS // CHUNK_PAIRS))
    following = next(stream, None)
    if following is None:
        return
    workers = available_cores()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(encoder,)
    ) as pool:
        pending: deque[Future[Encoded]] = deque([pool.submit(_encode, following)])
        for chunk in stream:
            pending.append(pool.submit(_encode, chunk))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def available_cores() -> int:
    """Cores this process may use: under a job scheduler fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_worker_encoder: Callable[[list[Pair]], Encoded]


def _start_worker(encoder: Encoder) -> None:
    global _worker_encoder
    _worker_encoder = encoder


def _encode(chunk: list[Pair]) -> Encoded:
    return _worker_encoder(chunk)


def fingerprint(data: DataConfig, tokenizer: TokenizerConfig, names: list[str]) -> str:
    """A hash of everything that decides what a prepared corpus holds."""
    made_of = {
        "version": VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
        "unicode": unicodedata.unidata_version,
        "texts": {
            name: [text_sha256(path) for path in locate(data, name).paths()] for name in names
        },
        "tokenizer": asdict(tokenizer),
        "cleaning": asdict(data.cleaning),
        "max_length": data.max_length,
        "train_pairs": data.train_pairs,
        "valid_share": data.valid_share,
        "languages": [data.source_language, data.target_language],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[
        :16
    ]


def prepare(data: DataConfig, tokenizer: TokenizerConfig, progress: bool = True) -> Prepared:
    """The prepared corpus: as it stands if it has been made before, else made now. Processes wait
    for each other.
    """
    names = ["train", *({"valid"} & splits(data).keys())]
    root = Path(data.root) / data.name
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        folder = root / fingerprint(data, tokenizer, names)
        if not (folder / "manifest.json").exists():
            for abandoned in root.glob(
                ".making-*"
            ):  # by a process that was killed: we hold the lock
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".making-") as temporary:
                made = Path(temporary) / "corpus"
                made.mkdir()
                make(made, data, tokenizer, progress, folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(made, folder)
    return Prepared.open(folder)


def make(
    folder: Path, data: DataConfig, tokenizer: TokenizerConfig, progress: bool, folder_name: str
) -> None:
    """Fill an empty folder, which will have this name, with the prepared corpus."""
    tokenizers = train_tokenizers(data, tokenizer)
    tokenizers.save(folder)
    counts = {}
    for name in ("train", "valid"):
        counts[name] = encode_split(folder, name, data, tokenizers, progress)
        if not counts[name].kept:
            raise DataError(nothing_left(data, name, counts[name]))
    languages = [data.source_language, data.target_language]
    manifest = {
        "name": data.name,
        "fingerprint": folder_name,
        "languages": languages,
        "splits": {name: c.as_dict() for name, c in counts.items()},
    }
    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def nothing_left(data: DataConfig, name: str, counts: Counts) -> str:
    """Why a split has no pairs, and what to do about it."""
    if name == "valid" and name not in splits(data):
        return (
            f"data={data.name}: data.valid_share={data.valid_share} of train holds out no pair for"
            " valid; expected a larger share, or data.valid.source=FILE data.valid.target=FILE"
        )
    rules = ", ".join(
        f"{count} {rule}"
        for rule in ("empty", "too_long", "ratio")
        if (count := getattr(counts, rule))
    )
    return (
        f"data={data.name}: no pair of split {name!r} is left after clean-up of {counts.pairs}"
        f" ({rules}); see data.max_length and data.cleaning"
    )


def train_tokenizers(data: DataConfig, tokenizer: TokenizerConfig) -> Tokenizers:
    """Tokenizers from the training text, or from a sample of it."""
    pairs = sample(islice(split_pairs(data, "train"), data.train_pairs), TOKENIZER_PAIRS)
    languages = (data.source_language, data.target_language)
    return Tokenizers.train(
        (src for src, _ in pairs), (tgt for _, tgt in pairs), tokenizer, languages
    )


def sample(pairs: Iterable[Pair], size: int) -> list[Pair]:
    """So many pairs, each as likely as another and always the same ones (reservoir sampling); all
    of fewer.
    """
    iterator, chance = iter(pairs), random.Random(0)
    kept = list(islice(iterator, size))
    for seen, pair in enumerate(iterator, start=size + 1):
        if (place := chance.randrange(seen)) < size:
            kept[place] = pair
    return kept


def encode_split(
    folder: Path, name: str, data: DataConfig, tokenizers: Tokenizers, progress: bool
) -> Counts:
    """Write one split's arrays, and its text unless it is train's."""
    is_train = name == "train"
    encoder = Encoder(tokenizers, data.max_length, data.cleaning.max_length_ratio, drops=is_train)
    counts, limit = Counts(), data.train_pairs if is_train else None
    pairs = split_pairs(data, name)
    pairs = pairs if is_train else keeping_text(pairs, folder, name)
    with (
        closing(SplitWriter(folder, name, tokenizers)) as writer,
        closing(SeenPairs(folder)) as seen,
        tqdm(
            desc=f"preparing {name}",
            unit="pair",
            unit_scale=True,
            disable=not progress,
            leave=False,
        ) as bar,
    ):
        for encoded in encoded_chunks(pairs, encoder):
            keep = [True] * len(encoded.keys)
            if is_train and data.cleaning.drop_duplicates:
                keep = seen.new(encoded.keys)
            encoded.counts.duplicates = keep.count(False)
            if limit is not None:
                room = limit - counts.kept
                keep = [wanted and (room := room - 1) >= 0 for wanted in keep]
            encoded.counts.kept = keep.count(True)
            writer.write(encoded, keep)
            counts.add(encoded.counts)
            bar.update(encoded.counts.pairs)
            if limit is not None and counts.kept >= limit:
                break
    (folder / "seen.sqlite").unlink()
    return counts


def keeping_text(pairs: Iterable[Pair], folder: Path, name: str) -> Iterator[Pair]:
    """The pairs as they come, their text written down."""
    with (
        open(folder / f"{name}.source.txt", "w", encoding="utf-8", newline="\n") as src,
        open(folder / f"{name}.target.txt", "w", encoding="utf-8", newline="\n") as tgt,
    ):
        for pair in pairs:
            src.write(pair[0] + "\n")
            tgt.write(pair[1] + "\n")
            yield pair


def describe(prepared: Prepared) -> list[dict[str, Any]]:
    """The clean-up table: one row a split, its counts by rule, and the characters that were mapped
    or removed.
    """
    return [{"split": name, **counts} for name, counts in prepared.manifest["splits"].items()]
