"""Whether a trained model does in use what it did in training."""

from functools import partial
from itertools import product
from statistics import fmean

import numpy as np

from ...runs.records import Group, RunRecord
from ..charts import Chart, Line, Panel
from ..statistics import Outcome
from .lines import Series, norm_line, norm_lines
from .verdict import Finding, Verdict, difference, needs

SAME = 1e-6
"""Nats a token: what rounding may change."""
NOTICEABLE = 0.01
"""Nats a token: a hundredth of the perplexity. A smaller difference between the two losses counts
as none.
"""
DRIFT = (
    "The features that batch norm meets in text it was not trained on have other means than those"
    " it has stored."
)
TERMS = {"hh": "recurrent term", "c": "cell"}


def gaps(run: RunRecord) -> dict[str, float]:
    """set -> loss by the stored statistics less that by the batch's own, on the same batches,
    without dropout.
    """
    return {
        p["set"]: p["evaluation"] - p["batch"]
        for p in run.probed("train_eval_gap")
        if "evaluation" in p
    }


def gap(run: RunRecord) -> float | None:
    """That of the test set."""
    return gaps(run).get("test")


def shift(run: RunRecord, name: str) -> float | None:
    """How far a set's means are from the stored ones, in stored deviations: mean over terms and
    rows of all steps.
    """
    terms = [p for p in run.probed("train_eval_gap", set=name) if p.get("steps")]
    found = [np.average(p["mean_shift"], weights=p["rows"]) for p in terms]
    return float(np.mean(found)) if found else None


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Of the computation: batch norm's two losses have to differ noticeably, layer norm's to be the
    same to rounding.

    Of the drift: batch norm's means have to be farther from the stored ones on the test set than on
    the training set.
    """
    missing = needs(group, "batch", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    batch, layer = group.variants("batch")[0], group.variants("layer")[0]
    apart = list(group.paired(gap, norm=batch).values())
    which = f"the stored ones are the {'better' if fmean(apart) < 0 else 'worse'}" if apart else ""
    findings = [
        Finding(
            f"on the test set, {batch}'s losses by the stored statistics and by the batch's own are"
            f" more than {NOTICEABLE} nats/token apart",
            "nats/token",
            [abs(g) for g in apart],
            above=NOTICEABLE,
            remark=which,
        ),
        _same(group, layer),
        Finding(
            f"{batch}'s stored statistics give the higher loss",
            "nats/token, stored less own",
            apart,
            decides=False,
        ),
    ]
    return [Verdict(claim, findings), Verdict(DRIFT, _drift(group, batch))]


def _same(group: Group, norm: str) -> Finding:
    """The two losses of a norm that has no statistics."""
    said, apart = (
        f"{norm} has the same loss in both",
        [abs(g) for g in group.paired(gap, norm=norm).values()],
    )
    if not apart:
        return Finding(said, "", [])
    return Finding(
        said,
        "",
        [],
        exact=Outcome.supported if max(apart) <= SAME else Outcome.refuted,
        detail=f"largest difference {max(apart):.1g} nats/token",
    )


def _drift(group: Group, norm: str) -> list[Finding]:
    """Each set that was not trained on beside the training set."""
    shifts = {name: group.paired(partial(shift, name=name), norm=norm) for name in sets(group)}
    return [
        Finding(
            f"{norm}'s means on {name} are farther from the stored ones than on train",
            "stored deviations",
            difference(shifts[name], shifts.get("train", {})),
            decides=name == "test",
        )
        for name in shifts
        if name != "train"
    ]


def sets(group: Group) -> list[str]:
    """train, and the test sets that were looked at."""
    return list(dict.fromkeys(name for run in group.runs for name in gaps(run)))


def charts(group: Group) -> list[Chart]:
    """The gap by set, and the distance of batch norm's statistics by step."""
    panel = Panel("gap", "set", "loss, stored − own (nats/token)", norm_lines(group, gaps_by_set))
    return [
        Chart(
            "train_eval_gap",
            "The same batches' loss by stored and by own statistics",
            "Mean over seeds and their range; without dropout. 0: the model does in use what it did"
            " in training; above 0: the stored statistics, those of use, are the worse ones.",
            [panel],
        ),
        *(
            Chart(
                f"{what}_by_step",
                f"Batch norm: how far each set's {what} are from the stored ones",
                "Root mean square over features, pooled over a set's batches; mean over seeds and"
                " their range. Past the last step seen in training the last one's statistics"
                " serve.",
                _distances(group, key, f"distance ({unit})"),
            )
            for what, key, unit in (
                ("means", "mean_shift", "stored deviations"),
                ("deviations", "log_scale", "ln of their ratio"),
            )
        ),
    ]


def gaps_by_set(run: RunRecord) -> Series:
    """(sets, gaps), of those that were measured."""
    found = gaps(run)
    return list(found), list(found.values())


def _distances(group: Group, key: str, y_label: str) -> list[Panel]:
    """A panel a term and side."""
    panels = [
        Panel(
            f"{label} of the {side}",
            "time step",
            y_label,
            _distance_lines(group, f"{side}.layers.0.{term}_l0", key),
        )
        for side in ("encoder", "decoder")
        for term, label in TERMS.items()
    ]
    return [panel for panel in panels if panel.lines]


def _distance_lines(group: Group, term: str, key: str) -> list[Line]:
    """A line for each variant of batch norm and each set."""

    def by_step(run: RunRecord, name: str) -> Series:
        found = run.probed("train_eval_gap", set=name, term=term)
        return (found[0]["steps"], found[0][key]) if found else ([], [])

    lines = [
        norm_line(
            group,
            norm,
            partial(by_step, name=name),
            group.of(norm=norm),
            f"{norm} on {name}",
            variant,
        )
        for variant, (norm, name) in enumerate(product(group.variants("batch"), sets(group)))
    ]
    return [line for line in lines if line.x]
