"""Runs side by side: a table, the curves, and a page that holds both."""

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from .checkpoint import replacing, write_text
from .config import Config
from .figures import Curve, curves_figure
from .logbook import read_metrics
from .run import CHANGEABLE, Run, RunError, settings

COLUMNS = {
    "run": "run", "norm": "norm", "seed": "seed", "test_bleu": "test BLEU", "test_chrf": "test chrF",
    "valid_bleu": "valid BLEU", "valid_loss": "valid loss (nats/token)", "update": "updates",
    "tokens_per_second": "target tokens/s", "minutes": "minutes", "parameters": "parameters",
}
DECIMALS = {"test_bleu": 1, "test_chrf": 1, "valid_bleu": 1, "valid_loss": 3, "update": 0, "tokens_per_second": 0,
            "minutes": 1, "parameters": 0}
PANELS = {"training loss (nats/token)": ("train", "loss"), "validation loss (nats/token)": ("valid", "loss"),
          "validation BLEU (greedy)": ("valid", "bleu")}
"""Title -> what of metrics.jsonl it shows."""


@dataclass
class RunRecord:
    """What a finished run left behind."""

    name: str
    config: Config
    row: dict[str, Any]
    results: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def signature(self) -> str:
        """sacreBLEU's, of the test set, or of valid where there is none."""
        return str(self.results.get("test", self.results["valid"])["bleu_signature"])

    def series(self, kind: str, key: str) -> tuple[list[float], list[float]]:
        """(updates, values) of one logged quantity."""
        entries = [e for e in self.metrics if e["kind"] == kind and key in e]
        return [e["update"] for e in entries], [e[key] for e in entries]


def read_run(folder: str, name: str) -> RunRecord:
    """A finished run, or RunError."""
    run = Run.open(folder)
    results = run.results()
    if results is None:
        raise RunError(f"{folder}: has not finished (no results.json); go on with: {run.resume_command()}")
    test, valid = results.get("test", {}), results["valid"]
    row = {
        "run": name, "norm": results["norm"], "seed": results["seed"], "test_bleu": test.get("bleu"),
        "test_chrf": test.get("chrf"), "valid_bleu": valid["bleu"], "valid_loss": results["valid_loss"],
        "update": results["update"], "tokens_per_second": results["tokens_per_second"],
        "minutes": results["wall_seconds"] / 60, "parameters": results["parameters"],
    }
    return RunRecord(name, run.config(), row, results, read_metrics(run.metrics_file))


def read_runs(folders: Sequence[str]) -> list[RunRecord]:
    """Finished runs, named by as little of their paths' ends as tells them apart."""
    paths = [Path(folder).resolve().parts for folder in folders]
    if len(set(paths)) < len(paths):
        raise RunError("a run is named twice; expected each once")
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return [read_run(folder, "/".join(path[-depth:])) for folder, path in zip(folders, paths, strict=True)]


def cells(row: dict[str, Any], keys: Iterable[str] = COLUMNS) -> list[str]:
    """These columns of a table row as text."""
    return ["–" if row[key] is None else f"{row[key]:,.{DECIMALS[key]}f}" if key in DECIMALS else str(row[key])
            for key in keys]


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """A short name for each run: its norm, with its seed, or its folder, where that is needed to tell it apart."""
    norms = [str(r.row["norm"]) for r in runs]
    seeds = [f"{r.row['norm']}, seed {r.row['seed']}" for r in runs]
    return next(names for names in (norms, seeds, [r.name for r in runs]) if len(set(names)) == len(names))


def curves(runs: Sequence[RunRecord]) -> Figure:
    """Training loss, validation loss and validation BLEU by update, overlaid: a colour a norm, a line style a seed."""
    pairs = [(r.row["norm"], r.row["seed"]) for r in runs]
    if len(set(pairs)) == len(pairs):
        seeds = sorted({seed for _, seed in pairs})
        variants = [seeds.index(seed) for _, seed in pairs]
    else:
        variants = [sum(norm == other for other, _ in pairs[:i]) for i, (norm, _) in enumerate(pairs)]
    named = list(zip(runs, labels(runs), variants, strict=True))
    return curves_figure({title: [Curve(label, r.row["norm"], variant, *r.series(*what)) for r, label, variant in named]
                          for title, what in PANELS.items()})


def facts(run: RunRecord) -> dict[str, str]:
    """What a run's figures depend on beside its norm and seed: settings, machine, versions."""
    passed_over = ("norm.", "seed", "experiment", "data.root", *CHANGEABLE)
    own = {k: v for k, v in settings(run.config).items() if not k.startswith(passed_over)}
    where = {k: run.results.get(k) for k in ("device", "threads")}
    versions = {f"version of {k}": v for k, v in run.results.get("versions", {}).items()}
    return {k: str(v) for k, v in (own | where | versions).items()}


def caveats(runs: Sequence[RunRecord]) -> list[str]:
    """What else than the norm and the seed differs between the runs, and what is missing."""
    known = [facts(run) for run in runs]
    keys = sorted(set().union(*known))
    if len({f["data.name"] for f in known}) > 1:
        keys = [k for k in keys if not k.startswith("data.") or k == "data.name"]
    notes = []
    for key in keys:
        holders: dict[str, list[str]] = {}
        for run, f in zip(runs, known, strict=True):
            holders.setdefault(f.get(key, "unknown"), []).append(run.name)
        if len(holders) > 1:
            who = [f"{value} in {' and '.join(names) if len(names) < 3 else f'{len(names)} runs'}"
                   for value, names in holders.items()]
            notes.append(f"{key} differs: {', '.join(who)}")
    return notes + [f"{run.name}: metrics.jsonl is missing or empty, so it has no curves"
                    for run in runs if not run.metrics]


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #8888; }
th:first-child, td:first-child { text-align: left; padding-left: 0; min-width: 12rem; overflow-wrap: anywhere; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
img { width: 100%; min-width: 56rem; display: block; }
.note { border-left: .25rem solid #D55E00; padding-left: .8rem; list-style: none; overflow-wrap: anywhere; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { img { filter: invert(.93) hue-rotate(180deg); } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if notes %}<ul class="note">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
<div class="wide"><table>
<thead><tr>{% for title in titles %}<th>{{ title }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div>
<p>BLEU: {% for signature in signatures %}<code>{{ signature }}</code>, {% endfor %}beam {{ decode.beam_size }},
length penalty {{ decode.length_penalty }}. Figures of one seed a row: differences of a few tenths are within what
another seed changes.</p>
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
    runs = read_runs(folders)
    notes, image = caveats(runs), png(curves(runs))
    with replacing(out / "curves.png") as temporary:
        temporary.write_bytes(image)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(r.row for r in runs)
    write_text(out / "results.csv", table.getvalue())
    series = ", ".join(sorted({r.config.experiment for r in runs if r.config.experiment}))
    page = Environment(autoescape=True).from_string(PAGE).render(
        title=f"{series + ': c' if series else 'C'}omparison of {len(runs)} run{'s' * (len(runs) > 1)}",
        notes=notes, titles=COLUMNS.values(), rows=[cells(r.row) for r in runs], command=command,
        signatures=list(dict.fromkeys(r.signature for r in runs)), decode=runs[0].results["decode"],
        versions=", ".join(f"{k} {v}" for k, v in runs[0].results["versions"].items()),
        curves=base64.b64encode(image).decode())
    write_text(out / "report.html", page)
    return runs, notes
