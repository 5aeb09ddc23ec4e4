"""The columns of results.csv and the rows of norms: each has its own figure."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from short_answers import scored_runs
from synthetic import SEEDS, curve, group, metric, record
from typed import present

from seq2seq.config import DataConfig
from seq2seq.report import page
from seq2seq.report.columns import COLUMNS, status, updates
from seq2seq.report.experiments.verdict import Finding, Verdict
from seq2seq.report.norms import bootstrap_p_values, norm_cells, norm_rows
from seq2seq.report.page import csv_table, trained_on, training_times
from seq2seq.report.statistics import interval
from seq2seq.runs.examples import write_lines
from seq2seq.runs.folder import Run
from seq2seq.runs.records import RunRecord


def one_run() -> RunRecord:
    """Return a run all of whose figures differ."""
    run = record(
        "layer",
        7,
        lr=0.25,
        results={
            "test": {"bleu": 31.25, "chrf": 42.5},
            "valid": {"bleu": 33.5, "chrf": 44.5},
            "valid_loss": 1.5,
            "update": 200,
            "tokens_per_second": 3000.0,
            "wall_seconds": 90.0,
            "seconds": 60.0,
            "parameters": 77,
        },
    )
    run.config = replace(run.config, data=DataConfig("toy", batch_tokens=512))
    return run


def test_each_column_has_its_own_value() -> None:
    run = one_run()
    found = {column.key: column.value(run) for column in COLUMNS}
    assert found == {
        "run": run.name,
        "status": "finished",
        "left_out": None,
        "experiment": "convergence",
        "size": "quick",
        "corpus": "toy",
        "cell": "lstm",
        "norm": "layer",
        "seed": 7,
        "init_from": None,
        "learning_rate": 0.25,
        "batch_sentences": None,
        "batch_tokens": 512,
        "test_bleu": 31.25,
        "test_chrf": 42.5,
        "valid_bleu": 33.5,
        "valid_loss": 1.5,
        "update": 200,
        "tokens_per_second": 3000.0,
        "minutes": 1.5,
        "parameters": 77,
    }
    [keys, values] = csv.reader(csv_table([run]).splitlines())
    row = dict(zip(keys, values, strict=True))
    assert (row["tokens_per_second"], row["test_bleu"], row["left_out"]) == ("3000.0", "31.25", "")


def test_a_run_without_results_is_as_far_as_its_last_entry() -> None:
    run = one_run()
    run.results, run.status = None, "unfinished"
    assert updates(run) is None
    run.metrics[:] = map(metric, curve(0.1, updates=(5, 10, 15)))
    assert updates(run) == 15
    run.left_out = "has not finished"
    assert status(run) == "unfinished"
    run.status = "finished"
    assert status(run) == "left out"


def test_the_hours_of_each_machine_are_those_from_start_to_end() -> None:
    own, other = present(one_run().results), present(one_run().results)
    other.threads, other.versions, other.commit = 2, {"torch": "2", "seq2seq": "1"}, "abc"
    own.wall_seconds, other.wall_seconds = 3600.0, 7200.0
    assert training_times([own, other, own]) == [
        "cpu, 1 thread, torch 2: 2 runs, 2 hours one after the other",
        "cpu, 2 threads, torch 2, seq2seq 1 (commit abc): 1 run, 2 hours one after the other",
    ]
    assert other.versions == {"torch": "2", "seq2seq": "1"}
    assert trained_on(own) == "cpu, 1 thread, torch 2"


# -- norms side by side ---


def test_a_norms_row_has_its_interval_and_the_time_of_both_sides() -> None:
    found = group(scored_runs({"none": (30, 31, 33), "layer": (40, 41, 43)}, rates={"layer": 0.1}))
    none, layer = map(norm_cells, norm_rows(found))
    half = interval([40.0, 41.0, 43.0]).half
    assert layer["test BLEU (95%)"] == f"41.3 ± {half:.1f}"
    own, others = map(float, layer["updates to the common loss / none's"].split(" / "))
    assert own == pytest.approx(others / 2, rel=0.05)
    assert none["updates to the common loss / none's"] == "–"


def test_p_values_are_listed_by_seed_unless_all_are_equal() -> None:
    row = norm_rows(group(scored_runs({"none": (30, 31, 33)})))[0]
    cells = norm_cells(replace(row, p_values={1: 0.001, 2: 0.001, 3: 0.2}))
    assert cells["p against none, by seed"] == "seed 1: 0.001, seed 2: 0.001, seed 3: 0.200"


def test_translations_of_another_number_of_lines_are_not_tested(tmp_path: Path) -> None:
    runs = {norm: [record(norm)] for norm in ("none", "layer", "rms")}
    group(run for own in runs.values() for run in own)
    lines = ["one dog sees two cats", "three birds like four dogs"]
    for norm, own in runs.items():
        own[0].run = Run(tmp_path / norm)
        write_lines(own[0].run.translations / "test.reference.txt", lines)
        write_lines(own[0].run.translations / "test.txt", lines[: 1 if norm == "layer" else 2])
    assert bootstrap_p_values(runs, "none") == {"none": {}, "layer": {}, "rms": {SEEDS[0]: 1.0}}


def test_the_best_rate_is_that_of_the_mean_and_not_of_a_lucky_seed() -> None:
    found = group(
        record(seed=seed, lr=rate, results={"valid_loss": loss})
        for rate, losses in ((0.01, (1.0, 3.0)), (0.02, (1.5, 1.75)))
        for seed, loss in zip(SEEDS, losses, strict=False)
    )
    assert found.best_rate({"norm": "none"}) == 0.02


def test_the_usual_norm_of_a_kind_comes_first() -> None:
    """Whatever its name: here it is the last one by the alphabet."""
    found = group(
        record("batch", seed, norm_settings=settings)
        for settings in ({"momentum": 0.01}, {})
        for seed in SEEDS
    )
    usual, other = found.variants("batch")
    assert other == "batch (momentum 0.01)"
    assert usual > other
    assert found.usual("batch") == [usual]


# -- the report as a whole ---


def test_findings_are_corrected_for_those_of_all_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("it loses", "nats", [1.0, 1.4, 0.7]) for _ in range(2)]
    left = iter(found)
    monkeypatch.setattr(
        page,
        "section",
        lambda group, title, stem, threads: page.Section(
            group, title, [], None, [Verdict("claim", [next(left)])], [], []
        ),
    )
    both = [group([record(experiment=name)]) for name in ("convergence", "length")]
    with ThreadPoolExecutor(1) as threads:
        assert len(page.sections_of(both, threads)) == 2
    assert [f.corrected for f in found] == pytest.approx([2 * found[0].p] * 2)


def test_only_pictures_that_no_report_shows_any_more_are_removed(tmp_path: Path) -> None:
    page.write_pictures({"a.png": b"1", "a.svg": b"2", "b.png": b"3"}, tmp_path)
    shown = "![](figures/a.png)\n![](figures/b.png)\n"
    (tmp_path / "report.md").write_text(shown, encoding="utf-8")
    (tmp_path / "figures" / "mine.png").write_bytes(b"4")
    page.write_pictures({"a.png": b"5", "a.svg": b"6"}, tmp_path)
    kept = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert kept == {"a.png": b"5", "a.svg": b"6", "mine.png": b"4"}
