"""The reports under docs/results use the program's present words, and name their versions."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seq2seq.config.settings import CONFIGS
from seq2seq.report.experiments import EXPERIMENTS
from seq2seq.report.texts import texts
from seq2seq.shown import markdown

ROOT = Path(__file__).resolve().parents[2]
REPORTS = {
    path.parent.name: path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs" / "results").glob("*/report.md"))
}


def explained() -> dict[str, str]:
    """Return all terms with their meanings, as Markdown."""
    text = texts()
    parts = [text["words"], text["words_with"], *text["words_of"].values()]
    terms = {**text["words_of_verdicts"], **{k: v for part in parts for k, v in part.items()}}
    return {markdown(term): markdown(meaning) for term, meaning in terms.items()}


def test_the_reports_are_those_of_make_results() -> None:
    assert REPORTS.keys() == {"compare", "quick", "real"}  # the last by SIZE=real


@pytest.mark.parametrize("name", REPORTS)
def test_the_terms_are_explained_as_the_program_does(name: str) -> None:
    _, found, after = REPORTS[name].partition("\n## Terms\n")
    shown = dict(re.findall(r"^- \*\*(.+?)\*\*: (.+)$", after, re.M))
    assert found
    assert len(shown) > 10
    assert shown.items() <= explained().items()


@pytest.mark.parametrize("name", REPORTS)
def test_versions_are_named(name: str) -> None:
    assert re.search(r"^Trained on .*\bseq2seq \d+\.\d+\.\d+", REPORTS[name], re.M)
    assert re.search(r"^Written by seq2seq \d+\.\d+\.\d+, Python ", REPORTS[name], re.M)


def test_the_claims_are_those_of_the_experiments() -> None:
    report = REPORTS["quick"]
    assert f"\n{markdown(texts()['rule'])}\n" in report
    for experiment in EXPERIMENTS.values():
        assert f"\nSource: {markdown(experiment.statement.source)}\n" in report
        assert f"\nRefuted if: {markdown(experiment.statement.refuted_if)}\n" in report


def test_a_report_that_was_written_does_not_fail_the_spelling_check(tmp_path: Path) -> None:
    """It contains the code of libraries; make compare and make results write one."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in (tmp_path, tmp_path / "docs" / "results" / "quick"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text("rec" + "ieve")
    checked = [sys.executable, "-m", "codespell_lib"]
    assert subprocess.run(checked, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "page.md").write_text("rec" + "ieve")
    assert subprocess.run(checked, cwd=tmp_path, check=False).returncode != 0


@pytest.mark.parametrize("name", REPORTS)
def test_no_command_starts_cases_besides_those_that_it_names(name: str) -> None:
    """It has a case's settings, or starts all cases."""
    for experiment in ("batch_norm", "robustness"):
        file = CONFIGS / "experiment" / f"{experiment}.yaml"
        cases = yaml.safe_load(file.read_text(encoding="utf-8"))["hydra"]["sweeper"]["cases"]
        keys = {word.partition("=")[0] for case in cases for word in case.split()}
        shown = re.findall(
            rf"^    python train.py -m (experiment={experiment} .+)$", REPORTS[name], re.M
        )
        assert shown or name != "quick"
        for command in shown:
            named = {word.partition("=")[0] for word in command.split()}
            assert not named & keys or "hydra.sweeper.cases" in named, command
