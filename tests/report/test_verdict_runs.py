"""The runs that verdicts are based on."""

import math
from dataclasses import replace
from typing import Any

import pytest
from experiment_runs import (
    BUILDERS,
    NOISY,
    batch_size,
    convergence,
    gradient_flow,
    invariance,
    length_lines,
    train_eval_gap,
)
from synthetic import SEEDS, group, record
from typed import present

from seq2seq.report.experiments import EXPERIMENTS, Verdict, charts, tables, verdicts
from seq2seq.report.experiments.train_eval_gap import shift
from seq2seq.report.statistics import Outcome
from seq2seq.rnn import Statistics
from seq2seq.runs.entries import Invariance, StatisticsDistance
from seq2seq.runs.records import RunRecord


def figures_of(verdict: Verdict) -> dict[str, tuple[Any, bool]]:
    """Return the mean of each finding's figures and whether it decides, by its statement."""
    return {f.statement: (pytest.approx(f.interval.mean), f.decides) for f in verdict.findings}


# -- which runs verdicts rest on ---


@pytest.mark.parametrize("name", sorted(NOISY - {"gradient_flow", "batch_norm"}))
def test_variants_of_a_norm_are_reported_and_the_plain_one_decides(name: str) -> None:
    variants = [
        record(
            "layer",
            run.config.seed,
            name,
            run.metrics,
            run.probes,
            results=present(run.results).as_json(),
            batch=run.config.data.batch_sentences,
            lr=run.config.optimizer.lr,
            norm_settings={"gain": 1.0},
        )
        for run in BUILDERS[name](-1)
        if run.config.norm.kind.value == "layer"
    ]
    found = group([*(plain(run) for run in BUILDERS[name](1)), *variants])
    assert found.variants("layer") == ["layer (gain 0.3)", "layer (gain 1.0)"]
    assert {verdict.outcome for verdict in verdicts(found)} == {Outcome.supported}


def plain(run: RunRecord) -> RunRecord:
    """Return the run with the gain of configs/norm."""
    gain = {"layer": 0.3, "batch": 0.1}.get(run.config.norm.kind.value)
    run.config = replace(run.config, norm=replace(run.config.norm, gain=gain))
    return run


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_batches_too_large_to_learn_from_leave_the_verdict_undecided(norm: str) -> None:
    runs = list(batch_size(1))
    for run in runs:
        if run.config.norm.kind.value == norm:
            results = present(run.results)
            results.test = replace(present(results.test), bleu=3.0)
    (verdict,) = verdicts(group(runs))
    assert verdict.outcome is Outcome.undecided
    assert f"at 64 sentences a batch {norm} ends with 3.0 BLEU" in verdict.missing


def test_each_batch_size_is_judged_at_its_best_rate() -> None:
    worse = [
        record(
            run.config.norm.kind.value,
            run.config.seed,
            "batch_size",
            batch=run.config.data.batch_sentences,
            lr=10.0,
            results={"valid_loss": 9.0},
        )
        for run in batch_size(1)
    ]
    assert verdicts(group([*batch_size(1), *worse])) == verdicts(group(batch_size(1)))


@pytest.mark.parametrize(("part", "expected"), [(0.7, Outcome.refuted), (0.3, Outcome.supported)])
def test_half_of_the_loss_of_batch_norm_is_the_bound(part: float, expected: Outcome) -> None:
    """Each norm's additional loss compared with none; the loss at the start is 1 for all."""

    def added_loss(norm: str) -> float:
        return {"none": 0.0, "batch": 1.0, "layer": part}[norm]

    by_length = [
        record(norm, seed, "length", probes=length_lines(1.0, 2.0 + added_loss(norm)))
        for norm in ("none", "batch", "layer")
        for seed in SEEDS
    ]
    by_size = [
        record(
            norm,
            seed,
            "batch_size",
            batch=size,
            lr=size / 1e4,
            results={"valid_loss": 1.0 + added_loss(norm) * (size == 4)},
        )
        for norm in ("none", "batch", "layer")
        for seed in SEEDS
        for size in (4, 64)
    ]
    for runs in (by_length, by_size):
        finding = next(
            f for f in verdicts(group(runs))[0].findings if "less than half" in f.statement
        )
        assert finding.interval.mean == pytest.approx(part - 0.5)
        assert finding.outcome is expected
        assert "halve" not in finding.in_words


@pytest.mark.parametrize("name", ["length", "batch_size"])
def test_a_bound_without_a_loss_to_halve_is_noted(name: str) -> None:
    finding = next(
        f for f in verdicts(group(BUILDERS[name](0)))[0].findings if "less than half" in f.statement
    )
    assert finding.in_words.endswith(
        "; claimed: below 0; it is not established that the other norm loses more at all"
    )


def test_figures_of_the_length_experiment() -> None:
    losses = {"none": (1.0, 2.0), "batch": (1.5, 3.5), "layer": (0.8, 1.2), "rms": (0.7, 1.5)}
    runs = [
        record(
            norm,
            seed,
            "length",
            probes=[
                *length_lines(*losses[norm]),
                *(length_lines(1.0, 1.9, statistics="batch") if norm == "batch" else ()),
            ],
        )
        for norm in losses
        for seed in SEEDS
    ]
    by_loss, by_bleu = verdicts(group(runs))
    lost = {norm: beyond - within for norm, (within, beyond) in losses.items()}
    assert figures_of(by_loss) == {
        "on longer sentences batch loses more than none": (lost["batch"] - lost["none"], True),
        "layer's extra loss, compared with none, is less than half of batch's": (
            lost["layer"] - lost["none"] - 0.5 * (lost["batch"] - lost["none"]),
            True,
        ),
        "on longer sentences batch, with each batch's own statistics, loses more than none": (
            0.9 - lost["none"],
            False,
        ),
        **{
            f"on longer sentences {norm} loses less than none": (lost[norm] - lost["none"], False)
            for norm in ("layer", "rms")
        },
        **{
            f"on longer sentences {norm} has a lower loss than none": (
                losses[norm][1] - losses["none"][1],
                False,
            )
            for norm in ("batch", "layer", "rms")
        },
    }
    part = {
        norm: 100 * (beyond - within) / (5 - within) for norm, (within, beyond) in losses.items()
    }
    found = figures_of(by_bleu)
    assert found["on longer sentences batch loses more than none"] == (
        part["batch"] - part["none"],
        True,
    )
    assert found["on longer sentences rms loses less than none"] == (
        part["rms"] - part["none"],
        False,
    )
    assert found["on longer sentences layer has a higher BLEU than none"] == (8.0, False)
    assert all(
        f.outcome is Outcome.supported
        for f in by_bleu.findings
        if "layer has a higher" in f.statement
    )


def test_own_statistics_have_separate_lines_and_the_longest_trained_length_is_marked() -> None:
    kinds = {"sequence_input": 1.0, "shared": 2.0}
    runs = [
        record(
            norm,
            seed,
            "length",
            norm_settings=own,
            probes=[
                *length_lines(1.0, 2.0),
                *(length_lines(nll, nll + 1, statistics="batch") if norm == "batch" else ()),
            ],
        )
        for seed in SEEDS
        for norm, own, nll in (
            ("none", {}, 0),
            *(("batch", {"statistics": Statistics[kind]}, nll) for kind, nll in kinds.items()),
        )
    ]
    (chart,) = charts(group(runs))
    loss = next(panel for panel in chart.curves if panel.title == "loss")
    assert {line.label: line.y[0] for line in loss.lines} == {
        "none": 1.0,
        "batch (per step)": 1.0,
        "batch (shared)": 1.0,
        "batch (per step), own statistics": 1.0,
        "batch (shared), own statistics": 2.0,
    }
    assert len({line.variant for line in loss.lines if line.kind == "batch"}) == 4
    assert loss.marks == {"longest in training": 20}
    assert "Own statistics" in chart.caption
    decide = [
        f.statement
        for verdict in verdicts(
            group(
                [
                    *runs,
                    *(
                        record("layer", seed, "length", probes=length_lines(1.0, 2.0))
                        for seed in SEEDS
                    ),
                ]
            )
        )
        for f in verdict.findings
        if f.decides and "than" in f.statement
    ]
    assert (
        decide
        == [
            "on longer sentences batch (per step) loses more than none",
            "layer's extra loss, compared with none, is less than half of batch (per step)'s",
        ]
        * 2
    )
    assert "statistics" not in charts(group([run for run in runs if run.norm == "none"]))[0].caption


def test_figures_of_the_batch_size_experiment() -> None:
    losses = {
        ("none", 4): 1.0,
        ("none", 64): 2.0,
        ("batch", 4): 3.0,
        ("batch", 64): 2.5,
        ("layer", 4): 0.9,
        ("layer", 64): 2.2,
    }
    runs = [
        record(
            norm,
            seed,
            "batch_size",
            batch=size,
            lr=size / 1e4,
            results={"valid_loss": loss, "update": 6400 // size},
        )
        for (norm, size), loss in losses.items()
        for seed in SEEDS
    ]
    (verdict,) = verdicts(group(runs))
    assert figures_of(verdict) == {
        "from 64 sentences a batch to 4, batch falls behind none": (1.5, True),
        "layer falls behind none by less than half as much as batch": (-0.3 - 0.75, True),
        "from 64 sentences a batch to 4, layer catches up with none": (-0.3, False),
        **{
            f"at {size} sentences a batch, {norm} ends with a lower loss than none": (
                losses[norm, size] - losses["none", size],
                False,
            )
            for norm in ("batch", "layer")
            for size in (4, 64)
        },
    }
    outcomes = {f.statement: f.outcome for f in verdict.findings}
    assert (
        outcomes["at 4 sentences a batch, layer ends with a lower loss than none"]
        is Outcome.supported
    )
    assert (
        outcomes["from 64 sentences a batch to 4, layer catches up with none"] is Outcome.supported
    )
    caption = charts(group(runs))[0].caption
    assert caption.endswith(
        "the fewer the updates: 1,600 of 4 sentences and 100 of 64 sentences. The learning rate "
        "goes from 0.0004 to 0.0064."
    )
    assert (
        "rate"
        not in charts(group(run for run in runs if run.config.data.batch_sentences == 4))[0].caption
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_without_comparable_runs_nothing_is_drawn(name: str) -> None:
    runs = list(BUILDERS[name](1))
    for run in runs:
        run.status, run.results = "unfinished", None
    found = charts(group(runs))
    assert not any(line.x for chart in found for panel in chart.curves for line in panel.lines)
    assert not any(row for chart in found for drawn in chart.maps for row in drawn.rows.values())


def test_a_term_without_steps_has_no_shift() -> None:
    runs = list(train_eval_gap(1))
    expected = verdicts(group(runs))
    for run in runs:
        run.probes.append(
            StatisticsDistance(
                set="test",
                term="encoder.layers.0.c_l0",
                steps=[],
                rows=[],
                mean_shift=[],
                log_scale=[],
            )
        )
    assert verdicts(group(runs)) == expected


def test_the_shift_of_a_term_is_the_mean_over_its_rows() -> None:
    line = {"probe": "train_eval_gap", "set": "test", "log_scale": [0.0, 0.0]}
    one = line | {"term": "encoder.layers.0.hh_l0", "steps": [0, 1]}
    other = one | {"term": "encoder.layers.0.c_l0", "rows": [1, 1], "mean_shift": [2.0, 2.0]}
    found = record("batch", probes=[one | {"rows": [9, 1], "mean_shift": [0.0, 1.0]}, other])
    assert shift(found, "test") == pytest.approx((0.1 + 2.0) / 2)
    assert shift(found, "train") is None


def test_a_missing_gap_leaves_the_verdict_undecided() -> None:
    runs = list(train_eval_gap(1))
    for run in runs:
        if run.config.norm.kind.value == "layer":
            run.__dict__["probes"] = []
    verdict = verdicts(group(runs))[0]
    assert verdict.outcome is Outcome.undecided
    assert [f.in_words for f in verdict.findings if f.statement.startswith("layer")] == [
        "no seed has both sides"
    ]


def test_a_nan_change_refutes_an_invariance() -> None:
    runs = list(invariance(1))
    (found,) = runs[1].probed(Invariance)
    found.change = math.nan
    other = replace(found, transformation="vector re-scaling", change=1e-9)
    runs[1].probes.insert(0, other)
    (verdict,) = verdicts(group(runs))
    assert verdict.outcome is Outcome.refuted
    assert "by at most nan times its size" in verdict.findings[1].detail


def test_measured_invariances_are_shown_in_the_papers_table() -> None:
    (table,) = tables(group(invariance(-1)))
    assert table.rows[0] == {
        "change": "matrix re-scaling: all weights times a number",
        "none": "changes (3)",
        "batch": "same (1e-09)",
        "layer": "same (0.5)",
        "rms": "same (1e-09)",
    }
    assert [set(row.values()) for row in table.rows[1:]] == [
        {row["change"], "–"} for row in table.rows[1:]
    ]
    assert tables(group([record(experiment="invariance")])) == tables(group(convergence(1))) == []


def test_the_verdict_on_gains_needs_the_tanh_network() -> None:
    runs = [run for run in gradient_flow(1) if run.config.cell.kind.value == "lstm"]
    verdict = verdicts(group(runs))[-1]
    assert (verdict.outcome, verdict.missing) == (Outcome.undecided, "needs runs with cell=rnn")


def test_without_a_test_set_the_validation_set_is_compared_and_named() -> None:
    runs = list(convergence(1))
    for run in runs:
        results = present(run.results)
        results.test = None
        results.valid = replace(results.valid, bleu=20.0 + run.config.seed)
    statements = [f.statement for f in verdicts(group(runs))[0].findings]
    assert "layer ends with a higher valid BLEU than none" in statements
