"""The figures that verdicts are based on."""

import math
import re
from typing import Any

import numpy as np
import pytest
from experiment_runs import convergence, flow_lines, length, length_lines
from synthetic import SEEDS, curve, group, record
from typed import present

from seq2seq.report.experiments import charts, verdicts
from seq2seq.report.experiments.convergence import reached
from seq2seq.report.experiments.growth import SPAN, growth
from seq2seq.report.experiments.length import gained_loss, lost_bleu
from seq2seq.report.statistics import Outcome
from seq2seq.runs.entries import LengthBucket
from seq2seq.runs.speed import MeasuredSpeed

# -- the figures that verdicts rest on ---


def test_bleu_and_time_to_loss_are_compared_seed_by_seed() -> None:
    runs = [
        record(norm, seed, metrics=curve(rate, floor=floor), results={"test": {"bleu": bleu}})
        for norm, rate, bleu in (("none", 0.05, 30.0), ("layer", 0.1, 41.0))
        for seed, floor in zip(SEEDS, (0.5, 0.6, 0.7), strict=True)
    ]
    runs += [
        record("layer", seed=4, metrics=curve(0.05, floor=3.0))
    ]  # no run without norm has this seed
    found = {f.statement: f.differences for f in verdicts(group(runs))[0].findings}
    assert found["layer ends with a higher test BLEU than none"] == [11.0] * 3
    none, layer = (group(runs).where({"norm": norm}) for norm in ("none", "layer"))
    lowest = [min(run.series("valid", "loss")[1]) for run in none]
    expected = [
        math.log2(present(reached(b, loss)) / present(reached(a, loss)))
        for a, b, loss in zip(none, layer, lowest, strict=False)
    ]
    assert found[
        "layer takes fewer updates than none to the same validation loss"
    ] == pytest.approx(expected)


@pytest.mark.parametrize("together", [True, False])
def test_times_are_compared_at_speeds_measured_together(together: bool) -> None:
    """By the clock layer norm took twice as long an update; side by side it takes 1.1 times."""
    runs = []
    for norm, clock, speed in (("none", 0.1, 110.0), ("layer", 0.2, 100.0)):
        for seed in SEEDS:
            run = record(norm, seed, metrics=curve(0.05, seconds_an_update=clock))
            run.__dict__["speed"] = MeasuredSpeed(
                tokens_per_second=speed,
                measurement="now" if together else norm,
                beside=2,
                rounds=5,
            )
            runs.append(run)
    found = {f.statement.split(" than")[0]: f for f in verdicts(group(runs))[0].findings}
    seconds = found["layer takes fewer seconds of training"]
    assert seconds.differences == pytest.approx([1.0] * 3)
    assert seconds.decides == (not together)
    names = [panel.title for panel in charts(group(runs))[0].curves]
    assert ("by seconds side by side" in names) == together
    if together:
        measured = found["layer takes fewer seconds at speeds measured side by side"]
        assert measured.differences == pytest.approx([math.log2(1.1)] * 3)
        assert measured.decides


def test_halfway_to_a_loss_is_on_a_logarithmic_scale() -> None:
    """The norm is twice as fast until then, and equally fast afterwards."""

    def falling(*losses: float) -> list[dict[str, Any]]:
        return [
            {"kind": "valid", "update": u, "seconds": u, "loss": loss}
            for u, loss in zip(range(0, 50, 10), losses, strict=True)
        ]

    runs = [
        record(norm, seed, metrics=falling(*losses))
        for seed in SEEDS
        for norm, losses in (
            ("none", (4.0, 3.0, 2.0, 1.5, 1.0)),
            ("layer", (9.0, 2.0, 1.6, 1.3, 1.0)),
        )
    ]
    found = {f.statement: 2**f.interval.mean for f in verdicts(group(runs))[0].findings}
    assert found[
        "layer takes fewer updates than none to the same validation loss"
    ] == pytest.approx(1)
    assert found["layer takes fewer updates than none to the loss halfway there"] == pytest.approx(
        0.5
    )


def test_time_to_loss_ends_at_the_lowest_loss_that_all_seeds_reach() -> None:
    found = group(
        record(norm, seed, metrics=curve(rate + 0.01 * seed))
        for seed in SEEDS
        for norm, rate in (("none", 0.01), ("layer", 0.05))
    )
    for line in (
        next(chart for chart in charts(found) if chart.name == "time_to_loss").curves[0].lines
    ):
        assert line.x[0] == max(
            min(run.series("valid", "loss")[1]) for run in found.where({"norm": line.label})
        )


def test_the_time_to_loss_chart_shows_the_speed_of_a_norm() -> None:
    found = group(list(convergence(1)))
    panel = next(chart for chart in charts(found) if chart.name == "time_to_loss").curves[0]
    none, layer = (
        next(line for line in panel.lines if line.label == norm) for norm in ("none", "layer")
    )
    first = max(run.series("valid", "loss")[1][0] for run in found.runs)
    for loss in (1.5, 1.0, 0.8):
        assert none.x[0] < loss < none.x[-1] <= first
        ratio = np.interp(loss, none.x, none.y) / np.interp(loss, layer.x, layer.y)
        assert ratio == pytest.approx(1.5, rel=0.05)


def test_each_norm_is_compared_at_its_best_rate() -> None:
    runs = [
        record(norm, seed, lr=lr, results={"valid_loss": loss + 0.01 * seed}, metrics=curve(lr))
        for seed in SEEDS
        for norm, lr, loss in (
            ("none", 0.01, 1.0),
            ("none", 0.02, 2.0),
            ("layer", 0.01, 2.0),
            ("layer", 0.02, 1.0),
        )
    ]
    found = group(runs)
    assert (found.best_rate({"norm": "none"}), found.best_rate({"norm": "layer"})) == (0.01, 0.02)
    best = [run for run in runs if (run.kind == "layer") == (run.config.optimizer.lr == 0.02)]
    compared = verdicts(found)
    assert compared == verdicts(group(best))
    assert compared != verdicts(group([run for run in runs if run not in best]))


def test_a_rate_without_results_for_all_seeds_is_not_the_best() -> None:
    runs = [
        record(seed=seed, lr=lr, results={"valid_loss": loss})
        for seed, lr, loss in ((1, 0.01, 2.0), (2, 0.01, 2.0), (2, 0.02, 1.0))
    ]
    assert group(runs).best_rate({"norm": "none"}) == 0.01


def test_the_update_of_a_loss_is_interpolated() -> None:
    run = record(
        metrics=[
            {"kind": "valid", "update": u, "seconds": 2.0 * u, "loss": loss}
            for u, loss in ((10, 4.0), (20, 2.0), (30, 3.0), (40, 1.0))
        ]
    )
    assert reached(run, 3.0) == 15
    assert reached(run, 3.0, "seconds") == 30
    assert reached(run, 5.0) == 10
    assert reached(run, 1.0) == 40
    assert reached(run, 0.5) is None


def test_a_rate_with_only_nan_losses_is_not_the_best() -> None:
    runs = [
        record(seed=seed, lr=lr, results={"valid_loss": loss})
        for seed in SEEDS
        for lr, loss in ((0.01, 2.0), (0.02, math.nan))
    ]
    assert group(runs).best_rate({"norm": "none"}) == 0.01
    assert (
        group(run for run in runs if run.config.optimizer.lr == 0.02).best_rate({"norm": "none"})
        == 0.02
    )


def test_a_nan_loss_makes_the_figure_of_its_run_nan() -> None:
    """Otherwise another bucket would be the longest, and the seed would measure something else."""
    for spoilt in (1, 2):
        lines = length_lines(1.0, 2.5)
        lines[spoilt]["nll"] = math.nan
        assert math.isnan(present(gained_loss(record(probes=lines))))
    runs = list(length(1))
    runs[0].probed(LengthBucket)[-1].nll = math.nan
    assert [len(f.differences) for f in verdicts(group(runs))[0].findings if f.decides] == [2, 2]
    assert charts(group(runs))


def test_scores_on_longer_sentences_are_reported_in_addition_to_losses() -> None:
    runs = list(length(1))
    for run in runs:
        if run.config.norm.kind.value == "batch":
            for line in run.probed(LengthBucket):
                line.nll, line.bleu = line.nll - 3, line.bleu + 30
    for verdict in verdicts(group(runs)):
        better = re.compile("on longer sentences batch has a (lower loss|higher BLEU) than none")
        finding = next(f for f in verdict.findings if better.fullmatch(f.statement))
        assert verdict.findings[0].statement == "on longer sentences batch loses more than none"
        assert (finding.outcome, finding.decides) == (Outcome.supported, False)


def test_the_loss_beyond_the_trained_length_is_measured() -> None:
    assert gained_loss(record(probes=length_lines(1.0, 2.5))) == pytest.approx(1.5)
    assert gained_loss(record(probes=length_lines(1.0, 2.5)[:2])) is None
    assert gained_loss(record(probes=length_lines(1.0, 2.5)), statistics="batch") is None
    assert lost_bleu(record(probes=length_lines(1.0, 2.5))) == pytest.approx(100 * (40 - 25) / 40)
    assert lost_bleu(record(probes=length_lines(5.0, 5.0))) is None  # there is no BLEU to lose


def test_a_bucket_across_the_trained_length_is_ignored() -> None:
    lines = length_lines(1.0, 2.5)
    straddling = [{**line, "trained": 25} for line in lines]  # within the bucket from 20 to 30
    assert gained_loss(record(probes=straddling)) == pytest.approx(1.5)
    straddling[2]["nll"] = 9.0
    assert gained_loss(record(probes=straddling)) == pytest.approx(1.5)


def test_growth_is_the_slope_at_the_longest_length() -> None:
    run = record(probes=list(flow_lines(-0.5, -0.125)))
    assert growth("raw", "at initialisation")(run) == pytest.approx(-0.5 * SPAN)
    assert growth("gradient", "after training")(run) == pytest.approx(0.125 * SPAN)
    exploded = record(
        probes=[
            {
                "probe": "gradient_flow",
                "update": 0,
                "length": 3,
                "raw": [1.0, 1.0, math.nan],
                "gradient": [1.0, 1.0, 1.0],
            }
        ]
    )
    assert math.isnan(present(growth("raw", "at initialisation")(exploded)))
    vanished = record(
        probes=[
            {
                "probe": "gradient_flow",
                "update": 0,
                "length": 3,
                "raw": [1, 1, 1],
                "gradient": [0.0, 0.0, 1.0],
            }
        ]
    )
    assert present(growth("gradient", "at initialisation")(vanished)) > 100 * SPAN
