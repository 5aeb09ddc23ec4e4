"""What helps and harms batch norm in a translator: one thing changed at a time."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from ...runs.records import RunRecord
from ..charts import Chart, Line, Panel, Table
from ..groups import RATE, Design, Group, Quantity, Values, by_seed, valid_loss
from ..statistics import interval
from .base import Experiment, Statement
from .cases import Case
from .cases import cases as cases_of
from .lines import mean_and_range
from .train_eval_gap import gap as stored_gap
from .verdict import Finding, Verdict, higher, lower, minus

KIND = "norm.kind"
UNIT = "nats/token"
STATEMENT = Statement(
    "Batch norm ends with a higher loss than no norm, and each of the causes named has a share.",
    "Cooijmans et al. 2016, arXiv:1603.09025, sections 3 and 4 (gain, statistics of each step);"
    " Ioffe 2017, arXiv:1702.03275 (few rows, stored statistics); Li et al. 2019, arXiv:1801.05134"
    " (dropout).",
    "The gap is batch norm's validation loss less that of no norm, both with the same change, each"
    " at its best learning rate; it is below 0 where batch norm is ahead. The papers' batch norm"
    " has the cell norm, which the usual one here has not. A cause is refuted if the"
    " change that should make the gap smaller makes it larger, or the reverse.",
)


# -- causes ---


@dataclass(frozen=True)
class Cause:
    """Something that may harm batch norm, and the setting that changes it."""

    setting: str
    claim: str
    helps: Callable[[Any, Any], bool | None]
    """(usual value, other value) -> whether the other value should make the gap smaller (True) or
    larger (False); None: the cause says nothing about it.
    """


_more, _less = operator.lt, operator.gt  # than the usual value, which is their first argument


def _without(usual_value: Any, value: Any) -> bool | None:
    return value == "none" if "none" in (usual_value, value) else None


def _only(named: Any, helps: bool, _: Any, value: Any) -> bool | None:
    return helps if value == named else None


CAUSES = (
    Cause(
        "norm.min_rows",
        "Late in a batch few sentences are left, and their statistics are noisy.",
        _more,
    ),
    Cause(
        "optimizer.accumulate",
        "Statistics of few rows are noisy at every step: the same update from smaller batches harms"
        " batch norm.",
        _less,
    ),
    Cause(
        "norm.statistics",
        "The first input is the same in every row: normalised by a step of its own, it is noise.",
        partial(_only, "per_step", False),
    ),
    Cause("norm.cell", "The cell norm does harm.", _without),
    Cause(
        "norm.cell_gain", "The cell norm's initial gain is too small.", partial(_only, 1.0, True)
    ),
    Cause("norm.gain", "The initial gain of all its norms is too small.", _more),
    Cause(
        "model.dropout",
        "Dropout gives the inputs another variance in training than in use.",
        _less,
    ),
    Cause(
        "trainer.recalibrate",
        "The averages of training are out of date at its end: measured again they are better.",
        _more,
    ),
    Cause("norm.momentum", "The running averages follow single batches too closely.", _less),
)
AXES = tuple(cause.setting for cause in CAUSES)
OWN = ("norm.", "trainer.recalibrate")
"""Beginnings of settings that change nothing without batch norm."""


def name_of(axis: str, value: Any) -> str:
    """Return a case as a setting without its group, as on the command line."""
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"{axis.partition('.')[2]}={shown}"


def cases(group: Group) -> list[Case]:
    """Return the usual case of batch norm, and those with one setting changed."""
    return cases_of(group.where({KIND: "batch"}), AXES, name_of)


# -- gaps ---


def runs_of(group: Group, kind: str, case: Case) -> list[RunRecord]:
    """Return a norm's runs of a case, at its best rate; no norm has none of batch norm's cases."""
    wanted = {
        key: value
        for key, value in case.wanted.items()
        if kind == "batch" or not key.startswith(OWN)
    }
    return group.at_best_rate({**wanted, KIND: kind})


def gaps(group: Group, case: Case, quantity: Quantity = valid_loss) -> Values:
    """Return by seed the value of batch norm less that of no norm, both with the case's change."""
    batch, none = (by_seed(runs_of(group, kind, case), quantity) for kind in ("batch", "none"))
    return minus(batch, none)


# -- verdicts ---


def verdicts(group: Group) -> list[Verdict]:
    """Judge whether batch norm is behind, then each cause of which there are runs."""
    found = cases(group)
    behind = [
        Finding(
            f"{case.name}: batch norm ends with a higher loss than no norm",
            UNIT,
            list(gaps(group, case).values()),
            decides=case.changed is None,
        )
        for case in found
    ]
    first = Verdict("Batch norm ends with a higher loss than no norm.", behind)
    causes = [(cause, [c for c in found if c.changed == cause.setting]) for cause in CAUSES]
    return [
        first,
        *(
            Verdict(cause.claim, _findings(group, cause, found[0], own))
            for cause, own in causes
            if own
        ),
    ]


def _findings(group: Group, cause: Cause, base: Case, changed: Sequence[Case]) -> list[Finding]:
    """Compare the gap of each changed case with the usual one."""
    findings = [_compared(group, cause, case, base) for case in changed]
    if cause.setting == "trainer.recalibrate":
        findings += [_stored(group, case) for case in (base, *changed)]
    return findings


def _compared(group: Group, cause: Cause, case: Case, base: Case) -> Finding:
    helps = cause.helps(base.wanted[cause.setting], case.wanted[cause.setting])
    compare, changed = (higher, "larger") if helps is False else (lower, "smaller")
    return compare(
        f"{case.name}: the gap is {changed} than usual",
        UNIT,
        gaps(group, case),
        gaps(group, base),
        helps is not None,
    )


def _stored(group: Group, case: Case) -> Finding:
    """Report what the stored statistics cost, compared with each batch's own."""
    values = by_seed(runs_of(group, "batch", case), stored_gap)
    what = "the stored statistics give a higher loss on the test set than each batch's own"
    return Finding(f"{case.name}: {what}", UNIT, list(values.values()), decides=False)


# -- tables and charts ---


def tables(group: Group) -> list[Table]:
    """Return for each case both losses and the gap, with its interval."""
    rows = [_row(group, case) for case in cases(group)]
    caption = (
        "Mean over seeds of the validation loss (nats a token), each norm at its best learning"
        " rate, and of batch norm's less that of no norm with the same change, with Student's 95%"
        " interval."
    )
    return [Table("Batch norm compared with no norm, by what is changed", rows, caption)]


def _row(group: Group, case: Case) -> dict[str, str]:
    losses = {
        kind: list(by_seed(runs_of(group, kind, case), valid_loss).values())
        for kind in ("batch", "none")
    }
    known = {kind: f"{fmean(v):.3f}" if v else "–" for kind, v in losses.items()}
    loss, bleu = (list(gaps(group, case, of).values()) for of in (valid_loss, group.bleu))
    return {
        "changed": case.name,
        "batch norm's loss": known["batch"],
        "no norm's loss": known["none"],
        "gap": interval(loss).text(lambda v: f"{v:+.3f}", "") if loss else "–",
        "BLEU gap": interval(bleu).text(lambda v: f"{v:+.1f}", "") if bleu else "–",
    }


def charts(group: Group) -> list[Chart]:
    """Return the gaps by what is changed, in loss and in BLEU."""
    quantities: Mapping[str, Quantity] = {
        "validation loss (nats/token)": valid_loss,
        f"{group.split} BLEU": group.bleu,
    }
    panels = [
        Panel(
            label.partition(" (")[0],
            "changed",
            f"{label}, batch − none",
            [_line(group, quantity)],
        )
        for label, quantity in quantities.items()
    ]
    return [
        Chart(
            "gap_by_change",
            "How far batch norm is from no norm, by what is changed",
            "Mean over seeds and their range, each norm at its best learning rate. Loss above 0, or"
            " BLEU below 0: batch norm is behind.",
            panels,
        )
    ]


def _line(group: Group, quantity: Quantity) -> Line:
    values = {case.name: list(gaps(group, case, quantity).values()) for case in cases(group)}
    known = {name: found for name, found in values.items() if found}
    return mean_and_range("batch − none", "batch", 0, known)


EXPERIMENT = Experiment(
    "batch_norm",
    STATEMENT,
    Design(
        ("norm.", RATE, *(axis for axis in AXES if not axis.startswith("norm."))),
        ("data.batch_tokens", "data.batch_sentences"),
    ),
    ("none", "batch"),
    verdicts,
    charts,
    tables,
)
