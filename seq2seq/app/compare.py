"""Compare runs: print a table, verdicts and the short answer, and write a report.

    python scripts/compare.py outputs/grammar_en_zh/* --out comparison

The folder gets report.html, report.md, results.csv and figures/. Runs of an experiment
(python train.py -m experiment=convergence, length, ...) get a verdict on its claim.
"""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..programs import program
from ..shown import escaped
from .arguments import output_folder, parser
from .options import console

if TYPE_CHECKING:
    from rich.table import Table

    from ..report.page import Report

LISTED = 6
"""The command in the report names so many runs or fewer; of more it gives folder and number."""


def options() -> argparse.Namespace:
    """Parse the command line."""
    command_line = parser(__doc__)
    command_line.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder")
    command_line.add_argument(
        "--out",
        type=output_folder,
        default=Path("."),
        metavar="DIR",
        help="the folder for the report (default: the current one)",
    )
    return command_line.parse_args()


def main() -> None:
    """Parse the command line, write the report, and print what it found."""
    arguments = options()  # first: --help needs no package
    from ..report.page import write_report

    report = write_report(arguments.runs, arguments.out, command(arguments.runs, arguments.out))
    console().print(runs_table(report))
    for words in tokenizers(report):
        print(f"BLEU on {escaped(words)}")
    for section in report.sections:
        for verdict in section.verdicts:
            claim = f"{section.title}: {verdict.claim} {verdict.missing}".rstrip()
            print(f"{verdict.outcome.value}: {escaped(claim)}")
    for answer in report.answers:
        print(f"\n{escaped(answer)}")
    for note in report.notes:
        print(f"note: {escaped(note)}")
    print(f"\nWrote {escaped(', '.join(str(file) for file in report.files))}.")
    folder = escaped(shlex.quote(common_folder(arguments.runs)))
    print(f"Curves by run in TensorBoard: tensorboard --logdir {folder}")


def tokenizers(report: "Report") -> list[str]:
    """Return in words what the runs' BLEU counts, each once."""
    from ..config.languages import counted_units

    found = [run.results.test or run.results.valid for run in report.runs if run.results]
    return list(dict.fromkeys(counted_units(score.bleu_signature) for score in found))


def runs_table(report: "Report") -> "Table":
    """Return the runs as a table that fits 80 columns."""
    from rich.table import Table

    from ..report.columns import COLUMNS, status
    from ..report.names import labels

    unequal = any(status(run) != "finished" for run in report.runs)
    shown = [
        column for column in COLUMNS if column.at_terminal and (unequal or column.key != "status")
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        number = column.decimals is not None
        table.add_column(
            column.title.replace(" ", "\n"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for run, label in zip(report.runs, labels(report.runs), strict=True):
        cells = (label if column.key == "run" else column.text(run) for column in shown)
        table.add_row(*map(escaped, cells))
    return table


def common_folder(runs: list[str]) -> str:
    """Return the folder that contains all these runs; for a single run its own."""
    return os.path.relpath(os.path.commonpath([os.path.abspath(run) for run in runs]))


def command(runs: list[str], out: Path) -> str:
    """Return the command that made the report; many runs appear as their folder and number."""
    listed = (
        shlex.join(runs) if len(runs) <= LISTED else f"{common_folder(runs)}/... ({len(runs)} runs)"
    )
    return f"{shlex.join(program('compare'))} {listed} --out {shlex.quote(str(out))}"
