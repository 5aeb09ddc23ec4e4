"""metrics.jsonl, probes.jsonl and results.json: all values are read as they were written."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import TrainHere, final_results
from typed import present

from seq2seq.config import ProbeKind
from seq2seq.runs.entries import (
    POSITION,
    GradientFlow,
    Invariance,
    LengthBucket,
    MetricEntry,
    ModeLosses,
    StatisticsDistance,
    kind_of,
    read_probes,
)
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.jsonl import json_line, read_metrics
from seq2seq.runs.records import read_runs
from seq2seq.runs.results import Results, Score, results_of


@pytest.fixture(scope="module")
def probed(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train a run with every probe."""
    kinds = ",".join(ProbeKind.__members__)
    return train_here(
        tmp_path_factory.mktemp("probed") / "run",
        "norm=batch",
        "norm.min_rows=2",
        f"probe.kinds=[{kinds}]",
        "probe.sentences=8",
        "probe.batches=2",
        "probe.lengths=[4]",
    )


def test_every_value_of_a_probe_has_a_field(probed: Run) -> None:
    lines = read_metrics(probed.probes_file)
    kinds = [kind_of(line) for line in lines]
    assert set(kinds) == {GradientFlow, Invariance, LengthBucket, ModeLosses, StatisticsDistance}
    for line, kind in zip(lines, kinds, strict=True):
        assert list(line)[:3] == ["update", "final", "probe"]
        assert set(line) - {"probe"} <= {f.name for f in fields(present(kind))}
    entries = read_probes(probed.probes_file)
    for line, entry in zip(lines, entries, strict=True):
        assert {k: getattr(entry, k) for k in line if k != "probe"} == {
            k: v for k, v in line.items() if k != "probe"
        }


def test_a_line_of_metrics_is_written_as_it_was_read(probed: Run) -> None:
    lines = probed.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) > 2
    for line in lines:
        entry = MetricEntry.of_json(json.loads(line), probed.metrics_file)
        assert list(json.loads(line))[:5] == ["kind", *POSITION]
        assert json_line(entry.as_json()) == line


def test_results_are_written_as_they_were_read(probed: Run, tmp_path: Path) -> None:
    results = results_of(final_results(probed), probed.results_file)
    results.write(tmp_path / "results.json")
    assert (tmp_path / "results.json").read_bytes() == probed.results_file.read_bytes()
    assert list(final_results(probed)) == [f.name for f in fields(Results)]


def test_missing_values_are_not_in_the_results(finished: Run) -> None:
    assert "valid_loss_batch_statistics" not in final_results(finished)


def test_results_of_a_newer_version_are_read(finished: Run) -> None:
    content = final_results(finished) | {"colour": "red"}
    content["valid"] = content["valid"] | {"shade": 1}
    found = results_of(content, finished.results_file)
    assert isinstance(found.valid, Score)
    assert found.valid.bleu == content["valid"]["bleu"]


def test_results_of_an_older_version_are_read(finished: Run, tmp_path: Path) -> None:
    content = final_results(finished)
    for key in ("processor", "decode"):
        del content[key]
    del content["test"]["reference_sha256"]
    found = results_of(content, finished.results_file)
    assert (found.processor, found.decode, present(found.test).reference_sha256) == (
        None,
        None,
        None,
    )
    file = tmp_path / "probes.jsonl"
    line = {"probe": "invariance", "transformation": "x", "claimed": True, "change": None}
    file.write_text(json_line(line) + json_line({"probe": "of a newer version"}))
    (entry,) = read_probes(file)
    assert isinstance(entry, Invariance)
    assert entry.change_eps is None
    assert not entry.is_finite


def test_numbers_of_a_list_are_floats(tmp_path: Path) -> None:
    file = tmp_path / "probes.jsonl"
    sizes = {"raw": [0, 0.5], "gradient": [None, 1.5], "hidden": [0.5, 2.0]}
    file.write_text(json_line({"probe": "gradient_flow", "length": 2, **sizes}))
    (entry,) = read_probes(file)
    assert isinstance(entry, GradientFlow)
    assert (entry.raw, entry.hidden) == ([0.0, 0.5], [0.5, 2.0])
    assert {type(v) for v in (*entry.raw, *entry.gradient, *entry.hidden)} == {float}
    file.write_text(json_line({"probe": "gradient_flow", "length": 2, **sizes, "raw": [0.5, "x"]}))
    with pytest.raises(ValueError, match=r"raw\[1\]='x': expected float"):
        read_probes(file)


def test_a_missing_figure_is_named(copied: Run, tmp_path: Path) -> None:
    content = final_results(copied)
    del content["threads"]
    copied.results_file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"results\.json: damaged \(Results without threads"):
        read_runs([str(copied.folder)])
    file = tmp_path / "probes.jsonl"
    file.write_text(json_line({"probe": "length", "over": 1, "pieces": 2}))
    with pytest.raises(
        ValueError, match=r"probes\.jsonl: damaged \(LengthBucket without trained, nll"
    ):
        read_probes(file)
