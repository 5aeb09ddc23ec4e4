"""A small corpus of the user's own files."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seq2seq.config import DataConfig, SplitConfig, TokenizerConfig

TOKENIZER = TokenizerConfig(vocab_size=90)


def sentences(count: int, seed: int = 0, most: int = 9) -> list[str]:
    """Return sentences of at most so many words and a number."""
    chance = random.Random(seed)
    nouns, verbs = (
        ["dog", "cat", "bird", "house", "tree", "child"],
        ["sees", "likes", "finds", "draws", "wants"],
    )
    return [
        " ".join(chance.choice(nouns if i % 2 else verbs) for i in range(chance.randint(2, most)))
        + f" {n % 97}"
        for n in range(count)
    ]


def corpus(
    tmp_path: Path,
    train: Sequence[tuple[str, str]] | None = None,
    valid: Sequence[tuple[str, str]] | None = None,
    **options: Any,
) -> DataConfig:
    """Write a corpus of own files from lists of pairs."""
    config = DataConfig(
        name="mine", root=str(tmp_path / "prepared"), target_language="de", **options
    )
    default = [(line, line.upper()) for line in sentences(300)]
    for split, pairs in (("train", default if train is None else train), ("valid", valid)):
        if pairs is not None:
            path = tmp_path / split
            path.write_bytes("".join(f"{src}\t{tgt}\n" for src, tgt in pairs).encode())
            setattr(config, split, SplitConfig(str(path)))
    return config
