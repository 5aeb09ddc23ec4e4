"""What evaluate.py prints and saves: the table, its words, and sacreBLEU's own command."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..config.languages import BLEU_UNITS
from ..files import write_text
from ..shown import counted, escaped
from ..translation.scores import COMPARED, composed, ter_metric
from .options import console

TITLES = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER"}
"""Key of a score -> the title of its column."""

LONGEST_NAME = 100
"""Letters of a system's name in a file name."""


def show(results: dict[str, Any], is_saved: bool) -> None:
    """Print the scores as a table, with what they are and how to repeat them below it."""
    compared = [
        results[key] for key in ("paired_bootstrap", "paired_bootstrap_chrf") if key in results
    ]
    console().print(table(results, compared))
    shown = [key for key in TITLES if key in results["runs"][0]]
    for key in shown:
        print(results["runs"][0][f"{key}_signature"])
    print(in_words(results))
    print(f"systems and references are compared {COMPARED}")
    if compared:
        print(
            "p: probability of a difference from the first system at least this large by chance"
            f" ({compared[0]['signature']})"
        )
    for remark in results["remarks"]:
        print(f"note: {escaped(remark)}")
    how = "" if is_saved else " (--save DIR writes these files)"
    print(f"sacreBLEU's own command{how}:")
    for line in results["sacrebleu"]:
        print(f"    {escaped(line)}")


def table(results: dict[str, Any], compared: list[dict[str, Any]]) -> Table:
    """Return a row of scores for each system; `compared` holds the tests of BLEU and chrF."""
    title = f"{results['test_set']}, {counted(results['sentences'], 'sentence')}"
    found = Table(box=None, pad_edge=False, title=escaped(title), title_justify="left")
    is_run = all("decode" in row for row in results["runs"])
    shown = {key: name for key, name in TITLES.items() if key in results["runs"][0]}
    tests = ("95% interval", "p", "p (chrF)") if compared else ()
    found.add_column("run" if is_run else "system", overflow="fold")
    for name in (*shown.values(), *tests):
        found.add_column(name, justify="right", overflow="fold")
    for i, row in enumerate(results["runs"]):
        cells = [escaped(row["run"]), *(f"{row[key]:.2f}" for key in shown)]
        if compared:
            bleu, chrf = (test["runs"][i] for test in compared)
            cells.append(f"{bleu['mean']:.2f} ± {bleu['interval']:.2f}")
            cells += [
                "" if test["p_value"] is None else f"{test['p_value']:.4f}" for test in (bleu, chrf)
            ]
        found.add_row(*cells)
    return found


def in_words(results: dict[str, Any]) -> str:
    """Return how the text is split and compared."""
    case = "without" if results["lowercase"] else "with"
    count = len(results["references"])
    many = f", {count} references" if count > 1 else ""
    name = results["tokenizer"]
    return f"BLEU on {BLEU_UNITS[name]} (tokenizer {name}), {case} regard to case{many}"


# -- files, and sacreBLEU's command ---


def file_names(systems: Sequence[str]) -> list[str]:
    """Return the names of the files of --save, one for each system."""
    return [
        f"{place}-{Path(name).name[:LONGEST_NAME]}.txt" for place, name in enumerate(systems, 1)
    ]


def reference_names(count: int) -> list[str]:
    """Return the names of the files of --save, one for each reference."""
    return ["reference.txt", *(f"reference.{place}.txt" for place in range(2, count + 1))]


def save(folder: Path, systems: Mapping[str, list[str]], references: list[list[str]]) -> None:
    """Write translations and references as they are compared, a line each."""
    names = [*file_names(list(systems)), *reference_names(len(references))]
    for name, lines in zip(names, [*systems.values(), *references], strict=True):
        text = "".join(line.replace("\r", " ") + "\n" for line in composed(lines))
        write_text(folder / name, text)


def sacrebleu_command(results: dict[str, Any], language: str, folder: Path | None) -> list[str]:
    """Return the command lines of sacreBLEU that give the same scores from the files of --save."""
    place = Path() if folder is None else folder
    systems = [str(place / name) for name in file_names([row["run"] for row in results["runs"]])]
    references = [str(place / name) for name in reference_names(len(results["references"]))]
    start = ["sacrebleu", *references, "-i", *systems]
    chrf = ["--chrf-lowercase"] if results["lowercase"] else []
    bleu = ["-tok", results["tokenizer"], *(["-lc"] if results["lowercase"] else [])]
    ter = ter_metric(language)
    asian = ["--ter-normalized", "--ter-asian-support"] if ter and ter.asian_support else []
    found = [[*start, "-m", "bleu", "chrf", *(["ter"] if ter else []), *bleu, *chrf, *asian]]
    if len(systems) > 1:
        found[0] += ["--paired-bs", "-f", "text"]  # its JSON cannot hold a test of chrF
    if "chrf++" in results["runs"][0]:
        found.append([*start, "-m", "chrf", "--chrf-word-order", "2", *chrf])
    return [shlex.join(line) for line in found]
