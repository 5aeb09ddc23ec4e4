"""Runs side by side: results.csv, the charts as files, one page that holds everything, and its text as Markdown."""

import base64
import csv
import io
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from plotly.offline import get_plotlyjs

from .charts import Chart, interactive_figure, static_figure
from .checkpoint import replacing, write_text
from .diagrams import axes_diagram, cell_diagram
from .examples import Example, worked_examples
from .experiments import RULE, Statement, Verdict, charts, statement, verdicts
from .figures import rendered
from .records import Group, RunRecord, groups, not_begun, read_runs
from .summary import COLUMNS, NormRow, norm_rows, overview

DIAGRAMS = {"What each norm averages over": axes_diagram, "Where the norms stand in the LSTM's cell": cell_diagram}
DECIMALS = {"test_bleu": 1, "test_chrf": 1, "valid_bleu": 1, "valid_loss": 3, "update": 0, "tokens_per_second": 0,
            "minutes": 1, "parameters": 0}


@dataclass
class Drawing:
    """A chart for the page: as a picture, and as data for plotly."""

    chart: Chart
    picture: str
    """The PNG file's name in figures/."""
    svg: str
    """base64"""
    plotly: str
    """JSON"""


@dataclass
class Section:
    """One experiment of the page."""

    group: Group
    title: str
    statement: Statement | None
    verdicts: list[Verdict]
    drawings: list[Drawing]


def number(value: float | None, decimals: int) -> str:
    """As it stands in a table."""
    return "–" if value is None else f"{value:,.{decimals}f}"


def cells(row: dict[str, Any], keys: Iterable[str] = COLUMNS) -> list[str]:
    """These columns of a run's row as text."""
    return [number(row[key], DECIMALS[key]) if key in DECIMALS else "–" if row[key] is None else str(row[key])
            for key in keys]


def norm_cells(row: NormRow) -> dict[str, str]:
    """Column -> text of a norm's row."""
    several = len(row.seeds) > 1
    return {
        "norm": row.norm, "seeds": str(len(row.seeds)), "learning rate": str(row.rate),
        f"{row.split} BLEU (95%)": number(row.bleu.mean, 1) + (f" ± {number(row.bleu.half, 1)}" if several else ""),
        "p beside none, first seeds": ", ".join(number(p, 3) for p in row.p_values) or "–",
        f"{row.split} chrF": number(row.chrf, 1), "valid loss (nats/token)": number(row.loss, 3),
        "updates to the common loss": number(row.updates, 0), "seconds to it": number(row.seconds, 0),
        "target tokens/s": number(row.tokens_per_second, 0), "parameters": number(row.parameters, 0),
    }


def write_chart(chart: Chart, folder: Path, stem: str) -> Drawing:
    """Write a chart's PNG and SVG."""
    figure = static_figure(chart)
    pictures = {kind: rendered(figure, kind) for kind in ("png", "svg")}
    for kind, picture in pictures.items():
        with replacing(folder / f"{stem}.{kind}") as temporary:
            temporary.write_bytes(picture)
    data = str(interactive_figure(chart).to_json())
    inlined = base64.b64encode(pictures["svg"]).decode()
    return Drawing(chart, f"{stem}.png", inlined, data.replace("</", "<\\/"))  # ends no script


def section(group: Group, folder: Path, several: bool) -> Section:
    """An experiment's verdicts and charts."""
    name = group.experiment or "runs"
    title = name.replace("_", " ").capitalize() + (f" ({group.size}, {group.corpus})" if several else "")
    stem = f"{name}-{group.size}-{group.corpus}-" if several else ""
    drawings = [write_chart(chart, folder, stem + chart.name) for chart in charts(group) if any(
        panel.lines for panel in chart.panels)]
    found = verdicts(group)
    return Section(group, title, statement(name) if found else None, found, drawings)


def write_csv(runs: Sequence[RunRecord], file: Path) -> None:
    """results.csv: a row a run."""
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run_row(run) for run in runs)
    write_text(file, table.getvalue())


def run_row(run: RunRecord) -> dict[str, Any]:
    """A run's figures; what there is of them, where it has not finished."""
    results, last = run.results or {}, (run.metrics or [{}])[-1]
    test, valid = results.get("test", {}), results.get("valid", {})
    return {
        "run": run.name, "experiment": run.config.experiment, "norm": run.norm or run.config.norm.kind.value,
        "seed": run.config.seed, "status": run.status, "test_bleu": test.get("bleu"), "test_chrf": test.get("chrf"),
        "valid_bleu": valid.get("bleu"), "valid_loss": results.get("valid_loss"),
        "update": results.get("update", last.get("update")), "tokens_per_second": results.get("tokens_per_second"),
        "minutes": results["wall_seconds"] / 60 if results else None, "parameters": results.get("parameters"),
    }


@dataclass
class Report:
    """What compare.py prints of what it has written."""

    runs: list[RunRecord]
    sections: list[Section]
    notes: list[str]
    files: list[Path]


def write_report(folders: Sequence[str], out: Path, command: str) -> Report:
    """Write report.html, report.md, results.csv and figures/ into `out`."""
    runs = read_runs(folders)
    found = groups(runs)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    sections = [section(group, out / "figures", len(found) > len({g.experiment for g in found})) for group in found]
    write_csv(runs, out / "results.csv")
    notes = not_begun(folders) + [f"{run.name}: left out: {why}" for group in found for run, why in group.left_out]
    notes += [note for group in found for note in group.notes]
    notes += [f"{run.name}: metrics.jsonl is missing or empty, so it has no curves" for run in runs if not run.metrics]
    examples, note = worked_examples(found)
    notes += [note] if note else []
    rows = [norm_rows(group) for group in found]
    said = told(runs, sections, rows, notes, overview(found, rows), command)
    write_text(out / "report.html", page(said, runs, examples))
    write_text(out / "report.md", template("report.md.jinja", autoescape=False).render(said))
    files = [out / name for name in ("report.html", "report.md", "results.csv", "figures")]
    return Report(runs, sections, notes, files)


def title(runs: Sequence[RunRecord]) -> str:
    """Of the page."""
    series = ", ".join(sorted({run.config.experiment for run in runs if run.config.experiment}))
    return f"{series + ': c' if series else 'C'}omparison of {len(runs)} run{'s' * (len(runs) > 1)}"


def trained_by(run: RunRecord) -> list[str]:
    """The command that trains the experiment a run belongs to."""
    config = run.config
    return [f"python train.py -m experiment={config.experiment} size={config.size}"] if config.experiment else []


def told(runs: Sequence[RunRecord], sections: Sequence[Section], of_norms: Sequence[list[NormRow]],
         notes: Sequence[str], summary: Sequence[str], command: str) -> dict[str, Any]:
    """What the page and the Markdown both say; a list of rows for each section."""
    versions: dict[str, str] = next((run.results["versions"] for run in runs if run.results), {})
    return {
        "title": title(runs), "sections": sections,
        "norm_rows": [(s, [norm_cells(row) for row in rows]) for s, rows in zip(sections, of_norms, strict=True)],
        "notes": notes, "overview": summary, "rule": RULE, "command": command,
        "signatures": list(dict.fromkeys(
            str(s.group.scores(run)["bleu_signature"]) for s in sections for run in s.group.runs)),
        "trained_by": list(dict.fromkeys(line for run in runs for line in trained_by(run))),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "machine": f"{platform.machine()}, {platform.system()}, Python {sys.version.split()[0]}",
    }


def page(said: dict[str, Any], runs: Sequence[RunRecord], examples: Sequence[Example]) -> str:
    """report.html."""
    return template("report.html.jinja", autoescape=True).render(
        said, examples=examples, columns=COLUMNS, rows=[cells(run_row(run)) for run in runs], plotly=get_plotlyjs(),
        diagrams={text: base64.b64encode(rendered(figure(), "svg")).decode() for text, figure in DIAGRAMS.items()},
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


def template(name: str, autoescape: bool) -> Template:
    """One of the package's."""
    environment = Environment(autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files("seq2seq") / name).read_text(encoding="utf-8"))
