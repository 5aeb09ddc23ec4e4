"""Runs side by side: results.csv, the charts as files, one page that holds everything, and its text
as Markdown.
"""

import base64
import csv
import io
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from plotly.offline import get_plotlyjs

from ..errors import DataError
from ..figures import rendered
from ..files import replacing, write_text
from ..rnn.config import NormKind
from ..runs.records import Group, RunRecord, groups, read_runs
from .answers import listed, overview
from .charts import Chart, Table, interactive_figure, static_figure
from .columns import COLUMNS
from .commands import training_commands
from .examples import Example, worked_examples
from .experiments import RULE, Statement, Verdict, charts, statement, tables, verdicts
from .glossary import EXPLAINER, glossary
from .norms import NormRow, norm_rows, norms_table

FEW = 2
"""So many experiments are all named in the page's title."""
OURS = {
    "report.html": b"scripts/compare.py",
    "report.md": b"scripts/compare.py",
    "results.csv": b"run,status,",
}
"""File -> what stands in each that this program has written."""
DIAGRAMS = {
    "axes.svg": "What each norm averages over",
    "cell.svg": "Where the norms are in the LSTM's cell",
}
"""File of this package, drawn by docs/diagrams.py -> its title on the page."""


@dataclass
class Drawing:
    """A chart for the page: as a picture, and as data for plotly."""

    chart: Chart
    stem: str
    """Of its files' names in figures/."""
    pictures: dict[str, bytes]
    """png and svg."""
    plotly: str
    """JSON"""

    @property
    def svg(self) -> str:
        """In base64."""
        return base64.b64encode(self.pictures["svg"]).decode()


@dataclass
class Section:
    """One experiment of the page."""

    group: Group
    title: str
    rows: list[NormRow]
    """The norms side by side, where the experiment is about them as a whole."""
    statement: Statement | None
    verdicts: list[Verdict]
    tables: list[Table]
    drawings: list[Drawing]

    @property
    def norms(self) -> Table | None:
        """The rows for people."""
        return norms_table(self.group, self.rows) if self.rows else None


def drawn(chart: Chart, stem: str) -> Drawing:
    """A chart as pictures and as data."""
    figure, data = static_figure(chart), str(interactive_figure(chart).to_json())
    pictures = {kind: rendered(figure, kind) for kind in ("png", "svg")}
    return Drawing(chart, stem, pictures, data.replace("</", "<\\/"))  # ends no script


def sections_of(found: Sequence[Group]) -> list[Section]:
    """A section for each group of runs; no chart has the name of another."""
    titles = titles_of(found)
    stems = [
        re.sub(r"[^\w.]+", "-", title, flags=re.ASCII).strip("-.").lower() + "-" for title in titles
    ]
    if len(set(stems)) < len(stems):
        stems = [f"{place}-{stem}" for place, stem in enumerate(stems, 1)]
    return [
        section(group, title, stem if len(found) > 1 else "")
        for group, title, stem in zip(found, titles, stems, strict=True)
    ]


def section(group: Group, title: str, stem: str) -> Section:
    """An experiment's verdicts and charts, whose files' names begin with `stem`."""
    drawings = [
        drawn(chart, stem + chart.name)
        for chart in charts(group)
        if any(panel.lines for panel in chart.panels)
    ]
    found = verdicts(group)
    said = statement(group.experiment or "") if found else None
    return Section(group, title, norm_rows(group), said, found, tables(group), drawings)


def titles_of(found: Sequence[Group]) -> list[str]:
    """The experiments' names, with corpus and size where one stands there several times."""
    names = [group.experiment for group in found]
    return [
        (name or "runs").replace("_", " ").capitalize()
        + (f" ({group.where})" if names.count(name) > 1 else "")
        for name, group in zip(names, found, strict=True)
    ]


def csv_table(runs: Sequence[RunRecord]) -> str:
    """results.csv: a row a run."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(column.key for column in COLUMNS)
    writer.writerows([column.value(run) for column in COLUMNS] for run in runs)
    return table.getvalue()


@dataclass
class Report:
    """What compare.py prints of what it has written."""

    runs: list[RunRecord]
    sections: list[Section]
    answers: list[str]
    """The short ones, in sentences."""
    notes: list[str]
    files: list[Path]


def write_report(folders: Sequence[str], out: Path, command: str) -> Report:
    """Write report.html, report.md, results.csv and figures/ into `out`, when all of them have been
    made.

    DataError where one of these files is there and not of a former comparison.
    """
    check_place(out)
    runs, notes = read_runs(folders)
    found = groups(runs)
    sections = sections_of(found)
    notes += [f"{run.name}: left out: {run.left_out}" for group in found for run in group.left_out]
    notes += [note for group in found for note in group.notes]
    notes += [
        f"{run.name}: metrics.jsonl is missing or empty, so it has no curves"
        for run in runs
        if not run.has_curves
    ]
    examples, note = worked_examples(found)
    notes += [note] if note else []
    said = told(runs, sections, notes, command)
    texts = {
        "report.html": page(said, runs, examples),
        "results.csv": csv_table(runs),
        "report.md": template("page.md.jinja", autoescape=False).render(said),
    }
    texts = {
        name: text.encode(errors="replace").decode() for name, text in texts.items()
    }  # of paths in no encoding
    write_figures([drawing for section in sections for drawing in section.drawings], out)
    for name, text in texts.items():
        write_text(out / name, text)
    answers = [" ".join(answer.sentences) for answer in said["overview"]]
    return Report(runs, sections, answers, notes, [out / name for name in (*texts, "figures")])


def check_place(out: Path) -> None:
    """DataError where a file would be written over that is not ours."""
    for name, mark in OURS.items():
        if (out / name).is_file() and mark not in (out / name).read_bytes():
            raise DataError(
                f"{out / name}: not written by scripts/compare.py; expected a folder without such a"
                " file (--out DIR)"
            )


def write_figures(drawings: Sequence[Drawing], out: Path) -> None:
    """figures/: these, and no longer those that the report.md of a former comparison shows."""
    (out / "figures").mkdir(parents=True, exist_ok=True)
    former, report = set(), out / "report.md"
    if report.is_file():
        former = set(
            re.findall(
                r"\]\(figures/([\w.-]+)\.png\)",
                report.read_text(encoding="utf-8", errors="replace"),
            )
        )
    for drawing in drawings:
        for kind, picture in drawing.pictures.items():
            with replacing(out / "figures" / f"{drawing.stem}.{kind}") as temporary:
                temporary.write_bytes(picture)
    for stem in former - {drawing.stem for drawing in drawings}:
        for kind in ("png", "svg"):
            (out / "figures" / f"{stem}.{kind}").unlink(missing_ok=True)


def title(runs: Sequence[RunRecord], sections: Sequence[Section]) -> str:
    """Of the page."""
    names = list(
        dict.fromkeys(s.group.experiment.replace("_", " ") for s in sections if s.group.experiment)
    )
    experiments = ", ".join(names) if len(names) <= FEW else f"{len(names)} experiments"
    said = f"{experiments}{': ' * bool(names)}comparison of {len(runs)} run{'s' * (len(runs) > 1)}"
    return said[0].upper() + said[1:]


def norms_of(runs: Sequence[RunRecord]) -> str:
    """Which norms are compared, in words: no norm, batch norm and layer norm."""
    kinds = {run.config.norm.kind for run in runs}
    return listed(
        [
            "no norm" if kind is NormKind.none else f"{kind.value} norm"
            for kind in NormKind
            if kind in kinds
        ]
    )


def told(
    runs: Sequence[RunRecord], sections: Sequence[Section], notes: Sequence[str], command: str
) -> dict[str, Any]:
    """What the page and the Markdown both say."""
    finished = [run.results for run in runs if run.results]
    return {
        "title": title(runs, sections),
        "norms": norms_of(runs),
        "sections": sections,
        "notes": notes,
        "rule": RULE,
        "overview": overview([s.group for s in sections], [s.rows for s in sections]),
        "signatures": list(
            dict.fromkeys(
                str(s.group.scores(run)["bleu_signature"]) for s in sections for run in s.group.runs
            )
        ),
        "words": glossary([s.group for s in sections]),
        "explainer": EXPLAINER,
        "commands": [*training_commands(runs), command],
        "trained_on": list(dict.fromkeys(trained_on(results) for results in finished)),
        "machine": f"{platform.machine()}, {platform.system()}, Python {sys.version.split()[0]}",
    }


def trained_on(results: dict[str, Any]) -> str:
    """Device, threads and versions of a run."""
    processor, threads = results.get("processor"), results["threads"]
    where = [
        results["device"],
        *([processor] if processor else []),
        f"{threads} thread{'s' * (threads > 1)}",
    ]
    return ", ".join(
        [*where, *(f"{package} {version}" for package, version in results["versions"].items())]
    )


def page(said: dict[str, Any], runs: Sequence[RunRecord], examples: Sequence[Example]) -> str:
    """report.html."""
    return template("page.html.jinja", autoescape=True).render(
        said,
        examples=examples,
        columns=COLUMNS,
        runs=runs,
        plotly=get_plotlyjs(),
        diagrams={
            title: base64.b64encode((files("seq2seq.report") / name).read_bytes()).decode()
            for name, title in DIAGRAMS.items()
        },
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def template(name: str, autoescape: bool) -> Template:
    """One of the package's."""
    environment = Environment(
        autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")  # of a table in Markdown
    return environment.from_string((files("seq2seq.report") / name).read_text(encoding="utf-8"))
