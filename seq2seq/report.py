"""Runs side by side: a table, the curves, and a page that holds both."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from .checkpoint import replacing, write_text
from .figures import NORM_COLOURS, curves_figure
from .logbook import read_metrics
from .run import Run, RunError, differences

COLUMNS = {
    "run": "run", "norm": "norm", "seed": "seed", "test_bleu": "test BLEU", "test_chrf": "test chrF",
    "valid_bleu": "valid BLEU", "valid_loss": "valid loss (nats/token)", "update": "updates",
    "tokens_per_second": "target tokens/s", "minutes": "minutes", "parameters": "parameters",
}
DECIMALS = {"test_bleu": 1, "test_chrf": 1, "valid_bleu": 1, "valid_loss": 3, "tokens_per_second": 0, "minutes": 1}


@dataclass
class RunRecord:
    """What a finished run left behind."""

    name: str
    row: dict[str, Any]
    results: dict[str, Any]
    metrics: list[dict[str, Any]]

    def series(self, kind: str, key: str) -> tuple[list[float], list[float]]:
        """(updates, values) of one logged quantity."""
        entries = [e for e in self.metrics if e["kind"] == kind and key in e]
        return [e["update"] for e in entries], [e[key] for e in entries]


def read_run(folder: str) -> RunRecord:
    """A finished run, or RunError."""
    run = Run.open(folder)
    results = run.results()
    if results is None:
        raise RunError(f"{folder}: has not finished (no results.json); go on with: python train.py resume={folder}")
    row = {
        "run": run.folder.name, "norm": results["norm"], "seed": results["seed"],
        "test_bleu": results["test"]["bleu"], "test_chrf": results["test"]["chrf"],
        "valid_bleu": results["valid"]["bleu"], "valid_loss": results["valid_loss"], "update": results["update"],
        "tokens_per_second": results["tokens_per_second"], "minutes": results["wall_seconds"] / 60,
        "parameters": results["parameters"],
    }
    return RunRecord(run.folder.name, row, results, read_metrics(run.metrics_file))


def cells(row: dict[str, Any]) -> list[str]:
    """A table row as text, in COLUMNS' order."""
    return [f"{row[key]:,.{DECIMALS[key]}f}" if key in DECIMALS else
            f"{row[key]:,}" if key in ("parameters", "update") else str(row[key]) for key in COLUMNS]


def caveats(folders: Sequence[str]) -> list[str]:
    """What else than the norm and the seed differs between the runs."""
    first = Run.open(folders[0])
    notes = []
    for folder in folders[1:]:
        other = Run.open(folder)
        keys = [k for k in differences(first.config(), other.config()) if not k.startswith("norm.") and k != "seed"]
        if keys:
            notes.append(f"{other.folder.name} differs from {first.folder.name} also in {', '.join(keys)}")
    return notes


def labels(runs: Sequence[RunRecord]) -> dict[str, str]:
    """A short name for each run: its norm, with what tells it apart where several have it."""
    norms = [r.row["norm"] for r in runs]
    return {r.name: r.row["norm"] if norms.count(r.row["norm"]) == 1 else r.name for r in runs}


def curves(runs: Sequence[RunRecord]) -> Figure:
    """Training loss, validation loss and validation BLEU by update, overlaid."""
    panels = {"training loss (nats/token)": ("train", "loss"), "validation loss (nats/token)": ("valid", "loss"),
              "validation BLEU (greedy)": ("valid", "bleu")}
    short = labels(runs)
    series = {title: {short[r.name]: r.series(*what) for r in runs} for title, what in panels.items()}
    return curves_figure(series, {short[r.name]: NORM_COLOURS[r.row["norm"]] for r in runs})


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison of {{ runs|length }} runs</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #8888; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
img { width: 100%; min-width: 40rem; background: white; border-radius: .5rem; }
.note { border-left: .25rem solid #D55E00; padding-left: .8rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Comparison of {{ runs|length }} runs</h1>
{% for note in notes %}<p class="note">{{ note }}</p>{% endfor %}
<div class="wide"><table>
<thead><tr>{% for title in titles %}<th>{{ title }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div>
<p>BLEU: <code>{{ signature }}</code>, beam {{ decode.beam_size }}, length penalty {{ decode.length_penalty }}.
Figures of one seed a row: differences of a few tenths are within what another seed changes.</p>
<div class="wide"><img alt="Training loss, validation loss and validation BLEU by update, one line a run"
src="data:image/png;base64,{{ curves }}"></div>
<p>Made by <code>{{ command }}</code> with {{ versions }}.</p>
</body>
</html>
"""


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def write_report(folders: Sequence[str], out: Path, command: str) -> tuple[list[RunRecord], list[str]]:
    """Write report.html, curves.png and results.csv into `out`; returns the runs and what else differs in them."""
    runs, notes = [read_run(folder) for folder in folders], caveats(folders)
    image = png(curves(runs))
    with replacing(out / "curves.png") as temporary:
        temporary.write_bytes(image)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(r.row for r in runs)
    write_text(out / "results.csv", table.getvalue())
    page = Environment(autoescape=True).from_string(PAGE).render(
        runs=runs, notes=notes, titles=COLUMNS.values(), rows=[cells(r.row) for r in runs], command=command,
        signature=runs[0].results["test"]["bleu_signature"], decode=runs[0].results["decode"],
        versions=", ".join(f"{k} {v}" for k, v in runs[0].results["versions"].items()),
        curves=base64.b64encode(image).decode())
    write_text(out / "report.html", page)
    return runs, notes
