"""The content of a run's folder, as a report reads it."""

from typing import Any

from synthetic import record
from typed import present

from seq2seq.runs.entries import Invariance, LengthBucket


def test_a_curve_skips_values_that_are_not_finite() -> None:
    run = record(
        metrics=[
            {"kind": "valid", "update": u, "loss": loss}
            for u, loss in ((1, 2.0), (2, None), (3, 1.0))
        ]
    )
    assert run.series("valid", "loss") == ([1, 3], [2.0, 1.0])


def test_a_curve_skips_points_without_a_place() -> None:
    places: list[dict[str, Any]] = [
        {"update": 1, "seconds": 0.5},
        {"update": 2},
        {"update": 3, "seconds": None},
    ]
    run = record(metrics=[{"kind": "train", "loss": 2.0, **place} for place in places])
    assert run.series("train", "loss", "seconds") == ([0.5], [2.0])
    assert run.series("train", "loss") == ([1, 2, 3], [2.0] * 3)


def test_a_setting_or_the_norms_name_is_found_by_its_key() -> None:
    run = record("layer", 2, lr=0.5)
    run.norm = "layer (gain 1.0)"
    assert (run.value_of("norm"), run.value_of("optimizer.lr")) == ("layer (gain 1.0)", 0.5)
    assert (run.kind, run.seed) == ("layer", 2)


def test_the_entries_of_one_probe_are_found_by_their_class() -> None:
    line = {"probe": "invariance", "transformation": "x", "claimed": True, "change": 1.0}
    run = record(probes=[line])
    assert [entry.transformation for entry in run.probed(Invariance)] == ["x"]
    assert run.probed(LengthBucket) == []


def test_the_test_text_is_identified_by_its_checksum() -> None:
    run = record(results={"test": {"reference_sha256": "a"}})
    assert run.scored_by["on another test set"] == "a"
    present(run.results).test = None
    assert run.scored_by["on another test set"] is None
