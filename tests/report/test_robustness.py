"""The range of learning rates, initial weights and depths in which a norm trains well."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from experiment_runs import robustness
from synthetic import group, record

from seq2seq.config import ModelConfig
from seq2seq.report.experiments import charts, tables, verdicts
from seq2seq.report.experiments.ranges import guessing, loss_of, width
from seq2seq.report.experiments.robustness import cases, limits, own_widths
from seq2seq.report.groups import Group
from seq2seq.report.statistics import Outcome
from seq2seq.runs.records import RunRecord


def diverged(run: RunRecord) -> RunRecord:
    """Let a run be one that was stopped as its loss was not finite."""
    run.status, run.results, run.failure = "diverged", None, "diverged: update 3"
    return run


# -- the range of one run ---


@pytest.mark.parametrize(
    ("losses", "doublings"),
    [
        ({0.01: 1.0, 0.02: 1.0, 0.04: 1.0}, 2.0),  # all that was tried
        ({0.01: 9.0, 0.02: 1.0, 0.04: math.inf}, math.log(1.05) / math.log(9)),
        ({0.01: 1.05**2, 0.02: 1.0, 0.04: 1.05**4}, 1 / 2 + 1 / 4),  # a line of log(loss)
        (
            {0.01: 1.0, 0.02: 1.04, 0.04: 2.0, 0.08: 1.0},
            1 + math.log(1.05 / 1.04) / math.log(2 / 1.04),
        ),
        ({0.01: math.inf, 0.02: math.inf}, 0.0),
        ({0.01: 3.0}, 0.0),
    ],
)
def test_the_range_of_good_rates(losses: dict[float, float], doublings: float) -> None:
    assert width(losses, 1.05 * min(losses.values())) == pytest.approx(doublings)


def test_a_run_that_guesses_or_was_stopped_has_not_learnt() -> None:
    run = record(experiment="robustness")
    assert loss_of(run) == 1.0
    worst = guessing(run)
    assert worst == pytest.approx(math.log(run.config.tokenizer.vocab_size))
    for loss, expected in (
        (worst - 0.01, worst - 0.01),
        (worst + 0.01, math.inf),
        (math.nan, math.inf),
    ):
        assert loss_of(record(experiment="robustness", results={"valid_loss": loss})) == expected
    assert loss_of(diverged(run)) == math.inf


def test_the_range_below_a_limit() -> None:
    losses = {0.01: 4.0, 0.02: 2.0, 0.04: 2.0, 0.08: math.inf}
    assert width(losses, 4.0) == pytest.approx(2.0)
    assert width(losses, math.sqrt(8)) == pytest.approx(1.5)
    assert width(losses, 1.9) == 0.0


# -- all runs ---


def test_each_case_changes_one_setting() -> None:
    runs = list(robustness(1))
    runs += [
        without_clipping(run)
        for run in robustness(1)
        if (run.config.model.init_scale, run.config.model.encoder_layers) == (0.1, 1)
    ]
    names = [case.name for case in cases(group(runs))]
    assert names == [
        *("usual", "initial weights 0.01", "initial weights 1", "4 layers", "no clipping")
    ]
    both = record("none", 1, "robustness", model=ModelConfig(init_scale=1.0, encoder_layers=4))
    assert len(cases(group([*runs, both]))) == 5


def without_clipping(run: RunRecord) -> RunRecord:
    """Return the run with another setting."""
    run.config.optimizer = replace(run.config.optimizer, clip_norm=0.0)
    return run


def test_runs_that_diverged_count() -> None:
    """Layer norm's range ends where it diverges, however low its loss is beside."""
    runs = [
        diverged(run) if run.kind == "layer" and run.config.optimizer.lr != 0.01 else run
        for run in robustness(1)
    ]
    found = group(runs)
    assert found.left_out == []
    rates, scales, depths = verdicts(found)
    assert rates.outcome is Outcome.refuted
    assert (scales.outcome, depths.outcome) == (Outcome.supported, Outcome.supported)
    (table,) = tables(found)
    assert table.rows[1]["norm"] == "layer"
    assert table.rows[1]["usual"].endswith("; 30 of 33 did not learn")
    assert "learn" not in table.rows[0]["usual"]
    maps, curves = charts(found)
    assert math.isnan(maps.maps[0].rows["layer"][0.02])
    assert [line.x for line in curves.curves[0].lines if line.kind == "layer"] == [[0.01]]


def test_a_depth_at_which_all_rates_diverged_has_no_rise() -> None:
    runs = [
        diverged(run)
        if (run.kind, run.seed, run.config.model.encoder_layers) == ("none", 2, 4)
        else run
        for run in robustness(1)
    ]
    depths = verdicts(group(runs))[2]
    finding = next(f for f in depths.findings if f.decides)
    assert len(finding.differences) == 2
    assert all(map(math.isfinite, finding.differences))
    assert tables(group(runs))[0].rows[0]["4 layers"].endswith("; 11 of 33 did not learn")


def test_other_experiments_leave_diverged_runs_out() -> None:
    (left_out,) = group([record("none", 1), diverged(record("layer", 1))]).left_out
    assert left_out.left_out == "failed: diverged: update 3"


def test_a_loss_is_good_beside_the_best_of_all_norms() -> None:
    by_norm = {"none": {1: {0.1: 2.0}, 2: {0.1: 5.0}}, "layer": {1: {0.1: 3.0, 0.2: 1.0}}}
    for found in (limits(by_norm), limits(dict(reversed(by_norm.items())))):
        assert found == pytest.approx({1: 1.1, 2: 5.5})


def with_losses(losses: Mapping[float, Sequence[float]]) -> Group:
    """Return runs of two norms with these losses by learning rate, one for each seed."""
    return group(
        record(norm, seed, "robustness", lr=rate, results={"valid_loss": loss})
        for norm in ("none", "layer")
        for rate, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds, start=1)
    )


def test_a_loss_is_good_beside_the_norms_own_best_within_five_per_cent() -> None:
    found = with_losses({0.01: [1.0, 2.0], 0.02: [1.05**2, 2.0 * 1.05**4]})
    assert own_widths(found, "layer", cases(found)[0]) == pytest.approx({1: 1 / 2, 2: 1 / 4})


def test_the_map_has_the_geometric_mean_over_seeds() -> None:
    drawn = charts(with_losses({0.01: [1.0, 1.0], 0.02: [1.0, 4.0]}))[0].maps[0]
    assert drawn.rows["layer"] == pytest.approx({0.01: 0.0, 0.02: 1.0})


def test_what_has_not_learnt_has_no_range_of_good_rates() -> None:
    """Without a norm the loss is twice as high at every rate: near its own best, but not good."""
    runs = list(robustness(1))
    for run in runs:
        assert run.results
        run.results = replace(run.results, valid_loss=2.0 if run.kind == "none" else 1.0)
    found = group(runs)
    good, own, losses, *_ = verdicts(found)[0].findings
    assert (good.decides, own.decides, losses.decides) == (True, False, False)
    assert good.statement == "usual: layer has a wider range of good learning rates than none"
    assert good.differences == pytest.approx([10.0] * 3)
    assert own.differences == [0.0] * 3
    assert losses.differences == [-1.0] * 3
    none, layer, _ = tables(found)[0].rows
    assert (none["usual"], layer["usual"]) == ("2, ×1 (×1.02e+03)", "1, ×1.02e+03 (×1.02e+03)")


def test_the_map_is_relative_to_the_best_of_all_norms() -> None:
    drawn = charts(group(robustness(1)))[0].maps[0]
    assert min(min(row.values()) for row in drawn.rows.values()) == 0.0
    rate = 0.01 * 2.0**5
    none, layer = (1 + pace * 5.25 for pace in (0.04, 0.02))
    assert drawn.rows["none"][rate] - drawn.rows["layer"][rate] == pytest.approx(
        math.log2(none / layer)
    )


def test_best_losses_are_reported_beside_the_ranges() -> None:
    findings = verdicts(group(robustness(1)))[0].findings
    found = {f.statement: f for f in findings if "has a lower loss" in f.statement}
    usual = found["usual: layer has a lower loss than none, each at its best learning rate"]
    assert usual.differences == pytest.approx([-0.02 / 4] * 3)
    assert (usual.decides, usual.outcome) == (False, Outcome.supported)
    assert len(found) == 2 * len(cases(group(robustness(1))))


def test_what_is_missing_is_named() -> None:
    runs = [run for run in robustness(1) if run.config.model.init_scale == 0.1]
    assert verdicts(group(runs))[1].missing == "needs runs with several model.init_scale"
    runs = [run for run in robustness(1) if run.config.model.encoder_layers == 1]
    assert verdicts(group(runs))[2].missing == "needs runs with several model.encoder_layers"


def test_a_rate_that_one_norm_lacks_counts_for_none() -> None:
    """Runs that have not finished make no range narrower, and no best loss worse."""
    every = list(robustness(0))
    fewer = [r for r in every if (r.kind, r.config.optimizer.lr) != ("layer", 0.01)]
    without = [r for r in every if r.config.optimizer.lr != 0.01]
    assert verdicts(group(fewer)) == verdicts(group(without))
    assert verdicts(group(fewer)) != verdicts(group(every))
    assert tables(group(fewer))[0].rows[0] == tables(group(without))[0].rows[0]


def test_a_seed_that_one_norm_lacks_counts_for_the_others() -> None:
    runs = [r for r in robustness(1) if (r.kind, r.seed) != ("rms", 2)]
    found = [v for v in verdicts(group(runs)) if v.findings]
    of_layer = [f for v in found for f in v.findings if f.decides]
    assert {len(f.differences) for f in of_layer} == {3}


def test_guessing_knows_the_vocabulary_of_the_run() -> None:
    run = record(experiment="robustness", results={"target_pieces": 655, "valid_loss": 6.5})
    assert guessing(run) == pytest.approx(math.log(655))
    assert loss_of(run) == math.inf


def test_a_rate_of_0_is_in_no_range() -> None:
    still = [
        record(norm, seed, "robustness", lr=0.0, model=ModelConfig(), results={"valid_loss": 6.0})
        for norm in ("none", "layer", "rms")
        for seed in (1, 2, 3)
    ]
    runs = list(robustness(1))
    assert verdicts(group([*runs, *still])) == verdicts(group(runs))
