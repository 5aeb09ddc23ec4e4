"""Invented text for tokenizers, and a corpus of it."""

import random
from pathlib import Path

from seq2seq.config import DataConfig, SplitConfig

WORDS = ("small", "birds", "sing", "in", "the", "old", "trees", "every", "morning", "loudly")


def letters(count: int, alphabet: str = "abcdefghij", seed: int = 0) -> str:
    chance = random.Random(seed)
    return "".join(chance.choice(alphabet) for _ in range(count))


def sentences(count: int = 200) -> list[str]:
    """Lines of the words above and of a thousand invented ones: enough for 200 pieces."""
    chance = random.Random(5)
    words = [*WORDS * 20, *(letters(chance.randint(2, 9), "aeioustrn", i) for i in range(1000))]
    return [" ".join(chance.choices(words, k=chance.randint(3, 8))) for _ in range(count)]


def corpus(folder: Path, train: list[str]) -> DataConfig:
    for name, lines in (("train", train), ("valid", sentences(20))):
        for side in ("source", "target"):
            (folder / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines))
    splits = [
        SplitConfig(str(folder / f"{name}.source"), str(folder / f"{name}.target"))
        for name in ("train", "valid")
    ]
    return DataConfig(
        name="own",
        source_language="en",
        target_language="en",
        root=str(folder / "prepared"),
        train=splits[0],
        valid=splits[1],
    )
