"""Every experiment's verdict on runs whose effect is known: there, the other way round, and
absent.
"""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from synthetic import SEEDS, curve, group, record

from seq2seq.report.experiments import EXPERIMENTS, Finding, charts, statement, tables, verdicts
from seq2seq.report.experiments.convergence import reached
from seq2seq.report.experiments.gradient_flow import NOTICEABLE as NOTICEABLE_GROWTH
from seq2seq.report.experiments.gradient_flow import SPAN, growth
from seq2seq.report.experiments.length import gained_loss, lost_bleu
from seq2seq.report.experiments.train_eval_gap import NOTICEABLE
from seq2seq.report.statistics import Outcome, detectable_effect
from seq2seq.rnn.config import Statistics
from seq2seq.runs.entries import StatisticsDistance

NOISE = {1: -0.02, 2: 0.03, 3: -0.01}
"""Of each seed; it has no mean to speak of."""


def convergence(effect):
    """Layer norm learns 1.5 ** effect times as fast as none; with no effect, as fast but for
    noise.
    """
    for seed in SEEDS:
        for norm, power in (("none", 0), ("layer", effect), ("batch", effect / 2)):
            rate = 0.05 * 1.5 ** (
                power + (10 * NOISE[seed] if norm == "layer" and not effect else NOISE[seed])
            )
            yield record(norm, seed, "convergence", curve(rate))


def length_lines(within, beyond, **more):
    return [
        {
            "probe": "length",
            "over": over,
            "pieces": over + 10,
            "trained": 20,
            "statistics": "running",
            "nll": nll,
            "bleu": 50 - 10 * nll,
            "length_ratio": 1.0,
            **more,
        }
        for over, nll in ((0, within), (10, within), (20, beyond), (30, beyond))
    ]


def length(effect):
    """From within to beyond, none loses 0.5 nats, batch 0.5 + effect, layer a tenth more than
    none.
    """
    for seed in SEEDS:
        for norm, loss in (("none", 0.5), ("batch", 0.5 + effect), ("layer", 0.5 + 0.1 * effect)):
            noise = (20 if not effect and norm == "batch" else 1) * NOISE[seed] * (norm != "none")
            lines = length_lines(1.0, 1.0 + loss + noise)
            if norm == "batch":
                lines += length_lines(1.0, 1.5, statistics="batch")
            yield record(norm, seed, "length", probes=lines)


def batch_size(effect):
    """At 64 sentences all norms are as good; at 4 batch norm's loss is higher by the effect."""
    for seed in SEEDS:
        for norm in ("none", "batch", "layer"):
            for batch in (4, 16, 64, 256):
                worse = effect if norm == "batch" and batch == 4 else 0.0
                noise = (10 if not effect else 1) * NOISE[seed] * (norm == "batch" and batch == 4)
                yield record(
                    norm,
                    seed,
                    "batch_size",
                    batch=batch,
                    lr=batch / 1e4,
                    results={"valid_loss": 2.0 - 0.001 * batch + worse + noise},
                )


def train_eval_gap(effect):
    """Batch norm's losses are far apart (1), by chance above or below what is noticeable (0), or
    the same (-1).
    """
    apart, drift = {1: (-0.3, 0.2), 0: (NOTICEABLE, 0.0), -1: (0.0, -0.2)}[effect]
    for seed in SEEDS:
        for norm in ("none", "batch", "layer"):
            gap = (
                apart + (NOISE[seed] if effect >= 0 else 0.1 * NOISE[seed])
                if norm == "batch"
                else 0.0
            )
            lines = [
                {
                    "probe": "train_eval_gap",
                    "set": name,
                    "training": 2.1,
                    "batch": 2.0,
                    "evaluation": 2.0 + gap,
                }
                for name in ("train", "test", "test_long")
            ]
            if norm == "batch":
                lines += [
                    {
                        "probe": "train_eval_gap",
                        "set": name,
                        "term": "encoder.layers.0.hh_l0",
                        "steps": [0, 1],
                        "rows": [9, 9],
                        "mean_shift": [shift, shift],
                        "log_scale": [0, 0],
                    }
                    for name, shift in (
                        ("train", 0.3),
                        ("test", 0.3 + drift + NOISE[seed]),
                        ("test_long", 0.5),
                    )
                ]
            yield record(norm, seed, "train_eval_gap", probes=lines)


def flow_lines(sums, gradients, steps=50):
    for update in (0, 100):
        for T in (10, steps):
            yield {
                "probe": "gradient_flow",
                "update": update,
                "length": T,
                "raw": [1.0, *(2.0 ** (sums * t) for t in range(1, T))],
                "gradient": [2.0 ** (gradients * (T - 1 - t)) for t in range(T)],
            }


def gradient_flow(effect):
    """Without a norm, and with a gain of 1, sizes halve or double every 4 steps; with a norm, and
    0.1, they keep.

    The other way round for -1; for 0 by chance above or below what is noticeable.
    """
    none, layer = {1: (0.25, 0.0), -1: (0.0, 0.25), 0: (0.1 + NOTICEABLE_GROWTH / SPAN, 0.1)}[
        effect
    ]
    large, small = {1: (0.25, 0.0), -1: (0.0, 0.25), 0: (NOTICEABLE_GROWTH / SPAN, 0.0)}[effect]
    for cell in ("lstm", "rnn"):
        for seed in SEEDS:
            noise = 3 * NOISE[seed] if not effect else 0.0
            yield record(
                "none",
                seed,
                "gradient_flow",
                probes=flow_lines(none + noise, -none - noise),
                cell=cell,
            )
            yield record(
                "layer", seed, "gradient_flow", probes=flow_lines(layer, -layer), cell=cell
            )
            for gain, slope in ((0.1, small), (1.0, large)):
                lines = flow_lines(0.0, -slope - (noise if gain == 1 else 0))
                yield record(
                    "batch",
                    seed,
                    "gradient_flow",
                    probes=lines,
                    cell=cell,
                    norm_settings={"gain": gain},
                )


def invariance(effect):
    """As the table says (1), or with one line that isn't (-1)."""
    for seed in SEEDS:
        for norm in ("none", "batch", "layer", "rms"):
            claimed = norm != "none"
            found = 1e-9 if claimed else 3.0
            yield record(
                norm,
                seed,
                "invariance",
                probes=[
                    {
                        "probe": "invariance",
                        "transformation": "matrix re-scaling",
                        "claimed": claimed,
                        "change": 0.5 if effect < 0 and norm == "layer" and seed == 2 else found,
                    }
                ],
            )


BUILDERS = {
    f.__name__: f
    for f in (convergence, length, batch_size, train_eval_gap, gradient_flow, invariance)
}
OF_CHANCE = BUILDERS.keys() - {"invariance"}
"""Where a threshold is kept or not, chance has no part."""
EXPECTED = {1: Outcome.supported, -1: Outcome.refuted, 0: Outcome.undecided}


def told(verdict):
    """statement -> the mean of its figures and whether it decides."""
    return {f.statement: (pytest.approx(f.interval.mean), f.decides) for f in verdict.findings}


def test_every_experiment_is_tried_here():
    assert BUILDERS.keys() == EXPERIMENTS.keys()


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        (name, effect)
        for name in BUILDERS
        for effect in ([1, -1, 0] if name in OF_CHANCE else [1, -1])
    ],
)
def test_each_verdict_is_reached(name, effect):
    found = verdicts(group(BUILDERS[name](effect)))
    assert found
    for verdict in found:
        assert verdict.missing == ""
        assert verdict.outcome is EXPECTED[effect], [
            (f.statement, f.differences) for f in verdict.findings
        ]


@pytest.mark.parametrize(
    ("bound", "differences", "expected"),
    [
        ({"above": 1.0}, [1.9, 2.1, 2.0], Outcome.supported),
        ({"above": 1.0}, [0.4, 0.6, 0.5], Outcome.refuted),
        ({"above": 1.0}, [-1.9, 2.1, 2.0], Outcome.undecided),
        ({"below": 1.0}, [0.4, 0.6, 0.5], Outcome.supported),
        ({"below": 1.0}, [1.9, 2.1, 2.0], Outcome.refuted),
        ({"below": 0.0}, [0.1, 0.2, 0.15], Outcome.refuted),
    ],
)
def test_a_claim_may_name_a_bound_and_the_measured_figure_is_told_as_it_is(
    bound, differences, expected
):
    finding = Finding("it halves", "halvings", differences, **bound)
    assert finding.outcome is expected
    ((word, figure),) = bound.items()
    assert finding.in_words.startswith(f"{sum(differences) / 3:+.3g} halvings (")
    assert finding.in_words.endswith(f"); claimed: {word} {figure:g}")


def test_factors_are_told_as_factors():
    """Of times with a spread of a tenth around the half; what so many seeds would have shown is a
    factor too.
    """
    finding = Finding("it takes fewer", "none's updates", [-1.1, -1.0, -0.9], below=0.0, log2=True)
    assert finding.outcome is Outcome.supported
    assert finding.in_words == "0.5 times none's updates (0.421 to 0.594); claimed: below 1"
    assert finding.smallest == f"{2 ** -detectable_effect(finding.differences):.3g} times"
    assert (
        replace(finding, below=None).smallest
        == f"{2 ** detectable_effect(finding.differences):.3g} times"
    )
    assert replace(finding, differences=[-1.0]).smallest == "–"


def test_of_seeds_that_differ_the_worst_is_told():
    changes = {
        "matrix re-scaling": (True, (1e-9, 3e-8, 2e-9)),
        "data re-scaling": (False, (0.5, 0.2, 0.9)),
        "vector re-scaling": (True, (1e-9, 1e-9, 1e-9)),
        "case re-scaling": (False, (4.0, 4.0, 4.0)),
    }
    runs = group(
        record(
            "layer",
            seed,
            "invariance",
            probes=[
                {
                    "probe": "invariance",
                    "transformation": name,
                    "claimed": claimed,
                    "change": found[seed - 1],
                }
                for name, (claimed, found) in changes.items()
            ],
        )
        for seed in SEEDS
    )
    (finding,) = verdicts(runs)[0].findings
    assert finding.detail.split("; ") == [
        "the 2 that should leave the output alone change it by at most 3e-08 times its size",
        "the 2 that should change the output do so by at least 0.2 times its size",
    ]
    rows = {row["change"].partition(":")[0]: row["layer"] for row in tables(runs)[0].rows}
    assert (rows["matrix re-scaling"], rows["data re-scaling"]) == ("same (3e-08)", "changes (0.2)")


def test_which_statistics_are_the_worse_ones():
    finding = next(
        f
        for f in verdicts(group(train_eval_gap(1)))[0].findings
        if "the higher loss" in f.statement
    )
    assert (finding.interval.mean, finding.outcome) == (pytest.approx(-0.3), Outcome.refuted)
    apart = verdicts(group(train_eval_gap(1)))[0].findings[0]
    assert apart.in_words.endswith("; claimed: above 0.01; the stored ones are better")


def test_what_is_not_as_the_table_says_is_named():
    (verdict,) = verdicts(group(invariance(-1)))
    assert [
        (f.statement[:5], f.outcome, "not as the table says: matrix re-scaling" in f.detail)
        for f in verdict.findings
    ] == [
        ("none:", Outcome.supported, False),
        ("batch", Outcome.supported, False),
        ("layer", Outcome.refuted, True),
        ("rms: ", Outcome.supported, False),
    ]


def test_a_norm_without_probes_supports_no_invariance():
    runs = list(invariance(1))
    for run in runs:
        if run.config.norm.kind.value == "layer":
            run.__dict__["probes"] = []
    (verdict,) = verdicts(group(runs))
    assert (verdict.outcome, verdict.missing) == (Outcome.undecided, "")
    (verdict,) = verdicts(
        group([run for run in invariance(1) if run.config.norm.kind.value == "none"])
    )
    assert (verdict.outcome, verdict.missing) == (
        Outcome.undecided,
        "needs runs with norm=batch and norm=layer and norm=rms",
    )


def test_one_cell_alone_supports_nothing_about_both_and_may_refute():
    for effect, expected in ((1, Outcome.undecided), (-1, Outcome.refuted)):
        runs = [run for run in gradient_flow(effect) if run.config.cell.kind.value == "lstm"]
        for verdict in verdicts(group(runs))[:2]:
            assert (verdict.outcome, verdict.missing) == (expected, "needs runs with cell=rnn")


def test_without_both_gains_it_is_said_what_their_verdict_needs():
    runs = [run for run in gradient_flow(1) if run.config.norm.gain != 1.0]
    assert verdicts(group(runs))[-1].missing == "needs runs with norm=batch and norm=batch_gain_1"


def test_sizes_of_batch_that_one_norm_lacks_are_named():
    runs = [
        run
        for run in batch_size(1)
        if (run.config.norm.kind.value, run.config.data.batch_sentences) != ("none", 64)
    ]
    (verdict,) = verdicts(group(runs))
    assert verdict.missing == "needs runs with norm=none data.batch_sentences=64"


@pytest.mark.parametrize("effect", [1, -1])
@pytest.mark.parametrize("name", sorted(OF_CHANCE))
def test_one_seed_never_decides(name, effect):
    runs = [run for run in BUILDERS[name](effect) if run.config.seed == 1]
    assert {v.outcome for v in verdicts(group(runs))} == {Outcome.undecided}


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_missing_is_named(name):
    runs = [run for run in BUILDERS[name](1) if run.config.norm.kind.value != "layer"]
    verdict = verdicts(group(runs))[0]
    assert verdict.outcome is Outcome.undecided
    assert "norm=layer" in verdict.missing


@pytest.mark.parametrize("name", BUILDERS)
def test_every_chart_has_lines_units_and_every_norm(name):
    runs = group(BUILDERS[name](1))
    found = charts(runs)
    assert len({chart.name for chart in found}) == len(found) > 0
    for chart in found:
        assert chart.caption
        for panel in chart.panels:
            assert panel.x_label
            assert panel.y_label
            assert panel.lines
            for line in panel.lines:
                assert len(line.x) == len(line.y) > 0
                assert all(map(math.isfinite, line.y))
        shown = {line.kind for panel in chart.panels for line in panel.lines}
        with_statistics = chart.name in ("means_by_step", "deviations_by_step")
        assert shown == (
            {"batch"} if with_statistics else {run.config.norm.kind.value for run in runs.runs}
        )


@pytest.mark.parametrize("name", BUILDERS)
def test_the_statement_is_the_files_own(name):
    found = statement(name)
    assert found.claim.endswith(".")
    assert "20" in found.source  # a year
    assert len(found.refuted_if) > 20
    assert not any(
        "#" in part or "\n" in part for part in (found.claim, found.source, found.refuted_if)
    )


# -- which runs verdicts rest on ---


@pytest.mark.parametrize("name", sorted(OF_CHANCE - {"gradient_flow"}))
def test_a_variant_of_a_norm_is_told_and_the_plain_one_decides(name):
    variants = [
        record(
            "layer",
            run.config.seed,
            name,
            run.metrics,
            run.probes,
            results=run.results.as_json(),
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


def plain(run):
    """With the gain of configs/norm."""
    gain = {"layer": 0.3, "batch": 0.1}.get(run.config.norm.kind.value)
    run.config = replace(run.config, norm=replace(run.config.norm, gain=gain))
    return run


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_nothing_is_lost_on_batches_too_large_to_learn_from(norm):
    runs = list(batch_size(1))
    for run in runs:
        if run.config.norm.kind.value == norm:
            run.results.test = replace(run.results.test, bleu=3.0)
    (verdict,) = verdicts(group(runs))
    assert verdict.outcome is Outcome.undecided
    assert f"at 64 sentences a batch {norm} ends with 3.0 BLEU" in verdict.missing


def test_each_size_of_batch_is_judged_at_its_best_rate():
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
def test_half_of_what_batch_norm_loses_is_the_bound(part, expected):
    """Of what each loses more than none, by a loss within the trained lengths or in the large
    batches of 1.
    """

    def more(norm):
        return {"none": 0.0, "batch": 1.0, "layer": part}[norm]

    by_length = [
        record(norm, seed, "length", probes=length_lines(1.0, 2.0 + more(norm)))
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
            results={"valid_loss": 1.0 + more(norm) * (size == 4)},
        )
        for norm in ("none", "batch", "layer")
        for seed in SEEDS
        for size in (4, 64)
    ]
    for runs in (by_length, by_size):
        finding = next(
            f for f in verdicts(group(runs))[0].findings if "less than half" in f.statement
        )
        assert (finding.interval.mean, finding.outcome) == (pytest.approx(part - 0.5), expected)
        assert "halve" not in finding.in_words


@pytest.mark.parametrize("name", ["length", "batch_size"])
def test_half_of_nothing_is_called_so(name):
    finding = next(
        f for f in verdicts(group(BUILDERS[name](0)))[0].findings if "less than half" in f.statement
    )
    assert finding.in_words.endswith(
        "; claimed: below 0; it is not shown that there is a loss to halve"
    )


def test_what_longer_sentences_do_figure_by_figure():
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
    assert told(by_loss) == {
        "on longer sentences batch loses more than none": (lost["batch"] - lost["none"], True),
        "what layer loses more than none is less than half of what batch does": (
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
    found = told(by_bleu)
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


def test_own_statistics_have_lines_of_their_own_and_the_mark_is_the_longest_trained_on():
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
    loss = next(panel for panel in chart.panels if panel.title == "loss")
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
        if f.decides and "loses more" in f.statement
    ]
    assert (
        decide
        == [
            "on longer sentences batch (per step) loses more than none",
            "what layer loses more than none is less than half of what batch (per step) does",
        ]
        * 2
    )
    assert "statistics" not in charts(group([run for run in runs if run.norm == "none"]))[0].caption


def test_what_sizes_of_batch_do_figure_by_figure():
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
    assert told(verdict) == {
        "from 64 sentences a batch to 4, batch loses ground on none": (1.5, True),
        "what layer loses on none is less than half of what batch does": (-0.3 - 0.75, True),
        "from 64 sentences a batch to 4, layer gains ground on none": (-0.3, False),
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
        outcomes["from 64 sentences a batch to 4, layer gains ground on none"] is Outcome.supported
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
def test_where_no_run_can_be_compared_nothing_is_drawn(name):
    runs = list(BUILDERS[name](1))
    for run in runs:
        run.status, run.results = "unfinished", None
    assert not any(
        line.x for chart in charts(group(runs)) for panel in chart.panels for line in panel.lines
    )


def test_a_term_without_steps_of_its_own_tells_no_shift():
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


def test_a_gap_that_was_not_measured_decides_nothing():
    runs = list(train_eval_gap(1))
    for run in runs:
        if run.config.norm.kind.value == "layer":
            run.__dict__["probes"] = []
    verdict = verdicts(group(runs))[0]
    assert verdict.outcome is Outcome.undecided
    assert [f.in_words for f in verdict.findings if f.statement.startswith("layer")] == [
        "no seed has both sides"
    ]


def test_a_change_that_is_no_number_is_not_as_the_table_says():
    runs = list(invariance(1))
    runs[1].probes[0].change = math.nan
    other = replace(runs[1].probes[0], transformation="vector re-scaling", change=1e-9)
    runs[1].probes.insert(0, other)
    (verdict,) = verdicts(group(runs))
    assert verdict.outcome is Outcome.refuted
    assert "by at most nan times its size" in verdict.findings[1].detail


def test_the_invariances_are_told_beside_the_papers_table():
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


def test_the_gain_is_a_matter_of_the_tanh_network():
    runs = [run for run in gradient_flow(1) if run.config.cell.kind.value == "lstm"]
    verdict = verdicts(group(runs))[-1]
    assert (verdict.outcome, verdict.missing) == (Outcome.undecided, "needs runs with cell=rnn")


def test_without_a_test_set_the_validation_set_speaks_and_is_named():
    runs = list(convergence(1))
    for run in runs:
        run.results.test = None
        run.results.valid = replace(run.results.valid, bleu=20.0 + run.config.seed)
    statements = [f.statement for f in verdicts(group(runs))[0].findings]
    assert "layer ends with a higher valid BLEU than none" in statements


# -- the figures that verdicts rest on ---


def test_which_norm_has_the_higher_bleu_and_the_lowest_loss_of_both_runs_of_a_seed():
    runs = [
        record(norm, seed, metrics=curve(rate, floor=floor), results={"test": {"bleu": bleu}})
        for norm, rate, bleu in (("none", 0.05, 30.0), ("layer", 0.1, 41.0))
        for seed, floor in zip(SEEDS, (0.5, 0.6, 0.7), strict=True)
    ]
    runs += [record("layer", seed=4, metrics=curve(0.05, floor=3.0))]  # none has no such seed
    found = {f.statement: f.differences for f in verdicts(group(runs))[0].findings}
    assert found["layer ends with a higher test BLEU than none"] == [11.0] * 3
    none, layer = (group(runs).where({"norm": norm}) for norm in ("none", "layer"))
    lowest = [min(run.series("valid", "loss")[1]) for run in none]
    expected = [
        math.log2(reached(b, loss) / reached(a, loss))
        for a, b, loss in zip(none, layer, lowest, strict=False)
    ]
    assert found[
        "layer takes fewer updates than none to the same validation loss"
    ] == pytest.approx(expected)


def test_halfway_to_a_loss_on_a_logarithmic_scale():
    """A norm that is twice as fast down to there, and then no more."""

    def falling(*losses):
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


def test_lines_of_times_to_losses_end_at_the_lowest_loss_that_all_seeds_reach():
    found = group(
        record(norm, seed, metrics=curve(rate + 0.01 * seed))
        for seed in SEEDS
        for norm, rate in (("none", 0.01), ("layer", 0.05))
    )
    for line in (
        next(chart for chart in charts(found) if chart.name == "time_to_loss").panels[0].lines
    ):
        assert line.x[0] == max(
            min(run.series("valid", "loss")[1]) for run in found.where({"norm": line.label})
        )


def test_the_chart_of_times_to_losses_shows_how_much_faster_a_norm_is():
    found = group(list(convergence(1)))
    panel = next(chart for chart in charts(found) if chart.name == "time_to_loss").panels[0]
    none, layer = (
        next(line for line in panel.lines if line.label == norm) for norm in ("none", "layer")
    )
    first = max(run.series("valid", "loss")[1][0] for run in found.runs)
    for loss in (1.5, 1.0, 0.8):
        assert none.x[0] < loss < none.x[-1] <= first
        ratio = np.interp(loss, none.x, none.y) / np.interp(loss, layer.x, layer.y)
        assert ratio == pytest.approx(1.5, rel=0.05)


def test_each_norm_is_judged_at_its_best_rate():
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


def test_a_rate_that_not_all_seeds_survived_is_not_the_best():
    runs = [
        record(seed=seed, lr=lr, results={"valid_loss": loss})
        for seed, lr, loss in ((1, 0.01, 2.0), (2, 0.01, 2.0), (2, 0.02, 1.0))
    ]
    assert group(runs).best_rate({"norm": "none"}) == 0.01


def test_when_a_loss_was_reached():
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


def test_a_rate_at_which_no_loss_is_a_number_is_not_the_best():
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


def test_a_loss_that_is_no_number_spoils_the_figure_of_its_run():
    """Else another bucket would be the longest, and the seed would speak of something else."""
    for spoilt in (1, 2):
        lines = length_lines(1.0, 2.5)
        lines[spoilt]["nll"] = math.nan
        assert math.isnan(gained_loss(record(probes=lines)))
    runs = list(length(1))
    runs[0].probes[-1].nll = math.nan
    assert [len(f.differences) for f in verdicts(group(runs))[0].findings if f.decides] == [2, 2]
    assert charts(group(runs))


def test_what_is_worse_on_longer_sentences_is_told_whatever_is_lost():
    runs = list(length(1))
    for run in runs:
        if run.config.norm.kind.value == "batch":
            for line in run.probes:
                line.nll, line.bleu = line.nll - 3, line.bleu + 30
    for verdict in verdicts(group(runs)):
        better = re.compile("on longer sentences batch has a (lower loss|higher BLEU) than none")
        finding = next(f for f in verdict.findings if better.fullmatch(f.statement))
        assert verdict.findings[0].statement == "on longer sentences batch loses more than none"
        assert (finding.outcome, finding.decides) == (Outcome.supported, False)


def test_how_much_is_lost_beyond_what_was_trained_on():
    assert gained_loss(record(probes=length_lines(1.0, 2.5))) == pytest.approx(1.5)
    assert gained_loss(record(probes=length_lines(1.0, 2.5)[:2])) is None
    assert gained_loss(record(probes=length_lines(1.0, 2.5)), statistics="batch") is None
    assert lost_bleu(record(probes=length_lines(1.0, 2.5))) == pytest.approx(100 * (40 - 25) / 40)
    assert lost_bleu(record(probes=length_lines(5.0, 5.0))) is None  # no BLEU, nothing to lose


def test_a_bucket_of_sentences_both_longer_and_shorter_than_those_trained_on_counts_as_neither():
    lines = length_lines(1.0, 2.5)
    straddling = [{**line, "trained": 25} for line in lines]  # 20 to 30
    assert gained_loss(record(probes=straddling)) == pytest.approx(1.5)
    straddling[2]["nll"] = 9.0
    assert gained_loss(record(probes=straddling)) == pytest.approx(1.5)


def test_growth_is_the_slope_at_the_longest_length():
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
    assert math.isnan(growth("raw", "at initialisation")(exploded))
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
    assert growth("gradient", "at initialisation")(vanished) > 100 * SPAN
