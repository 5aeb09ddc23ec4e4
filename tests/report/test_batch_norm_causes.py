"""What helps and harms batch norm: causes, gaps, table and chart."""

from statistics import fmean

import pytest
from experiment_runs import batch_norm
from synthetic import group

from seq2seq.report.experiments import charts, tables, verdicts
from seq2seq.report.experiments.batch_norm import AXES, CAUSES, cases, gaps, name_of
from seq2seq.report.statistics import Outcome

USUAL_GAP = 0.1
"""How far batch norm is behind in the runs, but for noise."""


def test_each_case_changes_one_setting_of_batch_norm() -> None:
    found = cases(group(batch_norm(1)))
    assert [case.name for case in found] == [
        *("usual", "min_rows=32", "accumulate=4", "statistics=per_step", "statistics=shared"),
        *(
            "cell=none",
            "cell_gain=1.0",
            "gain=0.1",
            "dropout=0.0",
            "recalibrate=false",
            "momentum=0.01",
        ),
    ]
    assert {case.changed for case in found} == {None, *AXES}


@pytest.mark.parametrize(
    ("axis", "value", "name"),
    [
        ("trainer.recalibrate", False, "recalibrate=false"),
        ("norm.statistics", "shared", "statistics=shared"),
        ("norm.gain", 0.1, "gain=0.1"),
    ],
)
def test_a_case_is_named_by_its_setting(axis: str, value: object, name: str) -> None:
    assert name_of(axis, value) == name


@pytest.mark.parametrize(
    ("usual", "other", "helps"),
    [("none", "output", False), ("output", "none", True), ("output", "carried", None)],
)
def test_a_norm_of_the_cell_state_is_harmful_whichever_is_usual(
    usual: str, other: str, helps: bool | None
) -> None:
    (cause,) = (cause for cause in CAUSES if cause.setting == "norm.cell")
    assert cause.helps(usual, other) is helps


def test_a_gap_is_to_no_norm_with_the_same_change() -> None:
    """No norm has a loss of its own without dropout, and none for changes of batch norm alone."""
    found = group(batch_norm(1))
    by_name = {case.name: fmean(gaps(found, case).values()) for case in cases(found)}
    assert by_name["usual"] == pytest.approx(USUAL_GAP, abs=0.01)
    for name, change in (("min_rows=32", -1), ("dropout=0.0", -1), ("accumulate=4", 1)):
        assert by_name[name] == pytest.approx(USUAL_GAP + 0.05 * change, abs=0.01), name


def test_each_cause_has_its_own_verdict() -> None:
    first, *causes = verdicts(group(batch_norm(1)))
    assert first.outcome is Outcome.supported
    assert [verdict.claim for verdict in causes] == [cause.claim for cause in CAUSES]
    assert {verdict.outcome for verdict in causes} == {Outcome.supported}


def test_a_cause_without_runs_has_no_verdict() -> None:
    runs = [run for run in batch_norm(1) if run.settings["norm.momentum"] == 0.1]
    assert len(verdicts(group(runs))) == len(CAUSES)


def test_a_value_of_which_the_cause_says_nothing_is_reported_only() -> None:
    verdict = verdicts(group(batch_norm(1)))[3]
    assert [(f.statement, f.decides) for f in verdict.findings] == [
        ("statistics=per_step: the gap is larger than usual", True),
        ("statistics=shared: the gap is smaller than usual", False),
    ]


def test_a_change_without_a_run_of_no_norm_has_no_gap() -> None:
    runs = [
        run for run in batch_norm(1) if run.kind == "batch" or run.settings["model.dropout"] != 0
    ]
    found = group(runs)
    row = {row["changed"]: row for row in tables(found)[0].rows}["dropout=0.0"]
    assert (row["no norm's loss"], row["gap"], row["BLEU gap"]) == ("–", "–", "–")
    assert row["batch norm's loss"] != "–"
    verdict = next(v for v in verdicts(found) if v.claim.startswith("Dropout"))
    assert verdict.outcome is Outcome.undecided
    assert all("dropout" not in x for panel in charts(found)[0].curves for x in panel.lines[0].x)


def test_what_the_stored_statistics_cost_is_reported_beside() -> None:
    verdict = next(v for v in verdicts(group(batch_norm(1))) if "measured again" in v.claim)
    (again, *stored) = verdict.findings
    assert again.decides
    assert [(f.statement.partition(":")[0], f.differences) for f in stored] == [
        ("usual", [0.25] * 3),
        ("recalibrate=false", [0.25] * 3),
    ]


def test_the_table_and_the_chart_show_both_losses_and_the_gap() -> None:
    found = group(batch_norm(1))
    (table,) = tables(found)
    assert list(table.rows[0]) == [
        *("changed", "batch norm's loss", "no norm's loss", "gap", "BLEU gap"),
    ]
    assert table.rows[0]["gap"].startswith("+0.10")
    assert table.rows[0]["no norm's loss"] == "1.000"
    loss, bleu = charts(found)[0].curves
    assert loss.lines[0].x == bleu.lines[0].x == [case.name for case in cases(found)]
    assert loss.lines[0].y[0] == pytest.approx(USUAL_GAP, abs=0.01)
    assert bleu.lines[0].y[0] == pytest.approx(-2, abs=0.01)
    assert loss.lines[0].label == "batch − none"
