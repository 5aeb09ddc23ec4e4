"""Prepare a corpus: fetch or draw its text, check, clean and tokenize it. `--help` shows how to ask
for which.

python scripts/prepare_data.py data=multi30k_de_en tokenizer=unigram
"""

import sys
import unicodedata
from typing import Any

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from seq2seq.app import cli
from seq2seq.data.dataset import Counts

cli.register()

COLUMNS = {
    "pairs": "pairs",
    "empty": "empty side",
    "too_long": "too long",
    "ratio": "length ratio",
    "duplicates": "repeated",
    "kept": "kept",
}


def clean_up_table(rows: dict[str, Counts]) -> Table:
    """What clean-up dropped, by split and rule."""
    table = Table(box=None, pad_edge=False, title="clean-up (pairs)", title_justify="left")
    table.add_column("split")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for split, row in rows.items():
        table.add_row(split, *(f"{getattr(row, key):,}" for key in COLUMNS))
    return table


def character_table(rows: dict[str, Counts]) -> Table:
    """Which odd characters were mapped to a space or removed, and how often."""
    table = Table(box=None, pad_edge=False, title="characters made plain", title_justify="left")
    for title in ("character", "", *rows):
        table.add_column(title, justify="right" if title in rows else "left")
    for char in sorted(set().union(*(row.odd for row in rows.values()))):
        name = unicodedata.name(char, "CONTROL CHARACTER").lower()
        table.add_row(f"U+{ord(char):04X}", name, *(f"{row.odd[char]:,}" for row in rows.values()))
    return table


def show_example(line: str, tokenizer: Any, embedding_size: int) -> None:
    """A sentence, its pieces, its ids, and their embeddings' shape."""
    from torch import nn, tensor

    ids = tokenizer.encode(line)
    embedded = nn.Embedding(tokenizer.vocab_size, embedding_size)(
        tensor([[*ids, tokenizer.eos_id]])
    )
    print("\na sentence on its way into the model")
    for title, value in (
        ("text", line),
        ("pieces", " ".join(tokenizer.pieces(line))),
        ("ids", ids),
        ("with </s>", [*ids, tokenizer.eos_id]),
        ("decoded", tokenizer.decode(ids)),
        ("embeddings", f"{tuple(embedded.shape)}  (sentences, pieces, model.embedding_size)"),
    ):
        print(f"  {title:<10}  {value}")


@hydra.main(version_base="1.3", config_path="../configs", config_name="prepare_data")
def main(cfg: DictConfig) -> None:
    """Prepare what the command line asks for, and show it."""
    from seq2seq.data.preparation import prepare

    config = cli.composed(cfg)
    prepared = prepare(config.data, config.tokenizer)
    rows, tokenizers = prepared.manifest.splits, prepared.tokenizers
    console = Console()
    console.print(clean_up_table(rows))
    if any(row.odd for row in rows.values()):
        console.print()
        console.print(character_table(rows))
    shown = (
        (("joint", tokenizers.source),)
        if tokenizers.joint
        else (
            (config.data.source_language, tokenizers.source),
            (config.data.target_language, tokenizers.target),
        )
    )
    print()
    for name, tokenizer in shown:
        print(f"{config.tokenizer.kind.value} vocabulary, {name}: {tokenizer.vocab_size:,} pieces")
    lines = prepared.split("valid").source_lines()
    show_example(
        next((line for line in lines if line.strip()), ""),
        tokenizers.source,
        config.model.embedding_size,
    )
    print(f"\n{prepared.folder}")


if __name__ == "__main__":
    sys.exit(cli.guarded(main))
