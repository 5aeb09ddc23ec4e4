"""The report: results.csv, charts as files, one self-contained page, and its text in Markdown."""

import csv
import io
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DataError
from ..figures import NORM_COLOURS
from ..files import replacing, write_text
from ..runs.commands import training_commands
from ..runs.records import RunRecord, read_runs
from ..runs.results import Results
from ..shown import counted
from .answers import listed, overview
from .charts import Table
from .columns import COLUMNS
from .examples import worked_examples
from .experiments import EXPERIMENTS, charts, groups, tables, verdicts
from .experiments.base import Statement
from .experiments.verdict import Verdict, correct
from .groups import Group
from .norms import NormRow, norm_rows, norms_table
from .templates import rendered_template
from .texts import glossary, texts
from .vega import Drawing, javascript

FEW = 2
"""The page's title names so many experiments or fewer, and counts more."""
OURS = {
    "report.html": (b"scripts/compare.py", b"seq2seq-compare"),
    "report.md": (b"scripts/compare.py", b"seq2seq-compare"),
    "results.csv": (b"run,status,",),
}
"""File -> texts by one of which it is recognised as written by this program."""


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

    @cached_property
    def norms(self) -> Table | None:
        """The norms side by side as a table, where there are any."""
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
    with drawing_threads() as threads:
        return _written(runs, notes, sections_of(found, threads), out, command)


def _written(
    runs: list[RunRecord], notes: list[str], sections: list[Section], out: Path, command: str
) -> Report:
    """Write the files; see `write_report`."""
    found = [section.group for section in sections]
    examples, note = worked_examples(found)
    notes += [*run_notes(runs, found), *([note] if note else [])]
    answers = overview(found, [section.rows for section in sections])
    content = page_content(runs, sections) | {
        "overview": answers,
        "examples": examples,
        "notes": notes,
        "commands": [*training_commands(runs), command],
    }
    written = {
        "report.html": rendered_template("page.html.jinja", content),
        "results.csv": csv_table(runs),
        "report.md": rendered_template("page.md.jinja", content),
    }
    pictures = {
        f"{drawing.stem}.{ending}": picture
        for section in sections
        for drawing in section.drawings
        for ending, picture in drawing.pictures.items()
    }
    write_pictures(pictures, out)
    for name, text in written.items():
        # a path may have bytes that are no text
        write_text(out / name, text.encode(errors="replace").decode())
    short = [" ".join(answer.sentences) for answer in answers]
    return Report(runs, sections, short, notes, [out / name for name in (*written, "figures")])


# -- sections ---


@contextmanager
def drawing_threads() -> Iterator[Executor]:
    """Two threads that draw charts; on leaving, what has not begun is not drawn any more."""
    threads = ThreadPoolExecutor(2)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def sections_of(found: Sequence[Group], threads: Executor) -> list[Section]:
    """Return a section for each group of runs, whose charts have files of unique names."""
    titles = section_titles(found)
    stems = [
        re.sub(r"[^\w.]+", "-", title, flags=re.ASCII).strip("-.").lower() + "-" for title in titles
    ]
    if len(set(stems)) < len(stems):
        stems = [f"{place}-{stem}" for place, stem in enumerate(stems, 1)]
    if len(stems) == 1:
        stems = [""]
    sections = [section(*each, threads) for each in zip(found, titles, stems, strict=True)]
    correct(verdict for section in sections for verdict in section.verdicts)
    return sections


def section(group: Group, title: str, stem: str, threads: Executor) -> Section:
    """Return a group's verdicts, tables and charts; the charts' file names begin with `stem`."""
    drawings = [Drawing(chart, stem + chart.name) for chart in charts(group) if not chart.is_empty]
    for drawing in drawings:
        drawing.begin(threads)
    found = verdicts(group)
    claim = EXPERIMENTS[group.experiment or ""].statement if found else None
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
    left_out = [f"{r.name}: left out: {r.left_out}" for group in found for r in group.left_out]
    differing = [note for group in found for note in group.notes]
    bare = [run.name for run in runs if not run.has_curves]
    why = "metrics.jsonl is missing or empty, so it has no curves"
    return [*left_out, *differing, *(f"{name}: {why}" for name in bare)]


def page_content(runs: Sequence[RunRecord], sections: Sequence[Section]) -> dict[str, Any]:
    """Return what the templates of the page and of the Markdown show of runs."""
    found = [section.group for section in sections]
    kinds = {run.kind for run in runs}
    return {
        "title": page_title(runs, found),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "norms": listed([f"{'no' if k == 'none' else k} norm" for k in NORM_COLOURS if k in kinds]),
        "sections": sections,
        "signatures": distinct(
            group.scores(run).bleu_signature for group in found for run in group.runs
        ),
        "text": texts(),
        "words": glossary(found),
        "columns": COLUMNS,
        "runs": runs,
        "trained_on": training_times([run.results for run in runs if run.results]),
        "writer": written_by(),
        "javascript": javascript(),
    }


def page_title(runs: Sequence[RunRecord], found: Sequence[Group]) -> str:
    """Return the page's title: the experiments and the number of runs."""
    names = distinct(group.experiment.replace("_", " ") for group in found if group.experiment)
    experiments = ", ".join(names) if len(names) <= FEW else f"{len(names)} experiments"
    prefix = f"{experiments}: " if names else ""
    title = f"{prefix}comparison of {counted(len(runs), 'run')}"
    return title[0].upper() + title[1:]


def trained_on(results: Results) -> str:
    """Return device, threads, versions and, where it is known, the commit of a run."""
    threads = counted(results.threads, "thread")
    where = [results.device, *([results.processor] if results.processor else []), threads]
    versions = dict(results.versions)
    if "seq2seq" in versions and results.commit:
        versions["seq2seq"] += f" (commit {results.commit})"
    return ", ".join([*where, *(f"{name} {version}" for name, version in versions.items())])


def training_times(results: Sequence[Results]) -> list[str]:
    """Return for each kind of machine and versions how many runs there are and their hours."""
    found: dict[str, list[Results]] = {}
    for own in results:
        found.setdefault(trained_on(own), []).append(own)
    hours = {place: sum(run.wall_seconds for run in own) / 3600 for place, own in found.items()}
    return [
        f"{place}: {counted(len(own), 'run')}, {counted(hours[place], 'hour', '.2g')} one after"
        " the other"
        for place, own in found.items()
    ]


def written_by() -> str:
    """Return version, Python and system of the program that writes the report."""
    python = f"Python {platform.python_version()}"
    return f"seq2seq {__version__}, {python} on {platform.system()} ({platform.machine()})"


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
