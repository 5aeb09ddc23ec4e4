"""From text to a prepared corpus: tokenizers trained, text cleaned and encoded, everything counted.

A corpus is streamed in chunks, and a large one is encoded on all cores: memory does not grow with
its size.
"""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import sys
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, compress, islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from ..config import DataConfig, TokenizerConfig, TokenizerKind
from ..errors import DataError
from ..files import new_folder
from ..parent import end_with_parent
from ..shown import escaped
from ..stored import write_checksums
from .checksums import checksum
from .columns import Skipped
from .corpora import locate, split_pairs, splits, unzipped
from .dataset import ENDS_DTYPE, SIDES, Counts, Manifest, Prepared, ids_dtype
from .language_check import check_scripts, check_words
from .normalization import clean
from .splitting import Pair
from .tokenizer import Tokenizers

VERSION = 7
"""Version of the code that decides what the arrays hold: increase it where that changes."""
LIBRARIES = ("sentencepiece", "jieba")
"""Libraries whose version decides how text is split."""
MAKING = ".making-"
"""Start of the name of a folder that is being prepared."""
TOKENIZER_PAIRS = 200_000
"""A tokenizer is trained on at most this many pairs, an even sample of a larger corpus."""
CHUNK_PAIRS = 5000
FEW_PAIRS = 50_000
"""Pairs that are encoded by this process alone: more processes would start too slowly to help."""
RATIO_FROM = 10
"""Pieces on the longer side from which the length ratio counts."""


def text_checksums(data: DataConfig) -> dict[str, list[str]]:
    """Return the checksums of the files of the splits that are prepared."""
    names = ["train", *({"valid"} & splits(data).keys())]
    return {name: [checksum(data, file) for file in locate(data, name)] for name in names}


def fingerprint(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    texts: dict[str, list[str]],
    ready: Tokenizers | None = None,
) -> str:
    """Return a hash of everything that decides the contents of a prepared corpus.

    `texts` are the checksums of its files, by split. `ready` are tokenizers that are not to be
    trained on its text. BPE-dropout belongs to training: it changes nothing here.
    """
    trained = {k: v for k, v in asdict(tokenizer).items() if not k.startswith("bpe_dropout")}
    made_of = {
        "version": VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
        "unicode": unicodedata.unidata_version,
        "texts": texts,
        "tokenizer": trained if ready is None else ready.identity,
        "cleaning": asdict(data.cleaning),
        "max_length": data.max_length,
        "train_pairs": data.train_pairs,
        "valid_share": data.valid_share,
        "languages": [data.source_language, data.target_language],
        "columns": [data.source_column, data.target_column],
    }
    text = json.dumps(made_of, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    progress: bool = True,
    ready: Tokenizers | None = None,
) -> Prepared:
    """Return the prepared corpus; prepare it first where that has not been done.

    `ready` are tokenizers to use as they are; otherwise `tokenizer` says how they are trained.
    Where several processes need the same corpus, one prepares it and the others wait. Raise
    DataError about text, tokenizer or settings that do not fit.
    """
    if ready is None and tokenizer.model is not None:
        ready = Tokenizers.own(tokenizer, (data.source_language, data.target_language))
    root = Path(data.root) / data.name
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        texts = text_checksums(data)
        folder = root / fingerprint(data, tokenizer, texts, ready)
        # We hold the lock: an unfinished folder is that of a process that was killed.
        for abandoned in root.glob(f"{MAKING}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        if not (folder / "manifest.json").exists():
            check_scripts(data)
            shutil.rmtree(folder, ignore_errors=True)
            with new_folder(folder, prefix=MAKING) as made:
                make(made, data, ready or train_tokenizers(data, tokenizer), texts, progress)
    return Prepared.open(folder)


def make(
    folder: Path,
    data: DataConfig,
    tokenizers: Tokenizers,
    texts: dict[str, list[str]],
    progress: bool,
) -> None:
    """Write the prepared corpus to an empty folder, whose name is its fingerprint."""
    tokenizers.save(folder)
    counts = {}
    with closing(SeenPairs(folder)) as seen:
        for name in ("train", "valid"):
            counts[name] = encode_split(folder, name, data, tokenizers, progress, seen)
            if not counts[name].kept:
                raise DataError(_nothing_left(data, name, counts[name]))
    languages = [data.source_language, data.target_language]
    left_out, unseen = tokenizers.left_out, tokenizers.unseen
    whole = {
        name: hashlib.sha256("".join(own).encode()).hexdigest()[:16] for name, own in texts.items()
    }
    manifest = Manifest(data.name, folder.name, languages, counts, whole, left_out, unseen)
    manifest.write(folder / "manifest.json")
    write_checksums(folder)


def _nothing_left(data: DataConfig, name: str, counts: Counts) -> str:
    """Return why a split has no pairs, and what to do about it."""
    if name == "valid" and name not in splits(data):
        return (
            f"data={data.name}: data.valid_share={data.valid_share} holds out no pair of train "
            "for valid; expected a larger share, or data.valid.source=FILE data.valid.target=FILE"
        )
    rules = ", ".join(f"{count} {rule}" for rule, count in counts.dropped.items() if count)
    return (
        f"data={data.name}: no pair of split {name!r} is left after clean-up of {counts.pairs} "
        f"({rules}); see data.max_length and data.cleaning"
    )


def train_tokenizers(data: DataConfig, tokenizer: TokenizerConfig) -> Tokenizers:
    """Train tokenizers on the training text, or on a sample of it."""
    pairs = sample(islice(split_pairs(data, "train"), data.train_pairs), TOKENIZER_PAIRS)
    languages, texts = (data.source_language, data.target_language), unzipped(pairs)
    if tokenizer.kind is TokenizerKind.word:
        check_words(texts, data)
    return Tokenizers.train(texts, tokenizer, languages)


def sample(pairs: Iterable[Pair], size: int) -> list[Pair]:
    """Return at most `size` pairs, always the same, each with the same chance (reservoir)."""
    iterator, rng = iter(pairs), random.Random(0)
    kept = list(islice(iterator, size))
    for seen, pair in enumerate(iterator, start=size + 1):
        if (place := rng.randrange(seen)) < size:
            kept[place] = pair
    return kept


def encode_split(
    folder: Path,
    name: str,
    data: DataConfig,
    tokenizers: Tokenizers,
    progress: bool,
    seen: "SeenPairs",
) -> Counts:
    """Write one split's arrays, and its text unless it is train's; return what was counted.

    `seen` are the training pairs: train adds its own, another split counts those that it shares.
    Of text after the pair that fills data.train_pairs nothing is counted.
    """
    is_train, counts = name == "train", Counts()
    encoder = Encoder(tokenizers, data.max_length, data.cleaning.max_length_ratio, drops=is_train)
    room = (is_train and data.train_pairs) or sys.maxsize
    pairs = split_pairs(data, name, skipped := Skipped())
    pairs = pairs if is_train else _keeping_text(pairs, folder, name)
    bar = tqdm(
        desc=escaped(f"preparing {name}"),
        unit="pair",
        unit_scale=True,
        leave=False,
        disable=not progress,
    )
    with closing(SplitWriter(folder, name)) as writer, bar:
        for encoded in encoded_chunks(pairs, encoder):
            if is_train:
                keep = _to_keep(encoded, seen, data.cleaning.drop_duplicates, room)
                if keep.sum() == room:  # what was read after the last of them does not count
                    last = counts.pairs + int(encoded.places[keep][-1])
                    pairs = split_pairs(data, name, skipped := Skipped())
                    encoded = encoder(list(islice(pairs, counts.pairs, last + 1)))
                    keep = keep[: len(encoded.keys)]
                encoded.counts.duplicates = int((~keep).sum())
            else:
                keep = np.ones(len(encoded.keys), bool)
                encoded.counts.in_train = seen.count(encoded.keys)
            encoded.counts.kept = int(keep.sum())
            writer.write(encoded, keep)
            counts += encoded.counts
            counts.forget_rare_changes()
            room -= encoded.counts.kept
            bar.update(encoded.counts.pairs)
            if not room:
                break
    counts.changes = Counter(dict(sorted(counts.changes.items())))
    counts.blank = skipped.blank if name in splits(data) else 0  # else train has counted them
    return counts


def _to_keep(encoded: "Encoded", seen: "SeenPairs", drops: bool, room: int) -> NDArray[np.bool_]:
    """Return which training pairs of a chunk to keep, at most `room`; only these are seen then."""
    new = np.array(seen.new(encoded.keys), bool)
    keep = new if drops else np.ones_like(new)
    fits = np.cumsum(keep) <= room
    seen.forget(compress(encoded.keys, new & ~fits))
    return keep & fits


def _keeping_text(pairs: Iterable[Pair], folder: Path, name: str) -> Iterator[Pair]:
    """Yield the pairs, and write their text to files."""
    with (
        open(folder / f"{name}.source.txt", "w", encoding="utf-8", newline="\n") as src,
        open(folder / f"{name}.target.txt", "w", encoding="utf-8", newline="\n") as tgt,
    ):
        for pair in pairs:
            src.write(f"{pair[0]}\n")
            tgt.write(f"{pair[1]}\n")
            yield pair


@dataclass
class Encoded:
    """A chunk of pairs, encoded, without those dropped; repeated pairs are still in it."""

    ids: list[NDArray[np.unsignedinteger]]
    """Ids of each side, all sentences one after the other."""
    lengths: list[NDArray[np.int64]]
    """Lengths of each side's sentences."""
    keys: list[bytes]
    """16-byte hashes of each pair's cleaned text."""
    places: NDArray[np.int64]
    """Positions of the pairs in the chunk."""
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
        places = list[int]()
        tokenizers = (self.tokenizers.source, self.tokenizers.target)
        for place, pair in enumerate(chunk):
            both = tuple(
                t.encode(line, counts.changes) for t, line in zip(tokenizers, pair, strict=True)
            )
            if self.drops and (rule := self.broken_rule(*map(len, both))):
                setattr(counts, rule, getattr(counts, rule) + 1)
                continue
            places.append(place)
            sentences.append(both)
            text = "\t".join(clean(line) for line in pair).encode("utf-8")
            keys.append(hashlib.blake2b(text, digest_size=16).digest())
        ids, lengths = [], []
        for side, tokenizer in enumerate(tokenizers):
            flat = chain.from_iterable(both[side] for both in sentences)
            ids.append(np.fromiter(flat, ids_dtype(tokenizer.vocab_size)))
            lengths.append(np.array([len(both[side]) for both in sentences], ENDS_DTYPE))
        return Encoded(ids, lengths, keys, np.array(places, np.int64), counts)

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
    """The training pairs seen so far, in a table on disk: memory does not grow with the corpus."""

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

    def count(self, keys: Iterable[bytes]) -> int:
        """Return how many of the keys are among those seen."""
        select = "SELECT COUNT(*) FROM seen WHERE key = ?"
        return sum(self.connection.execute(select, (key,)).fetchone()[0] for key in keys)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Take keys out of those seen."""
        self.connection.executemany("DELETE FROM seen WHERE key = ?", ((key,) for key in keys))


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
    iterator = iter(pairs)
    stream = iter(lambda: list(islice(iterator, CHUNK_PAIRS)), [])
    yield from map(encoder, islice(stream, FEW_PAIRS // CHUNK_PAIRS))
    first = next(stream, None)
    if first is None:
        return
    workers = available_cores()
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        pending = deque([pool.submit(encoder, first)])
        for chunk in stream:
            pending.append(pool.submit(encoder, chunk))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def available_cores() -> int:
    """Return the number of cores of this process, which a job scheduler may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
