"""The speed tables: our layers, training steps and search, with torch.nn.LSTM or greedy search
measured beside them.

    python scripts/benchmark.py
    python scripts/benchmark.py layers --json layers.json

ms is the median over interleaved rounds, ratio the median of the ratios to the first row of the
same round. products: the part of a row's time that its matrix products alone would take. Tables of
several sizes have geometric means below.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from seq2seq.app.exit_codes import guarded
from seq2seq.benchmark import timing as benchmark
from seq2seq.benchmark.timing import NORMS, PRODUCTS, Memory, Run, Size, Timing
from seq2seq.config import CellConfig, DecodeConfig, ModelConfig
from seq2seq.device import set_threads
from seq2seq.figures import save_figure, speed_figure
from seq2seq.files import write_text
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn.config import NormConfig, NormKind
from seq2seq.translation.search import search_in_batches

SIZES = {
    "small": [(10, 8, 32, 32)],
    "full": [(25, 64, 256, 256), (25, 64, 512, 512), (25, 128, 512, 512), (50, 32, 1024, 1024)],
}
"""(T, B, I, H) of the layers."""
Tables = dict[str, list[Timing]]


def layers(size: str, rounds: int, compiled: bool) -> Tables:
    """One layer: the LSTM by norm, backend and type, training and not; GRU and RNN; a step at a
    time.
    """
    runs: dict[str, Callable[[], dict[str, Run]]] = {}
    for shape in SIZES[size]:
        runs[f"LSTM, training, {named(shape)}"] = partial(benchmark.lstms, shape, compiled)
        runs[f"LSTM, inference, {named(shape)}"] = partial(benchmark.lstms_forward, shape, compiled)
        for cell in ("GRU", "RNN"):
            runs[f"{cell}, training, {named(shape)}"] = partial(benchmark.others, cell, shape)
    for hidden in sorted({hidden for *_, hidden in SIZES[size]}):
        runs[f"LSTM, 20 single steps of 5 rows, H={hidden}"] = partial(
            benchmark.single_steps, hidden
        )
    return {
        title: benchmark.interleave(make(), rounds)
        for title, make in tqdm(runs.items(), "layers", unit="table")
    }


def named(shape: Size) -> str:
    """Sizes as the tables' titles give them."""
    return " ".join(f"{letter}={size}" for letter, size in zip("TBIH", shape, strict=True))


def means(tables: Tables) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios over tables that differ in sizes alone."""
    groups: dict[str, list[list[Timing]]] = {}
    for title, timings in tables.items():
        groups.setdefault(title.rpartition(", ")[0], []).append(timings)
    return {
        f"{group}, {len(found)} sizes": benchmark.geometric_means(found)
        for group, found in groups.items()
        if len(found) > 1
    }


def translators(size: str) -> dict[str, Translator]:
    """A translator of each norm with fresh weights."""
    torch.manual_seed(0)
    vocabulary = 100 if size == "small" else 8000
    config = ModelConfig(32, 32, dropout=0.0) if size == "small" else ModelConfig()
    return {
        f"norm={norm}": Translator(
            config,
            NormConfig(kind=NormKind[norm]),
            CellConfig(),
            Vocabulary(vocabulary, vocabulary, True),
        )
        for norm in NORMS
    }


def training_update(
    model: Translator, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]
) -> None:
    """One update without label smoothing or clipping."""
    optimizer.zero_grad(set_to_none=True)
    model(*batch)[0].backward()
    optimizer.step()


def train(size: str, rounds: int, compiled: bool) -> Tables:
    """One parameter update of the whole translator, by norm."""
    sentences, words = (8, 5) if size == "small" else (64, 15)
    lengths = torch.full((sentences,), words)
    runs: dict[str, Callable[[], object]] = {}
    for name, model in translators(size).items():
        ids = torch.randint(4, model.vocabulary.tgt_size, (sentences, words))
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        runs[name] = partial(training_update, model, optimizer, (ids, lengths, ids, lengths))
    return {
        f"one update, {sentences} sentences of {words} words": benchmark.interleave(runs, rounds)
    }


def search(model: Translator, sentences: list[list[int]], beam: int) -> None:
    """Translate all sentences to the longest length."""
    list(search_in_batches(model, sentences, DecodeConfig(beam_size=beam, max_length="1x")))


def decode(size: str, rounds: int, compiled: bool) -> Tables:
    """Search, greedy and with a beam of 5, by norm."""
    count, words = (4, 5) if size == "small" else (64, 15)
    runs: dict[str, Callable[[], object]] = {}
    for name, model in translators(size).items():
        sentences = torch.randint(4, model.vocabulary.src_size, (count, words)).tolist()
        for beam in (1, 5):
            runs[f"{name} beam={beam}"] = partial(search, model.eval(), sentences, beam)
    return {f"{count} sentences of {words} words": benchmark.interleave(runs, rounds)}


TABLES = {"layers": layers, "train": train, "decode": decode}


def show(tables: Tables) -> None:
    """Print every table, and the means over sizes."""
    for title, timings in tables.items():
        floor = next((t.milliseconds for t in timings if t.name == PRODUCTS), None)
        table = heading(title, "ms", "ratio", "quartiles", *(["products"] if floor else []))
        for t in timings:
            share = [f"{floor / t.milliseconds:.0%}"] if floor and "bfloat16" not in t.name else []
            table.add_row(
                t.name,
                f"{t.milliseconds:.1f}",
                f"{t.ratio:.2f}",
                f"{t.low:.2f} to {t.high:.2f}",
                *share,
            )
        Console().print(table)
    for title, ratios in means(tables).items():
        table = heading(title, "ratio")
        for name, ratio in ratios.items():
            table.add_row(name, f"{ratio:.2f}")
        Console().print(table)


def show_memory(found: dict[str, list[Memory]]) -> None:
    """Print how much memory training takes."""
    for title, rows in found.items():
        table = heading(title, "MiB", "ratio")
        for m in rows:
            table.add_row(m.name, f"{m.mebibytes:.0f}", f"{m.ratio:.2f}")
        Console().print(table)


def heading(title: str, *columns: str) -> Table:
    """Prints a title; gives an empty table whose first column names the contestants."""
    Console().print(title, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def main() -> None:
    """Parse the command line, measure, print, and write the JSON where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*TABLES, "memory", "all"],
        default="all",
        help="what is measured (default: all)",
    )
    parser.add_argument(
        "--size", choices=list(SIZES), default="full", help="small takes a second, for a first look"
    )
    parser.add_argument(
        "--rounds", type=int, default=11, metavar="N", help="interleaved rounds (default: 11)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="layers: torch.compile of the reference, too; its compilation takes minutes",
    )
    parser.add_argument("--figure", type=Path, metavar="PNG", help="layers: draw the ratios there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    if arguments.figure is not None and arguments.what not in ("layers", "all"):
        parser.error(
            f"--figure {arguments.figure}: {arguments.what} has no figure; expected layers"
        )
    set_threads(arguments.threads)
    chosen = (
        list(TABLES)
        if arguments.what == "all"
        else [arguments.what]
        if arguments.what in TABLES
        else []
    )
    tables = {
        title: rows
        for name in chosen
        for title, rows in TABLES[name](arguments.size, arguments.rounds, arguments.compile).items()
    }
    grown = (
        {
            f"LSTM, training, {named(shape)}": benchmark.memory(shape)
            for shape in SIZES[arguments.size]
        }
        if arguments.what in ("memory", "all")
        else {}
    )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds"
    )
    show(tables)
    show_memory(grown)
    if arguments.figure is not None:
        ratios = {title: {t.name: t.ratio for t in timings} for title, timings in tables.items()}
        drawn = {title: r for title, r in ratios.items() if next(iter(r)) == "torch.nn.LSTM"}
        save_figure(speed_figure(drawn), arguments.figure)
    if arguments.json is not None:
        figures = {title: [asdict(t) for t in timings] for title, timings in tables.items()}
        memories = {title: [asdict(m) for m in rows] for title, rows in grown.items()}
        write_text(
            arguments.json,
            json.dumps(
                {
                    "torch": torch.__version__,
                    "threads": torch.get_num_threads(),
                    "rounds": arguments.rounds,
                    "tables": figures,
                    "means": means(tables),
                    "memory": memories,
                },
                indent=2,
            )
            + "\n",
        )


if __name__ == "__main__":
    sys.exit(guarded(main))
