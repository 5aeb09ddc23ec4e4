"""Measure speed and memory: our layers, training steps and search, compared with torch.nn.LSTM.

    python scripts/benchmark.py
    python scripts/benchmark.py layers --json layers.json

ms is the median over interleaved rounds; ratio is the median of the ratios to the first row of the
same round. products: the part of a row's time that its matrix products alone would take. Below the
tables of several sizes are their geometric means. Compiling kernels is in none of the times.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from seq2seq.app.arguments import one_of, parser, whole
from seq2seq.app.exit_codes import guarded
from seq2seq.app.options import add_threads
from seq2seq.app.utf8 import restart_in_utf8
from seq2seq.benchmark.figure import speed_figure
from seq2seq.benchmark.layers import PRODUCTS
from seq2seq.benchmark.memory import Memory
from seq2seq.benchmark.tables import SIZES, TABLES, Tables, means, memories
from seq2seq.config.checks import Range
from seq2seq.device import set_threads
from seq2seq.figures import save_figure
from seq2seq.files import write_text


def show(tables: Tables) -> None:
    """Print every table, and the means over sizes."""
    for title, timings in tables.items():
        floor = next((t.milliseconds for t in timings if t.name == PRODUCTS), None)
        table = titled(title, "ms", "ratio", "quartiles", *(["products"] if floor else []))
        for t in timings:
            share = [f"{floor / t.milliseconds:.0%}"] if floor and "bfloat16" not in t.name else []
            quartiles = f"{t.low:.2f} to {t.high:.2f}"
            table.add_row(t.name, f"{t.milliseconds:.1f}", f"{t.ratio:.2f}", quartiles, *share)
        Console().print(table)
    for title, ratios in means(tables).items():
        table = titled(title, "ratio")
        for name, ratio in ratios.items():
            table.add_row(name, f"{ratio:.2f}")
        Console().print(table)


def show_memory(found: dict[str, list[Memory]]) -> None:
    """Print the tables of memory."""
    for title, rows in found.items():
        table = titled(title, "MiB", "ratio")
        for m in rows:
            table.add_row(m.name, f"{m.mebibytes:.0f}", f"{m.ratio:.2f}")
        Console().print(table)


def titled(title: str, *columns: str) -> Table:
    """Print a title; return an empty table whose first column names the contestants."""
    Console().print(title, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def as_json(tables: Tables, grown: dict[str, list[Memory]], rounds: int) -> str:
    """Return all figures as JSON."""
    found = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "tables": {title: [asdict(t) for t in timings] for title, timings in tables.items()},
        "means": means(tables),
        "memory": {title: [asdict(m) for m in rows] for title, rows in grown.items()},
    }
    return json.dumps(found, indent=2) + "\n"


def draw(tables: Tables, path: Path) -> None:
    """Draw the ratios of the LSTM's tables."""
    ratios = {title: {t.name: t.ratio for t in timings} for title, timings in tables.items()}
    drawn = {title: r for title, r in ratios.items() if next(iter(r)) == "torch.nn.LSTM"}
    save_figure(speed_figure(drawn), path)


def parsed() -> argparse.Namespace:
    """Return the checked options of the command line."""
    command = parser(__doc__)
    choices = [*TABLES, "memory", "all"]
    command.add_argument(
        "what",
        nargs="?",
        type=one_of(choices),
        default="all",
        metavar="WHAT",
        help=f"what to measure: {', '.join(choices)} (default: all)",
    )
    command.add_argument(
        "--size",
        type=one_of(SIZES),
        default="full",
        metavar=f"{{{','.join(SIZES)}}}",
        help="small takes a second, for a first look",
    )
    command.add_argument(
        "--rounds",
        type=whole(Range(at_least=1)),
        default=11,
        metavar="N",
        help="interleaved rounds (default: 11)",
    )
    add_threads(command)
    command.add_argument(
        "--compile",
        action="store_true",
        help="layers: torch.compile of the reference, too; compiling it takes minutes",
    )
    command.add_argument("--figure", type=Path, metavar="PNG", help="layers: draw the ratios there")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = command.parse_args()
    if options.figure is not None and options.what not in ("layers", "all"):
        command.error(f"--figure {options.figure}: {options.what} has no figure; expected layers")
    return options


def main() -> None:
    """Measure what the command line asks for, print it, and write it to files on request."""
    options = parsed()
    set_threads(options.threads)
    tables: Tables = {}
    for name, measure in TABLES.items():
        if options.what in (name, "all"):
            tables |= measure(options.size, options.rounds, options.compile)
    grown = memories(options.size) if options.what in ("memory", "all") else {}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    show(tables)
    show_memory(grown)
    if options.figure is not None:
        draw(tables, options.figure)
    if options.json is not None:
        write_text(options.json, as_json(tables, grown, options.rounds))


if __name__ == "__main__":
    restart_in_utf8()
    sys.exit(guarded(main))
