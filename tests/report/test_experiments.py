"""Every experiment's verdict on runs whose effect is known."""

import math
from dataclasses import replace
from typing import Any

import pytest
from experiment_runs import (
    BUILDERS,
    EXPECTED,
    NOISY,
    batch_size,
    flow_lines,
    gradient_flow,
    invariance,
    train_eval_gap,
)
from synthetic import SEEDS, group, record

from seq2seq.report.experiments import EXPERIMENTS, charts, tables, verdicts
from seq2seq.report.experiments.growth import BEFORE
from seq2seq.report.experiments.verdict import Finding, Verdict, correct
from seq2seq.report.statistics import Outcome, detectable_effect


def test_every_experiment_has_a_builder() -> None:
    assert BUILDERS.keys() == EXPERIMENTS.keys()


@pytest.mark.parametrize(
    ("name", "effect"),
    [(name, effect) for name in BUILDERS for effect in ([1, -1, 0] if name in NOISY else [1, -1])],
)
def test_each_effect_gives_its_verdict(name: str, effect: int) -> None:
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
def test_a_finding_gives_the_measured_figure_and_the_claimed_bound(
    bound: dict[str, Any], differences: list[float], expected: Outcome
) -> None:
    finding = Finding("it halves", "halvings", differences, **bound)
    assert finding.outcome is expected
    ((word, figure),) = bound.items()
    assert finding.in_words.startswith(f"{sum(differences) / 3:+.3g} halvings (")
    assert finding.in_words.endswith(f"); claimed: {word} {figure:g}")


def test_findings_are_corrected_for_their_number() -> None:
    """Two of three are significant by themselves, one after the correction."""
    clear, near, none = (
        Finding(name, "units", values)
        for name, values in (
            ("clear", [2.0, 2.01, 1.99]),
            ("near", [1.0, 1.4, 0.7]),
            ("none", [1.0, -1.4, 0.7]),
        )
    )
    other, exact = replace(near, decides=False), Finding("e", exact=Outcome.refuted)
    alone, single = Verdict("a", [clear, exact, other]), Finding("one seed", "units", [1.0])
    correct([alone, Verdict("b", [near, none, single])])
    assert clear.corrected == pytest.approx(3 * clear.p)
    assert near.corrected == pytest.approx(2 * near.p)
    assert [f.outcome.value for f in (clear, near, none, other, exact, single)] == [
        *("supported", "undecided", "undecided", "supported", "refuted", "undecided")
    ]
    assert near.in_words.endswith("; p = 0.036, corrected 0.073; exploratory: supported")
    assert clear.in_words.endswith(f"; p = {clear.p:.2g}, corrected {clear.corrected:.2g}")
    assert "p =" not in other.in_words + exact.in_words + single.in_words


def test_factors_are_printed_as_factors() -> None:
    """The detectable effect is a factor too."""
    finding = Finding("it takes fewer", "none's updates", [-1.1, -1.0, -0.9], below=0.0, log2=True)
    assert finding.outcome is Outcome.supported
    assert finding.in_words == "0.5 times none's updates (0.421 to 0.594); claimed: below 1"
    assert finding.smallest == f"{2 ** -detectable_effect(finding.differences):.3g} times"
    assert (
        replace(finding, below=None).smallest
        == f"{2 ** detectable_effect(finding.differences):.3g} times"
    )
    assert replace(finding, differences=[-1.0]).smallest == "–"


def test_the_worst_seed_is_reported() -> None:
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


def test_the_worse_statistics_are_named() -> None:
    finding = next(
        f
        for f in verdicts(group(train_eval_gap(1)))[0].findings
        if "the higher loss" in f.statement
    )
    assert finding.interval.mean == pytest.approx(-0.3)
    assert finding.outcome is Outcome.refuted
    apart = verdicts(group(train_eval_gap(1)))[0].findings[0]
    assert apart.in_words.endswith("; claimed: above 0.01; the stored ones are better")


def test_a_difference_from_the_table_is_named() -> None:
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


def test_a_norm_without_probes_leaves_invariance_undecided() -> None:
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


def test_a_missing_gain_is_named() -> None:
    runs = [run for run in gradient_flow(1) if run.config.norm.gain != 1.0]
    assert (
        verdicts(group(runs))[-1].missing
        == "needs runs with norm=batch_gain_01 and norm=batch_gain_1"
    )


def test_batch_sizes_that_one_norm_lacks_are_named() -> None:
    runs = [
        run
        for run in batch_size(1)
        if (run.config.norm.kind.value, run.config.data.batch_sentences) != ("none", 64)
    ]
    (verdict,) = verdicts(group(runs))
    assert verdict.missing == "needs runs with norm=none data.batch_sentences=64"


def test_batches_of_tokens_have_no_size_to_compare() -> None:
    (verdict,) = verdicts(
        group([record(norm, 1, "batch_size") for norm in ("none", "batch", "layer")])
    )
    assert verdict.missing.startswith("needs runs with norm=none data.batch_sentences=4")
    alone = charts(group([record(experiment="batch_size")]))
    assert all(chart.is_empty for chart in alone)
    both = [*batch_size(1), record("none", 9, "batch_size")]
    assert charts(group(both)) == charts(group(batch_size(1)))
    assert verdicts(group(both)) == verdicts(group(batch_size(1)))


@pytest.mark.parametrize("effect", [1, -1])
@pytest.mark.parametrize("name", sorted(NOISY))
def test_one_seed_never_decides(name: str, effect: int) -> None:
    runs = [run for run in BUILDERS[name](effect) if run.config.seed == 1]
    assert {v.outcome for v in verdicts(group(runs))} == {Outcome.undecided}


@pytest.mark.parametrize("name", BUILDERS)
def test_missing_runs_are_named(name: str) -> None:
    needed = (EXPERIMENTS[name].needs or ("layer",))[-1]  # invariance needs any of the norms
    runs = [run for run in BUILDERS[name](1) if run.config.norm.kind.value != needed]
    verdict = verdicts(group(runs))[0]
    assert verdict.outcome is Outcome.undecided
    assert f"norm={needed}" in verdict.missing


@pytest.mark.parametrize("name", BUILDERS)
def test_every_chart_has_labels_and_every_norm(name: str) -> None:
    runs = group(BUILDERS[name](1))
    found = charts(runs)
    assert len({chart.name for chart in found}) == len(found) > 0
    for chart in found:
        assert chart.caption
        for found_map in chart.maps:
            assert found_map.x_label
            assert found_map.what
            assert [*found_map.rows] == runs.norms
            assert {len(row) for row in found_map.rows.values()} == {len(found_map.x)}
        for panel in chart.curves:
            assert panel.x_label
            assert panel.y_label
            assert panel.lines
            for line in panel.lines:
                assert len(line.x) == len(line.y) > 0
                assert all(map(math.isfinite, line.y))
        if not chart.curves:
            continue
        shown = {line.kind for panel in chart.curves for line in panel.lines}
        of_batch_norm = ("means_by_step", "deviations_by_step", "gap_by_change")
        assert shown == (
            {"batch"}
            if chart.name in of_batch_norm
            else {run.config.norm.kind.value for run in runs.runs}
        )


@pytest.mark.parametrize("name", BUILDERS)
def test_the_statement_is_complete(name: str) -> None:
    found = EXPERIMENTS[name].statement
    assert found.claim.endswith(".")
    assert "20" in found.source  # a year
    assert len(found.refuted_if) > 20
    assert not any(
        "#" in part or "\n" in part for part in (found.claim, found.source, found.refuted_if)
    )


def test_a_rise_of_the_first_steps_is_reported_beside_the_growth_over_all() -> None:
    """Sums that grow by two doublings at once and then keep their size do not grow by the slope."""
    runs = [
        record(
            norm,
            seed,
            "gradient_flow",
            probes=[
                line | {"raw": [*line["raw"][:2], *(size for _ in line["raw"][2:])]}
                for line in flow_lines(0.0, 0.0, steps=500)
            ],
        )
        for seed in SEEDS
        for norm, size in (("none", 4.0), ("layer", 1.0))
    ]
    sums = verdicts(group(runs))[0]
    assert sums.outcome is Outcome.refuted
    slope, early = (
        next(f for f in sums.findings if BEFORE in f.statement and word in f.statement)
        for word in ("over 200 steps", "from the first step")
    )
    assert (slope.decides, early.decides) == (True, False)
    assert early.differences == [2.0] * 3
    assert early.outcome is Outcome.supported
