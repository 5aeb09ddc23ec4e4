"""scripts/compare.py with runs that are unfinished, damaged, old, or lack a part."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_page import Page, p_values
from conftest import final_results
from fixture_types import Compare, Variant
from runs import Runs

from seq2seq.runs.examples import read_examples
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures", "compare_fixtures"]


# -- odd runs ---


def test_a_run_without_a_test_set(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    lone = variant("lone")
    results = final_results(Run(lone))
    del results["test"]
    results["valid"]["bleu_signature"] = "BLEU|of valid"
    Run(lone).results_file.write_text(json.dumps(results))
    done = compare(lone, two_runs.layer)
    assert done.code == 0, done.err
    row = next(line.split() for line in done.out.splitlines() if line.startswith("none"))
    assert row[1:3] == ["–", "–"]
    assert row[3] == f"{results['valid']['bleu']:.1f}"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert rows[0]["test_bleu"] == rows[0]["test_chrf"] == ""
    assert "BLEU|of valid" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_without_metrics(two_runs: Runs, compare: Compare, variant: Variant) -> None:
    bare = variant("bare")
    Run(bare).metrics_file.unlink()
    done = compare(bare, two_runs.layer)
    assert done.code == 0, done.err
    assert (
        "note: bare: metrics.jsonl is missing or empty, so it has no curves"
        in done.out.splitlines()
    )
    assert "no curves" not in compare(two_runs.none, two_runs.layer).out


def test_unfinished_and_failed_runs_are_listed_but_not_compared(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    begun, failed = variant("begun"), variant("failed")
    for folder in (begun, failed):
        Run(folder).results_file.unlink()
    Run(failed).failure_file.write_text("loss is not finite\n")
    done = compare(two_runs.none, begun, failed)
    assert (done.code, done.err) == (0, "")
    assert (
        f"note: begun: left out: has not finished; resume it with: python train.py resume={begun}"
        in done.out
    )
    assert "note: failed: left out: failed: loss is not finite" in done.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert [row["status"] for row in rows] == ["finished", "unfinished", "failed"]
    assert rows[1]["test_bleu"] == ""
    assert compare(begun).code == 0


def test_a_folder_without_a_started_run_gives_a_note(
    two_runs: Runs, compare: Compare, tmp_path: Path
) -> None:
    bare, failed = tmp_path / "bare", tmp_path / "failed"
    for folder in (bare, failed):
        folder.mkdir()
    (failed / "failure.txt").write_text("no CUDA device\n")
    done = compare(bare, two_runs.none, failed)
    assert (done.code, done.err) == (0, "")
    assert "note: bare: left out: its training has not begun" in done.out.splitlines()
    assert "note: failed: left out: failed: no CUDA device" in done.out.splitlines()
    alone = compare(bare, failed)
    assert alone.code == 2
    assert (
        "no run can be compared: bare: its training has not begun; expected a run that train.py has"
        " begun (2 runs are left out)" in alone.err
    )


# -- the test set that the runs were scored on ---


def test_a_report_needs_neither_the_corpus_nor_the_model(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    """Translations, attention maps and p-values are read from the runs' folders."""
    nowhere = replace(two_runs.data.test, source="nowhere.en", target="nowhere.zh")
    folders = [variant(norm, norm, data__test=nowhere) for norm in ("none", "layer")]
    for folder in folders:
        shutil.rmtree(Path(folder) / "checkpoints")
        for file in Path(folder).glob("tokenizer*"):
            file.unlink()
    assert compare(*folders).code == 0
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert len([text for text in page.texts["dd"] if text in two_runs.sources]) == 5
    assert len(page.maps) == 4
    stored = read_examples(Run(folders[0]).translations)[1].attention
    first, *_ = page.maps.values()
    shown = [[float(title.rpartition(": ")[2] or 0) for title in row] for row in first if row]
    assert shown == [pytest.approx(row, abs=0.0051) for row in stored]
    assert p_values(tmp_path)["layer"] != "–"


def test_runs_of_older_versions_have_no_examples_and_no_p_values(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    """They have not stored their test text."""
    old = [variant(norm, norm) for norm in ("none", "layer")]
    for folder in old:
        for name in ("test.source.txt", "test.reference.txt", "examples.json"):
            (Path(folder) / "translations" / name).unlink()
    done = compare(*old)
    assert done.code == 0, done.err
    assert (
        "note: toy: no worked translations are shown: translations/examples.json is missing in none,"
        " layer; runs of older versions have no p-values either" in done.out.splitlines()
    )
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not [text for text in page.texts.get("dd", ()) if text in two_runs.sources]
    assert p_values(tmp_path)["layer"] == "–"


def test_different_sentences_are_not_shown_side_by_side(
    two_runs: Runs, compare: Compare, variant: Variant
) -> None:
    odd = variant("odd", "layer")
    file = Path(odd) / "translations" / "examples.json"
    examples = json.loads(file.read_text(encoding="utf-8"))
    examples[0]["source"] = "another sentence"
    file.write_text(json.dumps(examples), encoding="utf-8")
    done = compare(two_runs.none, odd)
    assert done.code == 0, done.err
    assert "note: toy: no worked translations are shown: the runs have stored different" in done.out


def test_damaged_examples_are_named(two_runs: Runs, compare: Compare, variant: Variant) -> None:
    damaged = variant("damaged", "layer")
    (Path(damaged) / "translations" / "examples.json").write_text("[")
    done = compare(two_runs.none, damaged)
    assert done.code == 2
    assert "examples.json: damaged" in done.err


def test_missing_and_damaged_runs_are_named(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    assert "nothing: no such run" in compare(two_runs.none, tmp_path / "nothing").err
    damaged = variant("damaged")
    Run(damaged).results_file.write_text('{"norm": ')
    done = compare(damaged)
    assert done.code == 2
    assert "results.json: damaged" in done.err
    done = compare(two_runs.none, f"{two_runs.none}/")
    assert done.code == 2
    assert "a run is named twice" in done.err


def test_a_run_that_cannot_be_read_is_left_out(
    two_runs: Runs, compare: Compare, variant: Variant
) -> None:
    old, damaged = variant("old"), variant("damaged")
    with Run(old).config_file.open("a") as file:
        file.write("a_setting_of_old: 3\n")
    Run(damaged).results_file.write_text('{"norm": ')
    done = compare(two_runs.none, two_runs.layer, old, damaged)
    assert (done.code, done.err) == (0, "")
    for name, reason in (
        ("old", "config.yaml: not a configuration"),
        ("damaged", "results.json: damaged"),
    ):
        (note,) = [
            line for line in done.out.splitlines() if line.startswith(f"note: {name}: left out: ")
        ]
        assert reason in note


def test_a_run_with_any_damaged_file_is_left_out(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    """It does not stop the comparison of the others."""
    reasons = dict[str, str]()
    for file, text, reason in (
        ("overrides.yaml", b"\xff", "overrides.yaml: damaged"),
        ("overrides.yaml", b"3", "overrides.yaml: damaged"),
        ("metrics.jsonl", b"x\n", "metrics.jsonl:1: not a JSON object"),
        ("probes.jsonl", b"x\n", "probes.jsonl:1: not a JSON object"),
        ("speed.json", b"{", "speed.json: damaged"),
        ("failure.txt", b"\xe9", "failure.txt: damaged"),
        ("failure.txt", None, "failure.txt: Is a directory"),
        ("overrides.yaml", None, "overrides.yaml: Is a directory"),
    ):
        folder = variant(f"damaged{len(reasons)}")
        if text is None:
            (Path(folder) / file).mkdir()
        else:
            (Path(folder) / file).write_bytes(text)
        reasons[folder] = reason
    bare = tmp_path / "runs" / "bare"
    bare.mkdir()
    (bare / "failure.txt").write_bytes("défaut".encode("latin-1"))
    reasons[str(bare)] = "failure.txt: damaged"
    done = compare(two_runs.none, *reasons)
    assert (done.code, done.err) == (0, "")
    for folder, reason in reasons.items():
        start = f"note: {Path(folder).name}: left out: "
        (note,) = [line for line in done.out.splitlines() if line.startswith(start)]
        assert reason in note


def test_a_path_that_is_not_unicode_is_accepted(
    two_runs: Runs, compare: Compare, tmp_path: Path
) -> None:
    odd = tmp_path / "odd\udcff"
    shutil.copytree(two_runs.none, odd)
    done = compare(odd, two_runs.layer)
    assert (done.code, done.err) == (0, "")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert r"odd\\udcff" in text


def test_control_characters_of_a_signature_do_not_reach_the_terminal(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    run = variant("theirs")
    results = final_results(Run(run))
    results["test"]["bleu_signature"] = "BLEU|tok:\x1b]0;PWNED\x07`<b>"
    Run(run).results_file.write_text(json.dumps(results))
    done = compare(run)
    assert done.code == 0, done.err
    assert "BLEU on tokenizer \\x1b]0;PWNED\\x07`<b>\n" in done.out
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "`BLEU|tok:\\x1b]0;PWNED\\x07'<b>`" in report
    assert "\x1b" not in done.out + report
