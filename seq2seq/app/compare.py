"""Compare runs: a table, verdicts and the short answer here; in a folder report.html, report.md,
results.csv, figures/.

    python scripts/compare.py outputs/grammar_en_zh/* --out comparison

Runs of an experiment (python train.py -m experiment=convergence, length, ...) get its claim's
verdict.
"""

import argparse
import io
import os
import shlex
import sys
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ..report.columns import COLUMNS, status
from ..report.page import write_report
from ..runs.records import labels
from .options import console

LISTED = 6
"""So many runs are written out in the command that the files tell; they list all runs
themselves.
"""


def main() -> None:
    """Parse the command line, write the report, print the table, the verdicts and the short
    answer.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="where the files go (default: here)",
    )
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of paths in no encoding
    report = write_report(arguments.runs, arguments.out, command(arguments.runs, arguments.out))
    told_apart = any(status(run) != "finished" for run in report.runs)
    shown = [
        column
        for column in COLUMNS
        if column.at_terminal and (told_apart or column.key != "status")
    ]
    table = Table(
        box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )  # as wide as a terminal's 80 columns
    for column in shown:
        number = column.decimals is not None
        table.add_column(
            column.title.replace(" ", "\n"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for run, label in zip(report.runs, labels(report.runs), strict=True):
        table.add_row(
            *(escape(label if column.key == "run" else column.text(run)) for column in shown)
        )
    console().print(table)
    for section in report.sections:
        for verdict in section.verdicts:
            said = f"{section.title}: {verdict.claim} {verdict.missing}".rstrip()
            print(f"{verdict.outcome.value}: {said}")
    for answer in report.answers:
        print(f"\n{answer}")
    for note in report.notes:
        print(f"note: {note}")
    print(f"\nWrote {', '.join(str(file) for file in report.files)}.")
    print(
        "The curves, live and by run: tensorboard --logdir"
        f" {shlex.quote(common_folder(arguments.runs))}"
    )


def common_folder(runs: list[str]) -> str:
    """The folder that all these runs lie in; a single run's own."""
    return os.path.relpath(os.path.commonpath([os.path.abspath(run) for run in runs]))


def command(runs: list[str], out: Path) -> str:
    """What made the files, for their readers; many runs as their number and place."""
    listed = (
        shlex.join(runs) if len(runs) <= LISTED else f"{common_folder(runs)}/... ({len(runs)} runs)"
    )
    return f"python scripts/compare.py {listed} --out {shlex.quote(str(out))}"
