"""Report on the text of a corpus: lengths, outliers, repetitions, unknown characters, scripts.

It takes the settings of a run, as prepare_data.py does, and besides them --json FILE and
--figure PNG.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from ..files import write_text
from ..shown import escaped
from .arguments import Parser, output_file
from .composition import job, run, settings
from .options import console

if TYPE_CHECKING:
    from ..config import Config
    from ..data.tokenizer import Tokenizer
    from ..data_report.survey import Example, Overlap, Split, Survey


def options() -> argparse.Namespace:
    """Take --json and --figure off the command line; the rest are settings."""
    command = Parser(add_help=False, allow_abbrev=False)
    command.knows_others = False  # what else is there is Hydra's
    command.add_argument("--json", type=output_file)
    command.add_argument("--figure", type=output_file)
    asked = argparse.Namespace()
    _, sys.argv[1:] = command.parse_known_args(namespace=asked)
    return asked


def main() -> None:
    """Report on the corpus that the command line names."""
    asked = options()

    def task(cfg: DictConfig) -> None:
        with job():
            report(settings(cfg), asked.json, asked.figure)

    run(task, "data_report")


def report(config: "Config", file: Path | None, figure: Path | None) -> None:
    """Survey a corpus; print the report, and write the JSON file and the figure on request."""
    from ..data_report.advice import advice
    from ..data_report.survey import Survey

    tokenizers, problem = tokenizers_of(config)
    with progress() as show_progress:
        survey = Survey(config.data, tokenizers, show_progress, config.tokenizer.one_model)
    own = config.tokenizer if config.init_from is None else None
    found = [problem] * bool(problem) + advice(survey.splits, config.data, own)
    show(survey, found)
    if file is not None:
        values = {"corpus": config.data.name, "splits": as_json(survey.splits), "advice": found}
        write_text(file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    if figure is not None:
        from ..data_report.figure import lengths_figure
        from ..figures import save_figure

        save_figure(lengths_figure(survey.splits, config.data.name), figure)


def tokenizers_of(config: "Config") -> "tuple[list[Tokenizer] | None, str]":
    """Return the corpus' tokenizers, prepared first; without them, why it cannot be prepared."""
    from ..data.preparation import prepare
    from ..errors import DataError
    from ..translation.loading import ready_tokenizers

    ready = ready_tokenizers(config)
    try:
        shows = config.trainer.progress
        tokenizers = prepare(config.data, config.tokenizer, shows, ready).tokenizers
    except DataError as error:
        return None, f"It cannot be prepared for training: {error}."
    return [tokenizers.source, tokenizers.target], ""


@contextmanager
def progress() -> "Iterator[Callable[[str], object]]":
    """Give a function that shows how far the survey is, at a terminal."""
    out = console(stderr=True)
    with out.status("reading") as status:
        # As Text: a string would be read as markup, in which [brackets] are commands.
        yield (
            (lambda text: status.update(Text(escaped(text))))
            if out.is_terminal
            else (lambda text: None)
        )


def as_json(splits: "Sequence[Split]") -> list[dict[str, Any]]:
    """Return the survey as JSON can hold it, without the length of every sentence."""
    return [{key: v for key, v in asdict(s).items() if key != "lengths"} for s in splits]


# -- the report ---


def show(survey: "Survey", found: Sequence[str]) -> None:
    """Print tables, examples and advice."""
    out, splits = console(), survey.splits
    out.print(pairs_table(splits))
    for unit in ("words", "pieces"):
        if getattr(splits[0].source, unit):
            out.print()
            out.print(length_table(splits, unit))
    for split in splits:
        if split.worst:
            out.print(f"\n{escaped(split.name)}: the most unusual length ratios")
            show_examples(split.name, split.worst)
        if split.in_train is not None and split.in_train.examples:
            out.print(f"\n{escaped(split.name)}: sentences that are in train too")
            show_examples(split.name, split.in_train.examples)
    print("\nadvice")
    for sentence in found:
        print(f"  - {escaped(sentence)}")


def pairs_table(splits: "Sequence[Split]") -> Table:
    """Return a table of what was counted, by split."""
    rows: dict[str, Callable[[Split], int | None]] = {
        "pairs": lambda s: s.pairs,
        "source empty": lambda s: s.source.empty,
        "target empty": lambda s: s.target.empty,
        "repeated pairs": lambda s: s.repeated,
        "repeated sources": lambda s: s.repeated_sources,
        "source = target": lambda s: s.copies,
        "unusual length ratio": lambda s: s.outliers,
        "more pieces than data.max_length": lambda s: s.longer_than_limit,
        "source is in train": lambda s: overlap(s.in_train, "source"),
        "target is in train": lambda s: overlap(s.in_train, "target"),
        "pair is in train": lambda s: overlap(s.in_train, "pair"),
        "source not in its script": lambda s: s.source.other_script,
        "target not in its script": lambda s: s.target.other_script,
        "source characters not in train": lambda s: len(s.source.unknown_characters),
        "target characters not in train": lambda s: len(s.target.unknown_characters),
        "unknown source pieces": lambda s: s.source.unknown_pieces,
        "unknown target pieces": lambda s: s.target.unknown_pieces,
        "lines with U+FFFD": lambda s: s.source.damaged + s.target.damaged,
    }
    table = Table(box=None, pad_edge=False, title="counts", title_justify="left")
    table.add_column("")
    for split in splits:
        table.add_column(escaped(split.name), justify="right")
    for title, count in rows.items():
        counts = [count(split) for split in splits]
        table.add_row(title, *("" if n is None else f"{n:,}" for n in counts))
    return table


def overlap(found: "Overlap | None", kind: str) -> int | None:
    """Return how many sentences are in train too; None for train itself."""
    return None if found is None else int(getattr(found, kind))


def length_table(splits: "Sequence[Split]", unit: str) -> Table:
    """Return a table of percentiles of the lengths, by split and side."""
    named = {side.unit for side in splits[0].sides} if unit == "words" else {unit}
    title = f"lengths ({' or '.join(sorted(named))})"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for name in ("split", "side"):
        table.add_column(name)
    shown = {"0": "shortest", "50": "median", "100": "longest"}
    for percentile in getattr(splits[0].source, unit):
        table.add_column(shown.get(percentile, f"{percentile}%"), justify="right")
    for split in splits:
        for side in split.sides:
            lengths = getattr(side, unit).values()
            table.add_row(escaped(split.name), side.language, *(f"{n:,.0f}" for n in lengths))
    return table


def show_examples(name: str, examples: "Sequence[Example]") -> None:
    """Print pairs with the numbers of their lines."""
    out = console()
    for example in examples:
        place = escaped(f"{name}:{example.line}")
        out.print(f"  {place}  {example.found}", soft_wrap=True)
        for text in (example.source, example.target):
            out.print(f"    {escaped(text)}", soft_wrap=True)
