"""From text to a prepared corpus: tokenizers trained, text cleaned and encoded, everything counted.

A corpus is streamed: memory does not grow with its size.
"""

import hashlib
import json
import random
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from ..config import DataConfig, TokenizerConfig
from ..errors import DataError
from ..files import new_folder
from .corpora import locate, split_pairs, splits
from .dataset import Counts, Manifest, Prepared
from .encoding import Encoder, SeenPairs, SplitWriter, encoded_chunks
from .splitting import Pair
from .text import text_sha256
from .tokenizer import Tokenizers

VERSION = 2
"""Version of the code that decides what the arrays hold: increase it where that changes."""
TOKENIZER_PAIRS = 200_000
"""A tokenizer is trained on at most this many pairs, an even sample of a larger corpus."""
LIBRARIES = ("sentencepiece", "jieba")
"""Libraries whose version decides how text is split."""
MAKING = ".making-"
"""Start of the name of a folder that is being prepared."""


def fingerprint(data: DataConfig, tokenizer: TokenizerConfig, names: list[str]) -> str:
    """Return a hash of everything that decides the contents of a prepared corpus."""
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
    text = json.dumps(made_of, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(data: DataConfig, tokenizer: TokenizerConfig, progress: bool = True) -> Prepared:
    """Return the prepared corpus; prepare it first where that has not been done.

    Where several processes need the same corpus, one prepares it and the others wait. Raise
    DataError about text, tokenizer or settings that do not fit.
    """
    names = ["train", *({"valid"} & splits(data).keys())]
    root = Path(data.root) / data.name
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        folder = root / fingerprint(data, tokenizer, names)
        if not (folder / "manifest.json").exists():
            # We hold the lock: any other unfinished folder is that of a process that was killed.
            for abandoned in (*root.glob(f"{MAKING}*"), folder):
                shutil.rmtree(abandoned, ignore_errors=True)
            with new_folder(folder, prefix=MAKING) as made:
                make(made, data, tokenizer, progress)
    return Prepared.open(folder)


def make(folder: Path, data: DataConfig, tokenizer: TokenizerConfig, progress: bool) -> None:
    """Write the prepared corpus to an empty folder, whose name is its fingerprint."""
    tokenizers = train_tokenizers(data, tokenizer)
    tokenizers.save(folder)
    counts = {}
    for name in ("train", "valid"):
        counts[name] = encode_split(folder, name, data, tokenizers, progress)
        if not counts[name].kept:
            raise DataError(_nothing_left(data, name, counts[name]))
    languages = [data.source_language, data.target_language]
    Manifest(data.name, folder.name, languages, counts).write(folder / "manifest.json")


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
    languages = (data.source_language, data.target_language)
    return Tokenizers.train(
        (src for src, _ in pairs), (tgt for _, tgt in pairs), tokenizer, languages
    )


def sample(pairs: Iterable[Pair], size: int) -> list[Pair]:
    """Return at most `size` pairs, always the same, each with the same chance (reservoir)."""
    iterator, rng = iter(pairs), random.Random(0)
    kept = list(islice(iterator, size))
    for seen, pair in enumerate(iterator, start=size + 1):
        if (place := rng.randrange(seen)) < size:
            kept[place] = pair
    return kept


def encode_split(
    folder: Path, name: str, data: DataConfig, tokenizers: Tokenizers, progress: bool
) -> Counts:
    """Write one split's arrays, and its text unless it is train's; return what was counted."""
    is_train, counts = name == "train", Counts()
    encoder = Encoder(tokenizers, data.max_length, data.cleaning.max_length_ratio, drops=is_train)
    limited = is_train and data.train_pairs is not None
    room = data.train_pairs if limited and data.train_pairs is not None else sys.maxsize
    pairs = split_pairs(data, name)
    pairs = pairs if is_train else _keeping_text(pairs, folder, name)
    bar = tqdm(
        desc=f"preparing {name}", unit="pair", unit_scale=True, leave=False, disable=not progress
    )
    with closing(SplitWriter(folder, name)) as writer, closing(SeenPairs(folder)) as seen, bar:
        for encoded in encoded_chunks(pairs, encoder):
            keep = np.ones(len(encoded.keys), bool)
            if is_train and data.cleaning.drop_duplicates:
                keep = np.array(seen.new(encoded.keys), bool)
            encoded.counts.duplicates = int((~keep).sum())
            keep &= np.cumsum(keep) <= room
            encoded.counts.kept = int(keep.sum())
            writer.write(encoded, keep)
            counts += encoded.counts
            room -= encoded.counts.kept
            bar.update(encoded.counts.pairs)
            if not room:
                break
    counts.odd = Counter(dict(sorted(counts.odd.items())))
    return counts


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
