"""Prepare a corpus: fetch or draw its text, check, clean and tokenize it, and show how."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.table import Table

from ..shown import counted, escaped
from .composition import job, run, settings
from .options import console

if TYPE_CHECKING:
    from ..config import Config
    from ..data.dataset import Counts, Prepared
    from ..data.normalization import Changes
    from ..data.tokenizer import Tokenizer

COLUMNS = {
    "pairs": "pairs",
    "empty": "empty side",
    "too_long": "too long",
    "ratio": "length ratio",
    "duplicates": "duplicate",
    "blank": "blank line",
    "kept": "kept",
}
"""Key of a count -> title of its column."""
MOST_CHANGES = 20
"""Rows of the table of changed characters."""
HIDDEN = ("Mn", "Me", "Cf")
"""Categories of characters that cannot be shown alone: marks and format characters."""
CONTROL = "control character"


def clean_up_table(rows: "Mapping[str, Counts]") -> Table:
    """Return a table of what clean-up dropped, by split and rule."""
    table = Table(box=None, pad_edge=False, title="clean-up (pairs)", title_justify="left")
    table.add_column("split")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for split, row in rows.items():
        table.add_row(split, *(f"{getattr(row, key):,}" for key in COLUMNS))
    return table


def character_table(rows: "Mapping[str, Counts]") -> Table:
    """Return a table of the characters that normalisation changed, the most frequent first."""
    total: Changes = Counter()
    for row in rows.values():
        total.update(row.changes)
    shown = [change for change, _ in total.most_common(MOST_CHANGES)]
    rest = [count for change, count in total.items() if change not in shown]
    notes = [f"{len(rest):,} more, {sum(rest):,} times in all: manifest.json"] if rest else []
    if others := sum(row.other_changes for row in rows.values()):
        notes.append(f"others, too rare for it, {others:,} times")
    table = Table(
        box=None,
        pad_edge=False,
        title="characters changed",
        title_justify="left",
        caption="; ".join(notes) or None,
        caption_justify="left",
    )
    for title in ("characters", "", "became", ""):
        table.add_column(title)
    for split in rows:
        table.add_column(split, justify="right")
    for change in shown:
        counts = (f"{row.changes[change]:,}" for row in rows.values())
        before, after = described(change.before), described(change.after)
        table.add_row(*before, *after, *counts)
    return table


def described(text: str) -> tuple[str, str]:
    """Return characters as they can be shown, and their names; several have code points alone."""
    if not text:
        return "", "removed"
    visible = text if text.isprintable() and not text.isspace() else ""
    visible = "" if unicodedata.category(text[0]) in HIDDEN else visible
    codes = " ".join(f"U+{ord(char):04X}" for char in text)
    if len(text) > 1:
        return visible, "" if text.isascii() else codes
    return visible, f"{codes} {unicodedata.name(text, CONTROL).lower()}"


def show_example(line: str, tokenizer: "Tokenizer", embedding_size: int) -> None:
    """Print a sentence, its pieces, its ids, and the shape of their embeddings."""
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
        print(f"  {title:<10}  {escaped(str(value))}")


def show_vocabularies(prepared: "Prepared", languages: tuple[str, str]) -> None:
    """Print the size of each vocabulary, and what its training left out."""
    from ..data.tokenizer_training import WHY_LEFT_OUT

    tokenizers, manifest = prepared.tokenizers, prepared.manifest
    shown = {"joint": tokenizers.source}
    if not tokenizers.joint:
        shown = dict(zip(languages, (tokenizers.source, tokenizers.target), strict=True))
    print()
    for name, tokenizer in shown.items():
        print(f"{tokenizer.kind.value} vocabulary, {name}: {tokenizer.vocab_size:,} pieces")
    if manifest.left_out:
        left_out = counted(manifest.left_out, "line")
        print(f"left out of the tokenizer's training: {left_out} ({WHY_LEFT_OUT})")
    for symbol in manifest.unseen:
        print(f"tokenizer.user_defined_symbols: {escaped(symbol)} is not in the training text")


def task(cfg: DictConfig) -> None:
    """Prepare one corpus and show it."""
    with job():
        show_prepared(settings(cfg))


def show_prepared(config: "Config") -> None:
    """Prepare the corpus of a configuration; print tables, vocabularies and an example."""
    from ..data.preparation import prepare
    from ..translation.loading import ready_tokenizers

    prepared = prepare(
        config.data, config.tokenizer, config.trainer.progress, ready=ready_tokenizers(config)
    )
    rows = prepared.manifest.splits
    out = console()
    out.print(clean_up_table(rows))
    if any(row.changes for row in rows.values()):
        out.print()
        out.print(character_table(rows))
    languages = (config.data.source_language, config.data.target_language)
    show_vocabularies(prepared, languages)
    lines = prepared.split("valid").lines("source")
    show_example(
        next((line for line in lines if line.strip()), ""),
        prepared.tokenizers.source,
        config.model.embedding_size,
    )
    print(f"\n{escaped(str(prepared.folder))}")


def main() -> None:
    """Prepare what the command line asks for."""
    run(task, "prepare_data")
