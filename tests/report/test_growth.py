"""The map of sums and gradients: growth by cell and spectral radius, and what is said of it."""

import math
from collections.abc import Iterator

import pytest
from experiment_runs import flow_lines
from synthetic import SEEDS, group, record
from typed import present

from seq2seq.config import CellConfig, CellKind, ModelConfig, Nonlinearity
from seq2seq.report.charts import HeatMap
from seq2seq.report.experiments import charts, tables, verdicts
from seq2seq.report.experiments.growth import (
    AFTER,
    BEFORE,
    growth,
    leaves_float32,
    part_left,
    per_step,
    slope,
    stretch,
)
from seq2seq.report.statistics import Outcome
from seq2seq.runs.records import RunRecord

NORMS = "none", "layer"
NOISE = {1: 0.001, 2: -0.002, 3: 0.0015}


def run(norm: str, seed: int, radius: float | None, sums: float, gradients: float) -> RunRecord:
    """Return a run of the plain cell with relu whose sizes double this often at each step."""
    lines = list(flow_lines(sums + NOISE[seed], gradients + NOISE[seed]))
    for line in lines:
        line["singular_value"] = 2 * (radius or 1)
    found = record(norm, seed, "gradient_flow", probes=lines)
    found.config.cell = CellConfig(CellKind.rnn, Nonlinearity.relu)
    found.config.model = ModelConfig(spectral_radius=radius)
    return found


def explodes_above_1() -> Iterator[RunRecord]:
    """Without a norm sums explode above a radius of 1, and gradients vanish below it."""
    for seed in SEEDS:
        for radius in (0.25, 1.0, 4.0):
            yield run(
                "none", seed, radius, max(0, math.log2(radius)), min(0, math.log2(radius)) + 0.0
            )
            yield run("layer", seed, radius, 0.0, 0.0)


def test_a_claim_that_holds_in_one_regime_only_depends_on_it() -> None:
    sums, gradients, gain = verdicts(group(explodes_above_1()))
    for verdict, above in ((sums, Outcome.supported), (gradients, Outcome.refuted)):
        assert verdict.outcome is Outcome.depends
        found = {f.statement.split(", ")[1]: f.outcome for f in verdict.findings if f.decides}
        below = Outcome.refuted if above is Outcome.supported else Outcome.supported
        assert found == {
            "radius below 1": below,
            "radius 1": Outcome.refuted,
            "radius above 1": above,
        }
    assert sums.claim.startswith("rnn_relu: without a norm the summed inputs grow or shrink")
    assert gain.missing == "needs runs with norm=batch_gain_01 and norm=batch_gain_1"


def test_sums_that_halve_count_like_sums_that_double() -> None:
    for pace in (-0.5, 0.5):
        slow = (run(norm, s, 1.0, pace * (norm == "none"), 0.0) for norm in NORMS for s in SEEDS)
        sums, *_ = verdicts(group(slow))
        assert sums.outcome is Outcome.supported


def test_maps_show_the_factor_a_step_and_where_the_largest_singular_value_is_1() -> None:
    found = {chart.name: chart for chart in charts(group(explodes_above_1()))}
    (sums,) = found["map_of_summed_inputs_at_initialisation"].maps
    assert isinstance(sums, HeatMap)
    assert sums.title == "rnn_relu"
    assert sums.rows["none"] == pytest.approx({0.25: 0, 1.0: 0, 4.0: 2}, abs=0.01)
    assert sums.rows["layer"] == pytest.approx({0.25: 0, 1.0: 0, 4.0: 0}, abs=0.01)
    assert sums.marks == {"largest singular value 1": pytest.approx(0.5)}
    (gradients,) = found["map_of_gradients_after_training"].maps
    assert gradients.rows["none"] == pytest.approx({0.25: -2, 1.0: 0, 4.0: 0}, abs=0.01)
    assert "spectral radius of 1 at the start" in found["sums_by_step"].caption


def test_runs_that_set_no_radius_have_no_map_and_one_regime() -> None:
    runs = group(run(norm, seed, None, 0.1, 0.1) for norm in ("none", "layer") for seed in SEEDS)
    assert not [chart for chart in charts(runs) if chart.maps]
    sums, *_ = verdicts(runs)
    assert {f.statement.split(", ")[1] for f in sums.findings} == {"initial scale"}


def test_sizes_beyond_float32_are_counted() -> None:
    runs = [
        run(norm, s, r, 4.0 if r > 1 and norm == "none" else 0.0, -4.0 if r < 1 else 0.0)
        for norm in ("none", "layer")
        for s in SEEDS
        for r in (0.5, 2.0)
    ]
    (table,) = tables(group(runs))
    assert table.rows == [
        {
            "cell, norm": "rnn_relu, none",
            "radius 0.5": "gradients: 3 of 3",
            "radius 2": "summed inputs: 3 of 3",
        },
        {"cell, norm": "rnn_relu, layer", "radius 0.5": "gradients: 3 of 3", "radius 2": "–"},
    ]
    assert tables(group(explodes_above_1())) == []


# -- growth of one run ---


def test_gradients_are_followed_backwards() -> None:
    one = run("none", 1, 1.0, 0.5, -0.25)
    assert present(per_step("raw", BEFORE)(one)) == pytest.approx(0.5 + NOISE[1])
    assert present(per_step("gradient", BEFORE)(one)) == pytest.approx(-0.25 + NOISE[1])


def test_after_training_is_at_the_last_update() -> None:
    lines = [*flow_lines(0.25, 0.0), *flow_lines(0.5, 0.0)]
    for line, update in zip(lines, (0, 0, 50, 50, 0, 0, 100, 100), strict=True):
        line["update"] = update
    one = record(experiment="gradient_flow", probes=[*lines[:4], *lines[6:]])
    assert present(per_step("raw", AFTER)(one)) == pytest.approx(0.5)
    assert present(per_step("raw", BEFORE)(one)) == pytest.approx(0.25)


def test_what_is_left_of_the_gradient_is_the_first_steps_over_the_last() -> None:
    one = run("none", 1, 1.0, 0.0, -0.25 - NOISE[1])
    lengths, left = part_left(one, AFTER)
    assert lengths == [10, 50]
    assert left == pytest.approx([2 ** (-0.25 * 9), 2 ** (-0.25 * 49)])


def test_a_run_that_was_never_trained_has_no_growth_after_training() -> None:
    one = run("none", 1, 1.0, 0.5, 0.5)
    one.probes[:] = [probe for probe in one.probes if probe.update == 0]
    assert growth("raw", AFTER)(one) is None
    assert growth("raw", BEFORE)(one) is not None


def test_sizes_that_a_double_cannot_hold_are_left_out_of_the_slope() -> None:
    assert slope([0, 1, 2, 3], [1.0, 2.0, 4.0, math.inf]) == pytest.approx(200)
    assert slope([0, 1, 2, 3], [0.0, 1.0, 2.0, 4.0]) == pytest.approx(200)
    assert slope([0, 1], [0.0, 1.0]) > 200 * 1000
    assert math.isnan(slope([0, 1], [math.nan, 1.0]))


def test_float32_holds_zero_sums_and_no_vanished_gradients() -> None:
    one = run("none", 1, 1.0, 0.0, 0.0)
    for probe in one.probes:
        probe.__dict__ |= {"raw": [0.0] * 5, "gradient": [0.0] * 5}
    assert leaves_float32("raw", BEFORE)(one) == 0.0
    assert leaves_float32("gradient", BEFORE)(one) == 1.0
    assert leaves_float32("raw", BEFORE)(record(experiment="gradient_flow")) is None


def test_without_a_radius_nothing_is_known_of_the_stretch() -> None:
    assert stretch(run("none", 1, None, 0.0, 0.0)) is None
    assert stretch(run("none", 1, 0.5, 0.0, 0.0)) == pytest.approx(2.0)
