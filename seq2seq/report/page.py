"""The report: results.csv, charts as files, one self-contained page, and its text in Markdown."""

import base64
import csv
import io
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..errors import DataError
from ..figures import NORM_COLOURS
from ..files import replacing, write_text
from ..runs.commands import training_commands
from ..runs.records import RunRecord, read_runs
from ..runs.results import Results
from ..shown import escaped, markdown
from .answers import listed, overview
from .charts import Table
from .columns import COLUMNS
from .examples import Example, worked_examples
from .experiments import RULE, Statement, Verdict, charts, groups, statement, tables, verdicts
from .glossary import EXPLAINER, glossary
from .groups import Group
from .norms import NormRow, norm_rows, norms_table
from .vega import Drawing, javascript

FEW = 2
"""The page's title names so many experiments or fewer, and counts more."""
OURS = {
    "report.html": (b"scripts/compare.py", b"seq2seq-compare"),
    "report.md": (b"scripts/compare.py", b"seq2seq-compare"),
    "results.csv": (b"run,status,",),
}
"""File -> texts by one of which it is recognised as written by this program."""
DIAGRAMS = {
    "axes.svg": "What each norm averages over",
    "cell.svg": "Where the norms are in the LSTM's cell",
}
"""File of this package, drawn by docs/diagrams.py -> its title on the page."""


@dataclass
class Section:
    """One experiment of the page."""

    group: Group
    title: str
    rows: list[NormRow]
    """The norms compared, where the experiment is about them as a whole."""
    statement: Statement | None
    verdicts: list[Verdict]
    tables: list[Table]
    drawings: list[Drawing]

    @property
    def norms(self) -> Table | None:
        """The table of `rows`."""
        return norms_table(self.group, self.rows) if self.rows else None


@dataclass
class Report:
    """What compare.py prints about the files that it has written."""

    runs: list[RunRecord]
    sections: list[Section]
    answers: list[str]
    """One paragraph for each group of runs."""
    notes: list[str]
    files: list[Path]


def write_report(folders: Sequence[str], out: Path, command: str) -> Report:
    """Write report.html, report.md, results.csv and figures/ into `out`, once all are made.

    Raises DataError where `out` has a file of such a name from elsewhere.
    """
    check_place(out)
    runs, notes = read_runs(folders)
    found = groups(runs)
    sections = sections_of(found)
    examples, note = worked_examples(found)
    notes += [*run_notes(runs, found), *([note] if note else [])]
    content = page_content(runs, sections, notes, command)
    texts = {
        "report.html": page(content, runs, examples),
        "results.csv": csv_table(runs),
        "report.md": rendered_template("page.md.jinja", False, content),
    }
    pictures = {
        f"{drawing.stem}.{ending}": picture
        for section in sections
        for drawing in section.drawings
        for ending, picture in drawing.pictures.items()
    }
    write_pictures(pictures, out)
    for name, text in texts.items():
        # a path may have bytes that are no text
        write_text(out / name, text.encode(errors="replace").decode())
    answers = [" ".join(answer.sentences) for answer in content["overview"]]
    return Report(runs, sections, answers, notes, [out / name for name in (*texts, "figures")])


# -- sections ---


def sections_of(found: Sequence[Group]) -> list[Section]:
    """Return a section for each group of runs, with file names that are unique."""
    titles = section_titles(found)
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
    """Return a group's verdicts, tables and charts; the charts' file names begin with `stem`."""
    drawings = [
        Drawing(chart, stem + chart.name)
        for chart in charts(group)
        if any(panel.lines for panel in chart.panels)
    ]
    found = verdicts(group)
    claim = statement(group.experiment or "") if found else None
    return Section(group, title, norm_rows(group), claim, found, tables(group), drawings)


def section_titles(found: Sequence[Group]) -> list[str]:
    """Return the experiments' names, with corpus and size where a name occurs several times."""
    names = [group.experiment for group in found]
    return [
        (name or "runs").replace("_", " ").capitalize()
        + (f" ({group.label})" if names.count(name) > 1 else "")
        for name, group in zip(names, found, strict=True)
    ]


# -- texts ---


def run_notes(runs: Sequence[RunRecord], found: Sequence[Group]) -> list[str]:
    """Return what is missing: runs left out of the comparison, and runs without curves."""
    return [
        *(f"{run.name}: left out: {run.left_out}" for group in found for run in group.left_out),
        *(note for group in found for note in group.notes),
        *(
            f"{run.name}: metrics.jsonl is missing or empty, so it has no curves"
            for run in runs
            if not run.has_curves
        ),
    ]


def page_content(
    runs: Sequence[RunRecord], sections: Sequence[Section], notes: Sequence[str], command: str
) -> dict[str, Any]:
    """Return what the page and the Markdown have in common."""
    found = [section.group for section in sections]
    return {
        "title": page_title(runs, sections),
        "norms": norm_names(runs),
        "sections": sections,
        "notes": notes,
        "rule": RULE,
        "overview": overview(found, [section.rows for section in sections]),
        "signatures": distinct(
            group.scores(run).bleu_signature for group in found for run in group.runs
        ),
        "words": glossary(found),
        "explainer": EXPLAINER,
        "commands": [*training_commands(runs), command],
        "trained_on": distinct(trained_on(run.results) for run in runs if run.results),
        "machine": f"{platform.machine()}, {platform.system()}, Python {sys.version.split()[0]}",
    }


def page_title(runs: Sequence[RunRecord], sections: Sequence[Section]) -> str:
    """Return the page's title: the experiments and the number of runs."""
    names = distinct(
        section.group.experiment.replace("_", " ")
        for section in sections
        if section.group.experiment
    )
    experiments = ", ".join(names) if len(names) <= FEW else f"{len(names)} experiments"
    prefix = f"{experiments}: " if names else ""
    title = f"{prefix}comparison of {len(runs)} run{'s' if len(runs) > 1 else ''}"
    return title[0].upper() + title[1:]


def norm_names(runs: Sequence[RunRecord]) -> str:
    """Return the norms compared, in words: no norm, batch norm and layer norm."""
    kinds = {run.config.norm.kind.value for run in runs}
    return listed(
        ["no norm" if kind == "none" else f"{kind} norm" for kind in NORM_COLOURS if kind in kinds]
    )


def trained_on(results: Results) -> str:
    """Return device, threads and versions of a run."""
    threads = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    where = [results.device, *([results.processor] if results.processor else []), threads]
    return ", ".join([*where, *(f"{name} {version}" for name, version in results.versions.items())])


def distinct(values: Iterable[str]) -> list[str]:
    """Return the values in order, each once."""
    return list(dict.fromkeys(values))


def csv_table(runs: Sequence[RunRecord]) -> str:
    """Return results.csv: a row for each run."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(column.key for column in COLUMNS)
    writer.writerows([column.value(run) for column in COLUMNS] for run in runs)
    return table.getvalue()


def page(content: dict[str, Any], runs: Sequence[RunRecord], examples: Sequence[Example]) -> str:
    """Return report.html."""
    more = {
        "examples": examples,
        "columns": COLUMNS,
        "runs": runs,
        "javascript": javascript(),
        "diagrams": {
            title: base64.b64encode((files("seq2seq.report") / name).read_bytes()).decode()
            for name, title in DIAGRAMS.items()
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return rendered_template("page.html.jinja", True, content | more)


def rendered_template(name: str, autoescape: bool, content: Mapping[str, Any]) -> str:
    """Return one of the package's templates, filled in."""
    environment = Environment(
        autoescape=autoescape,
        finalize=visible if autoescape else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": markdown, "visible": escaped}
    text = (files("seq2seq.report") / name).read_text(encoding="utf-8")
    return environment.from_string(text).render(content)


def visible(value: Any) -> Any:
    """Return a value of the page with control characters by their codes; HTML as it is."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# -- files ---


def check_place(out: Path) -> None:
    """Raise DataError where a file that this program did not write would be overwritten."""
    for name, marks in OURS.items():
        if not (out / name).is_file():
            continue
        content = (out / name).read_bytes()
        if not any(mark in content for mark in marks):
            raise DataError(
                f"{out / name}: not written by this program; expected a folder without such a"
                " file (--out DIR)"
            )


def write_pictures(pictures: Mapping[str, bytes], out: Path) -> None:
    """Write figures/, and remove those that only an earlier comparison's report.md shows."""
    folder, report = out / "figures", out / "report.md"
    folder.mkdir(parents=True, exist_ok=True)
    earlier: list[str] = []
    if report.is_file():
        text = report.read_text(encoding="utf-8", errors="replace")
        earlier = re.findall(r"\]\(figures/([\w.-]+)\.png\)", text)
    for name, picture in pictures.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(picture)
    for name in {f"{stem}.{ending}" for stem in earlier for ending in ("png", "svg")}:
        if name not in pictures:
            (folder / name).unlink(missing_ok=True)
