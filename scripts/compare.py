"""Compare finished runs: a table here, and report.html, curves.png and results.csv in a folder.

    python scripts/compare.py outputs/grammar_en_zh/* --out comparison
"""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seq2seq.cli import guarded
from seq2seq.report import COLUMNS, cells, write_report


def main() -> None:
    """Parse the command line, write the report, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a finished run's folder")
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="where the files go (default: here)")
    arguments = parser.parse_args()
    command = shlex.join(["python", *sys.argv])
    runs, notes = write_report(arguments.runs, arguments.out, command)
    table = Table(box=None, pad_edge=False)
    for key, title in COLUMNS.items():
        table.add_column(title, justify="left" if key in ("run", "norm") else "right", overflow="fold")
    for run in runs:
        table.add_row(*cells(run.row))
    Console().print(table)
    for note in notes:
        print(f"note: {note}")
    print(f"\nWrote {arguments.out / 'report.html'}, {arguments.out / 'curves.png'}, {arguments.out / 'results.csv'}.")
    print(f"The curves, live and by run: tensorboard --logdir {Path(arguments.runs[0]).parent}")


if __name__ == "__main__":
    sys.exit(guarded(main))
