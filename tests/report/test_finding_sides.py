"""Which side of a finding is which: values that tell one norm, bucket or set from another."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from experiment_runs import length_lines
from synthetic import SEEDS, group, record

from seq2seq.report.experiments import charts, verdicts
from seq2seq.report.experiments.growth import (
    AFTER,
    BEFORE,
    SPAN,
    by_update,
    first_rise,
    leaves_float32,
)
from seq2seq.report.experiments.length import gained_loss
from seq2seq.report.experiments.ranges import width
from seq2seq.report.statistics import Outcome
from seq2seq.runs.records import RunRecord


def long_sentences() -> Iterator[RunRecord]:
    """Yield runs whose losses beyond the trained length are 1.5, 2.5 and 1.6; within it 1."""
    for seed in SEEDS:
        for norm, beyond in (("none", 1.5), ("batch", 2.5), ("layer", 1.6)):
            lines = length_lines(1.0, beyond)
            if norm == "batch":
                lines = length_lines(1.0, 1.75, statistics="batch") + lines
            yield record(norm, seed, "length", probes=lines)


def test_each_finding_about_long_sentences_compares_what_it_says() -> None:
    by_loss, by_bleu = verdicts(group(long_sentences()))
    found = {f.statement.removeprefix("on longer sentences "): f for f in by_loss.findings}
    assert {text: f.differences[0] for text, f in found.items()} == pytest.approx(
        {
            "batch loses more than none": 1.0,
            "layer's extra loss, compared with none, is less than half of batch's": 0.1 - 0.5,
            "batch, with each batch's own statistics, loses more than none": 0.25,
            "layer loses less than none": 0.1,
            "batch has a lower loss than none": 1.0,
            "layer has a lower loss than none": 0.1,
        }
    )
    half = "layer's extra loss, compared with none, is less than half of batch's"
    assert found[half].given is found["batch loses more than none"]
    found = {f.statement.removeprefix("on longer sentences "): f for f in by_bleu.findings}
    better = found["batch has a higher BLEU than none"]
    assert better.differences == pytest.approx([25.0 - 35.0] * 3)
    assert better.outcome is Outcome.refuted
    assert found["layer loses less than none"].differences == pytest.approx([100 / 40] * 3)


def test_a_claim_about_half_a_loss_is_given_the_loss_of_the_usual_batch_norm() -> None:
    other = [
        record(
            "batch",
            seed,
            "length",
            probes=length_lines(1.0, 9.0),
            norm_settings={"momentum": 0.25},
        )
        for seed in SEEDS
    ]
    findings = verdicts(group([*long_sentences(), *other]))[0].findings
    [half] = [f for f in findings if "less than half" in f.statement]
    assert half.given is findings[0]
    assert findings[0].differences == pytest.approx([1.0] * 3)


def test_the_chart_of_lengths_tells_own_statistics_from_running_ones() -> None:
    loss = charts(group(long_sentences()))[0].curves[1]
    lines = {line.label: line.y for line in loss.lines}
    assert lines["batch"] == pytest.approx([1.0, 1.0, 2.5, 2.5])
    assert lines["batch, own statistics"] == pytest.approx([1.0, 1.0, 1.75, 1.75])


def test_a_bucket_that_ends_with_the_trained_length_is_within_it() -> None:
    lines = length_lines(1.0, 2.5)
    lines[1]["nll"] = 1.25  # it ends at 20 pieces, the longest in training
    assert gained_loss(record(probes=lines)) == pytest.approx(1.25)


def test_what_has_to_be_learnt_is_learnt_in_large_batches() -> None:
    """In small ones every norm may fail: that is what is asked."""
    runs = [
        record(norm, seed, "batch_size", batch=size, results={"test": {"bleu": bleu}})
        for norm in ("none", "batch", "layer")
        for seed in SEEDS
        for size, bleu in ((4, 5.0), (64, 30.0))
    ]
    (verdict,) = verdicts(group(runs))
    assert verdict.missing == ""
    for run in runs:
        assert run.results is not None
        assert run.results.test is not None
        run.results.test.bleu = 35.0 - run.results.test.bleu
    (verdict,) = verdicts(group(runs))
    assert verdict.missing.startswith("needs longer training: at 64 sentences a batch")


def gap_runs(layer: tuple[float, ...]) -> Iterator[RunRecord]:
    """Yield runs whose losses in both modes differ by 0.25 with batch norm, and so with layer."""
    for norm, gaps in (("batch", (0.25,) * 3), ("layer", layer)):
        for seed, gap in zip(SEEDS, gaps, strict=True):
            lines: list[dict[str, Any]] = [
                {"set": name, "training": 2.5, "batch": 2.0, "evaluation": 2.0 + gap}
                for name in ("train", "test")
            ]
            lines += [
                {
                    "set": name,
                    "term": "encoder.layers.0.hh_l0",
                    "steps": [0, 1],
                    "rows": [9, 9],
                    "mean_shift": [shift, shift],
                    "log_scale": [0.0, 0.0],
                }
                for name, shift in (("train", 0.25), ("test", 0.5))
                if norm == "batch"
            ]
            found = [{"probe": "train_eval_gap", **line} for line in lines]
            yield record(norm, seed, "train_eval_gap", probes=found)


def test_one_seed_with_two_losses_refutes_that_layer_norm_has_one() -> None:
    same = verdicts(group(gap_runs((0.0, 0.0, 5e-7))))[0].findings[1]
    assert (same.statement, same.exact) == ("layer has the same loss in both", Outcome.supported)
    apart = verdicts(group(gap_runs((0.0, 1e-4, 0.0))))[0].findings[1]
    assert (apart.exact, apart.detail) == (
        Outcome.refuted,
        "largest difference 0.0001 nats/token",
    )


def test_the_distances_of_each_set_have_a_line_of_their_own() -> None:
    means = charts(group(gap_runs((0.0, 0.0, 0.0))))[1].curves[0]
    lines = {line.label: list(line.y) for line in means.lines}
    assert lines == {"batch on train": [0.25, 0.25], "batch on test": [0.5, 0.5]}


@pytest.mark.parametrize(("change", "expected"), [(1e-6, "supported"), (2e-6, "refuted")])
def test_an_output_is_left_alone_where_nothing_but_rounding_changes_it(
    change: float, expected: str
) -> None:
    line = {"probe": "invariance", "transformation": "matrix re-scaling", "claimed": True}
    changes = {1: 1e-9, 2: change, 3: 1e-8}
    found = group(
        record("layer", seed, "invariance", probes=[{**line, "change": changes[seed]}])
        for seed in SEEDS
    )
    assert verdicts(found)[0].findings[0].outcome.value == expected
    assert list(charts(found)[0].curves[0].lines[0].y) == [change]  # the largest of all seeds


# -- growth of one run ---


def flow(length: int, update: int = 0, pace: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return a line of a gradient probe whose sums double so often at each step."""
    sums = [2.0 ** (pace * t) for t in range(length)]
    sizes = {"raw": [1.0, *sums], "gradient": [1.0] * length}
    return {"probe": "gradient_flow", "update": update, "length": length, **sizes, **more}


def test_the_first_rise_is_that_of_the_first_steps_alone() -> None:
    risen = [1.0, 4.0, *np.geomspace(4.0, 64.0, SPAN).tolist(), *[1.0] * 50]
    assert first_rise(BEFORE)(record(probes=[flow(SPAN + 51, raw=risen)])) == pytest.approx(4.0)
    assert first_rise(BEFORE)(record(probes=[flow(SPAN, raw=risen[: SPAN + 1])])) is None
    assert first_rise(AFTER)(record(probes=[flow(SPAN + 51, raw=risen)])) is None


def test_growth_by_update_is_that_of_the_longest_sequences() -> None:
    probes = [flow(n, update, pace) for n, pace in ((50, 0.5), (10, 2.0)) for update in (0, 10)]
    updates, sizes = by_update(record(probes=probes), "raw")
    assert updates == [0, 10]
    assert sizes == pytest.approx([0.5 * SPAN] * 2)


@pytest.mark.parametrize(("least", "leaves"), [(1e-40, 1.0), (2e-38, 0.0)])
def test_a_gradient_that_float32_holds_in_part_has_left_it(least: float, leaves: float) -> None:
    one = record(probes=[flow(3, gradient=[least, 1.0, 1.0])])
    assert leaves_float32("gradient", BEFORE)(one) == leaves
    assert leaves_float32("raw", BEFORE)(one) == 0.0


def test_a_best_loss_at_the_limit_has_a_range() -> None:
    assert width({1.0: 2.0, 2.0: 2.0, 4.0: 3.0}, 2.0) == pytest.approx(1.0)
    assert width({1.0: 2.0, 2.0: math.inf}, 1.9) == 0.0
