"""Whether a trained model does in use what it did in training."""

from typing import Any

import numpy as np

from ..charts import Chart, Line, Panel
from ..records import Group, RunRecord
from ..statistics import Outcome
from .lines import Series, norm_line, norm_lines
from .verdict import Finding, Verdict, difference, needs

SAME = 1e-6
"""Nats a token: what rounding may change."""
NOTICEABLE = 0.01
"""Nats a token: a hundredth of the perplexity. A smaller difference between the two losses counts as none."""
DRIFT = "The features that batch norm meets in text it was not trained on have other means than those it has stored."
TERMS = {"hh": "recurrent term", "c": "cell"}


def losses(run: RunRecord) -> dict[str, dict[str, Any]]:
    """set -> the losses in each mode."""
    return {p["set"]: p for p in run.probed("train_eval_gap") if "evaluation" in p}


def gap(run: RunRecord, name: str = "test") -> float | None:
    """Loss by the stored statistics less that by the batch's own, on the same batches, without dropout."""
    found = losses(run).get(name)
    return None if found is None else float(found["evaluation"] - found["batch"])


def shift(run: RunRecord, name: str) -> float | None:
    """How far a set's means are from the stored ones, in stored deviations: mean over terms and rows of all steps."""
    terms = [p for p in run.probed("train_eval_gap", set=name) if "term" in p]
    found = [np.average(p["mean_shift"], weights=p["rows"]) for p in terms]
    return float(np.mean(found)) if found else None


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Of the computation: batch norm's two losses have to differ noticeably, layer norm's to be the same to rounding.

    Of the drift: batch norm's means have to be farther from the stored ones on the test set than on the training set.
    """
    missing = needs(group, "batch", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    layer = max((abs(g) for g in group.paired(gap, norm="layer").values()), default=float("inf"))
    gaps = list(group.paired(gap, norm="batch").values())
    findings = [
        Finding(f"on the test set, batch's losses by the stored statistics and by the batch's own are more than "
                f"{NOTICEABLE} nats/token apart", "nats/token beyond that", [abs(g) - NOTICEABLE for g in gaps]),
        Finding("layer has the same loss in both", "", [],
                exact=Outcome.supported if layer <= SAME else Outcome.refuted,
                detail=f"largest difference {layer:.1g} nats/token"),
        Finding("the stored statistics give the higher loss", "nats/token", gaps, decides=False),
    ]
    return [Verdict(claim, findings), Verdict(DRIFT, _drift(group))]


def _drift(group: Group) -> list[Finding]:
    """Each set that was not trained on beside the training set."""
    train = group.paired(lambda run: shift(run, "train"), norm="batch")
    return [Finding(f"batch's means on {name} are farther from the stored ones than on train", "stored deviations",
                    difference(group.paired(lambda run, name=name: shift(run, name), norm="batch"),  # type: ignore[misc]
                               train), decides=name == "test") for name in sets(group) if name != "train"]


def sets(group: Group) -> list[str]:
    """train, and the test sets that were looked at."""
    return list(dict.fromkeys(name for run in group.runs for name in losses(run)))


def charts(group: Group) -> list[Chart]:
    """The gap by set, and the distance of batch norm's statistics by step."""
    gaps = norm_lines(group, lambda run: (sets(group), [gap(run, name) or 0.0 for name in sets(group)]))
    panel = Panel("gap", "set", "stored less own (nats/token)", gaps)
    distances = [Panel(f"{label} of the {side}", "time step", "distance of the means (stored deviations)",
                       _distance_lines(group, f"{side}.layers.0.{term}_l0"))
                 for side in ("encoder", "decoder") for term, label in TERMS.items()]
    return [
        Chart("train_eval_gap", "The same batches' loss by stored and by own statistics", "Mean over seeds and their "
              "range; without dropout. 0: the model does in use what it did in training.", [panel]),
        Chart("statistics_by_step", "Batch norm: how far each set's means are from the stored ones",
              "Root mean square over features, pooled over a set's batches; mean over seeds and their range. Past the "
              "last step seen in training the last one's statistics serve.", [p for p in distances if p.lines]),
    ]


def _distance_lines(group: Group, term: str) -> list[Line]:
    def series(name: str) -> Any:
        def of(run: RunRecord) -> Series:
            found = run.probed("train_eval_gap", set=name, term=term)
            return (found[0]["steps"], found[0]["mean_shift"]) if found else ([], [])
        return of

    lines = [norm_line(group, norm, series(name), group.of(norm=norm), f"{norm} on {name}", variant)
             for norm in group.norms if group.kind(norm) == "batch" for variant, name in enumerate(sets(group))]
    return [line for line in lines if line.x]
