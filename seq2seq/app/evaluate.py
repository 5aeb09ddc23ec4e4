"""Score runs on a test set: BLEU and chrF with their sacreBLEU signatures.

    python scripts/evaluate.py outputs/grammar_en_zh/layer-lstm-small-seed1 --split test_long

Two runs or more are compared with the first one by paired bootstrap (Koehn 2004). Where the project
is installed, `seq2seq-evaluate` is the same command.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_text
from ..shown import escaped
from .options import add_search_options, console, open_translator, parser

if TYPE_CHECKING:
    from ..runs.folder import Run


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run")
    text = command.add_argument_group("text", "a split of the corpus, or two files")
    text.add_argument(
        "--split",
        default="test",
        metavar="NAME",
        help="valid, test, or another split of the corpus (default: test)",
    )
    text.add_argument("--source", metavar="FILE", help="text to translate instead of a split")
    text.add_argument("--reference", metavar="FILE", help="its reference translations, by line")
    add_search_options(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    asked = command.parse_args()
    if (asked.source is None) != (asked.reference is None):
        command.error("--source and --reference go together")
    if len({Path(run).resolve() for run in asked.runs}) < len(asked.runs):
        command.error("a run is named twice")
    return asked


def test_set(run: "Run", asked: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the source and reference lines to score on."""
    from ..data.corpora import read_pair_files, read_split

    if asked.source is None:
        return read_split(run.config().data, asked.split)
    return read_pair_files(asked.source, asked.reference)


class Evaluation:
    """Scores of several runs on one test set, and their translations."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.references: list[str] = []
        self.language = ""
        self.systems: dict[str, list[str]] = {}
        self.rows: list[dict[str, Any]] = []

    def add(self, folder: str) -> None:
        """Translate and score with a run; ValueError if it can't be compared with the first."""
        from ..data.corpora import scored_text
        from ..runs.folder import Run
        from ..translation.scores import score

        run = Run.open(folder)
        lines, references = test_set(run, self.asked)
        self._check(folder, references, run.config().data.target_language)
        session = open_translator(folder, self.asked)
        self.systems[folder] = [best[0].text for best in session.translate(lines, progress=True)]
        self.rows.append(
            {
                "run": folder,
                "decode": asdict(session.decode),
                **({"sampling": asdict(session.sampling)} if session.sampling else {}),
                **asdict(score(self.systems[folder], references, self.language)),
                **scored_text(lines, references),
            }
        )

    def _check(self, folder: str, references: list[str], language: str) -> None:
        first = self.asked.runs[0]
        if self.references and references != self.references:
            raise ValueError(
                f"{folder}: has other {self.asked.split} references than {first};"
                " expected runs on one corpus, or --source and --reference"
            )
        if self.language not in ("", language):
            raise ValueError(
                f"{folder}: translates into {language}, {first} into {self.language};"
                " expected runs with one target language"
            )
        self.references, self.language = references, language

    def results(self) -> dict[str, Any]:
        """Return what --json writes."""
        from ..translation.scores import paired_bootstrap

        found: dict[str, Any] = {
            "test_set": self.asked.source or self.asked.split,
            "sentences": len(self.references),
            "runs": self.rows,
        }
        if len(self.systems) > 1:
            signature, compared = paired_bootstrap(self.systems, self.references, self.language)
            found["paired_bootstrap"] = {
                "signature": signature,
                "runs": [asdict(c) for c in compared],
            }
        return found


def show(results: dict[str, Any]) -> None:
    """Print the scores as a table, with the metrics' signatures below it."""
    from rich.table import Table

    title = f"{results['test_set']}, {results['sentences']} sentences"
    table = Table(box=None, pad_edge=False, title=escaped(title), title_justify="left")
    compared = results.get("paired_bootstrap")
    for title in ("run", "BLEU", "chrF", *(("95% interval", "p") if compared else ())):
        table.add_column(title, justify="left" if title == "run" else "right", overflow="fold")
    for i, row in enumerate(results["runs"]):
        cells = [row["run"], f"{row['bleu']:.2f}", f"{row['chrf']:.2f}"]
        if compared:
            c = compared["runs"][i]
            p = "" if c["p_value"] is None else f"{c['p_value']:.4f}"
            cells += [f"{c['mean']:.2f} ± {c['interval']:.2f}", p]
        table.add_row(*map(escaped, cells))
    console().print(table)
    print(f"{results['runs'][0]['bleu_signature']}\n{results['runs'][0]['chrf_signature']}")
    if compared:
        print(
            "p: probability of a difference from the first run at least this large by chance"
            f" ({compared['signature']})"
        )


def main() -> None:
    """Parse the command line, score each run, print, and write the JSON file on request."""
    asked = options()
    evaluation = Evaluation(asked)
    for folder in asked.runs:
        evaluation.add(folder)
    results = evaluation.results()
    if asked.json is not None:
        write_text(asked.json, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    show(results)
