"""Compare finished runs: a table here, and report.html, curves.png and results.csv in a folder.

    python scripts/compare.py outputs/grammar_en_zh/* --out comparison
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from rich.table import Table

from seq2seq.cli import console, guarded
from seq2seq.report import COLUMNS, cells, labels, write_report


def main() -> None:
    """Parse the command line, write the report, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a finished run's folder")
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="where the files go (default: here)")
    arguments = parser.parse_args()
    command = shlex.join(["python", *sys.argv])
    runs, notes = write_report(arguments.runs, arguments.out, command)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # as wide as a terminal's 80 columns
    columns = {"run": "run"} | {key: title for key, title in COLUMNS.items() if key not in ("run", "norm", "seed")}
    for key, title in columns.items():
        number = key != "run"
        table.add_column(title.replace(" ", "\n"), justify="right" if number else "left", no_wrap=number,
                         overflow="fold")
    for run, label in zip(runs, labels(runs), strict=True):
        table.add_row(*cells(run.row | {"run": label}, columns))
    console().print(table)
    for note in notes:
        print(f"note: {note}")
    print(f"\nWrote {arguments.out / 'report.html'}, {arguments.out / 'curves.png'}, {arguments.out / 'results.csv'}.")
    common = os.path.commonpath([os.path.abspath(run) for run in arguments.runs])
    print(f"The curves, live and by run: tensorboard --logdir {shlex.quote(os.path.relpath(common))}")


if __name__ == "__main__":
    sys.exit(guarded(main))
