"""scripts/compare.py with runs that differ in more than the norm."""

import csv
import io
import json
from pathlib import Path

import pytest
from comparison_page import Page, markdown, p_values
from conftest import final_results
from fixture_types import Compare, Variant
from runs import Runs

from seq2seq.report.experiments import EXPERIMENTS
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.records import read_runs

pytest_plugins = ["run_fixtures", "compare_fixtures"]


def test_a_norm_is_compared_with_the_run_without_norm_that_has_the_same_settings(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    done = compare(two_runs.none, variant("other", optimizer__weight_decay=0.5), two_runs.layer)
    assert done.code == 0, done.err
    found = p_values(tmp_path)
    assert found.pop("none (optimizer.weight decay 0.0)") == "–"
    assert found.pop("none (optimizer.weight decay 0.5)") == "–"
    assert set(found) == {"layer"}
    assert "–" not in found.values()


def test_runs_that_are_left_out_are_marked_in_every_table(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    wide = variant("wide", model__hidden_size=64, experiment="convergence")
    done = compare(
        wide,
        *(variant(name, experiment="convergence", seed=seed) for seed, name in enumerate("abc", 1)),
    )
    row = next(
        row
        for row in csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text()))
        if row["run"] == "wide"
    )
    assert row["status"] == "left out"
    assert row["left_out"].startswith("differs in more than what is compared: model.hidden_size=64")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.texts["td"].count("left out") == 1
    assert "status" in done.out


# -- what tells runs apart ---


def test_other_differences_are_listed_with_their_values(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    folders = [
        two_runs.none,
        variant("b", optimizer__lr=0.5),
        variant("c", optimizer__lr=0.5, seed=2),
        variant("d", optimizer__lr=0.5, seed=3, results={"threads": 64}),
    ]
    done = compare(*folders)
    notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: optimizer.lr differs: 0.02 in none-lstm-tiny-seed1, 0.5 in 3 runs",
        "note: threads differs: 1 in 3 runs, 64 in d",
    ]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert [note.removeprefix("note: ") for note in notes] == page.texts["li"][-2:]


def test_each_corpus_has_its_own_section(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    other = variant("b", data__name="other")
    done = compare(two_runs.none, other)
    assert done.code == 0, done.err
    assert [line.split()[:2] for line in done.out.splitlines() if line.startswith("none")] == [
        ["none,", "toy"],
        ["none,", "other"],
    ]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert {"Runs (toy)", "Runs (other)"} <= set(page.texts["h2"])


def test_runs_of_one_name_from_other_folders(two_runs: Runs, variant: Variant) -> None:
    twins = [
        variant(f"{corpus}/none-lstm-tiny-seed1", data__name=corpus)
        for corpus in ("de_en", "en_zh")
    ]
    assert [r.name for r in read_runs(twins)[0]] == [
        "de_en/none-lstm-tiny-seed1",
        "en_zh/none-lstm-tiny-seed1",
    ]
    with pytest.raises(RunError, match="named twice"):
        read_runs([twins[0], twins[0]])


def test_each_machine_and_its_threads_are_listed(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    old, new = variant("old"), variant("new", seed=2, results={"processor": "Z80", "threads": 8})
    results = final_results(Run(old))
    del results["processor"]
    Run(old).results_file.write_text(json.dumps(results))
    done = compare(old, new)
    assert done.code == 0, done.err
    lines = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.partition(", seq2seq")[0] for line in lines if line.startswith("Trained on ")] == [
        "Trained on cpu, 1 thread",
        "Trained on cpu, Z80, 8 threads",
    ]


def test_an_experiments_verdict_is_printed_and_on_the_page(
    variant: Variant, compare: Compare, tmp_path: Path
) -> None:
    folders = [
        variant(
            f"{norm}{seed}",
            norm,
            experiment="convergence",
            size="quick",
            seed=seed,
            trainer__max_updates=200,
            trainer__validate_every=66,
        )
        for norm in ("none", "layer")
        for seed in (1, 2, 3)
    ]
    done = compare(*folders)
    assert done.code == 0, done.err
    claim = EXPERIMENTS["convergence"].statement.claim
    assert f": Convergence: {claim}" in done.out
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "Verdicts" in page.texts["h2"]
    assert page.classes.count("reported") == 2  # BLEU and the halfway loss are only reported
    assert claim in page.texts["dd"]
    assert "python train.py -m experiment=convergence size=quick" in page.texts["code"]
    tables, images = markdown((tmp_path / "out" / "report.md").read_text(encoding="utf-8"))
    short, verdict, norms, findings = tables
    assert [row[0] for row in short] == ["compared with none", "layer"]
    assert verdict[1][0] == f"Convergence: {claim}"
    assert verdict[1][1] in done.out
    assert [row[0] for row in norms[1:]] == ["none", "layer"]
    assert [row[0] for row in findings[1:]] == [
        cell for cell in page.texts["td"] if cell.startswith("layer ")
    ][-4:]
    assert images
    assert all((tmp_path / "out" / image).is_file() for image in images)
