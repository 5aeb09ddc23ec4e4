"""Score runs on a test set: BLEU and chrF with their sacreBLEU signatures; two runs or more are
compared.

    python scripts/evaluate.py outputs/grammar_en_zh/layer-lstm-small-seed1 --split test_long --beam
    5

The first run is what the others are compared with, by paired bootstrap (Koehn 2004).
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from seq2seq.app.cli import add_search_options, console, guarded, open_translator
from seq2seq.data.corpora import read_pair_files, read_split, scored_text
from seq2seq.files import write_text
from seq2seq.runs.folder import Run
from seq2seq.translation.scores import paired_bootstrap, score


def test_set(run: Run, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Source and reference lines that are asked for."""
    if arguments.source is None:
        return read_split(run.config().data, arguments.split)
    return read_pair_files(arguments.source, arguments.reference)


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Translate and score with every run; what --json writes."""
    systems: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    references: list[str] = []
    language = ""
    for folder in arguments.runs:
        run = Run.open(folder)
        lines, own_references = test_set(run, arguments)
        if references and own_references != references:
            raise ValueError(
                f"{folder}: has other {arguments.split} references than {arguments.runs[0]};"
                " expected runs on one corpus, or --source and --reference"
            )
        own_language = run.config().data.target_language
        if language not in ("", own_language):
            raise ValueError(
                f"{folder}: translates into {own_language}, {arguments.runs[0]} into {language};"
                " expected runs with one target language"
            )
        references, language = own_references, own_language
        session = open_translator(folder, arguments)
        systems[folder] = [best[0].text for best in session.translate(lines, progress=True)]
        scores = asdict(score(systems[folder], references, language))
        rows.append(
            {
                "run": folder,
                "decode": asdict(session.decode),
                **scores,
                **scored_text(lines, references),
            }
        )
    name = arguments.source or arguments.split
    results: dict[str, Any] = {"test_set": name, "sentences": len(references), "runs": rows}
    if len(systems) > 1:
        signature, comparisons = paired_bootstrap(systems, references, language)
        results["paired_bootstrap"] = {
            "signature": signature,
            "runs": [asdict(c) for c in comparisons],
        }
    return results


def show(results: dict[str, Any]) -> None:
    """Print the scores as a table, and what they mean below it."""
    table = Table(
        box=None,
        pad_edge=False,
        title=f"{results['test_set']}, {results['sentences']} sentences",
        title_justify="left",
    )
    compared = results.get("paired_bootstrap")
    for title in ("run", "BLEU", "chrF", *(("95% interval", "p") if compared else ())):
        table.add_column(title, justify="left" if title == "run" else "right", overflow="fold")
    for i, row in enumerate(results["runs"]):
        cells = [row["run"], f"{row['bleu']:.2f}", f"{row['chrf']:.2f}"]
        if compared:
            c = compared["runs"][i]
            cells += [
                f"{c['mean']:.2f} ± {c['interval']:.2f}",
                "" if c["p_value"] is None else f"{c['p_value']:.4f}",
            ]
        table.add_row(*cells)
    console().print(table)
    print(f"{results['runs'][0]['bleu_signature']}\n{results['runs'][0]['chrf_signature']}")
    if compared:
        print(
            "p: how likely so large a difference from the first run is by chance"
            f" ({compared['signature']})"
        )


def main() -> None:
    """Parse the command line, score, print, and write the JSON where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--split", default="test", metavar="NAME", help="valid, test, or another of the corpus"
    )
    parser.add_argument("--source", metavar="FILE", help="text to translate instead of a split")
    parser.add_argument(
        "--reference", metavar="FILE", help="its reference translations, line by line"
    )
    add_search_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    if (arguments.source is None) != (arguments.reference is None):
        parser.error("--source and --reference go together")
    if len({Path(run).resolve() for run in arguments.runs}) < len(arguments.runs):
        parser.error("a run is named twice")
    results = evaluate(arguments)
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    show(results)


if __name__ == "__main__":
    sys.exit(guarded(main))
