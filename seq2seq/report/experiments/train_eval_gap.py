"""Whether a trained model computes in evaluation what it computed in training."""

from functools import partial
from itertools import product
from statistics import fmean

import numpy as np

from ...runs.entries import ModeLosses, StatisticsDistance
from ...runs.records import RunRecord
from ..charts import Chart, Line, Panel, mean_line
from ..groups import Design, Group
from ..statistics import Outcome
from .base import Experiment, Statement
from .lines import Series, norm_lines
from .verdict import Finding, Verdict, higher

SAME = 1e-6
"""Nats a token that rounding may change."""
NOTICEABLE = 0.01
"""Nats a token, which is one percent of the perplexity; a smaller difference counts as none."""
STATEMENT = Statement(
    "Batch norm computes one thing in training and another in evaluation; layer norm computes the"
    " same in both.",
    "Ba, Kiros & Hinton 2016, abstract (“exactly the same computation at training and test"
    " times”); Ioffe 2017, abstract (“different activations being produced between training and"
    " inference”).",
    "On the test set, batch norm's losses with the batch's own statistics and with the stored"
    " running averages are within 0.01 nats/token of each other; or layer norm's two losses differ."
    " A second verdict is about the drift of the features: it is refuted if batch norm's means are"
    " nearer to the stored ones on the test set than on the training set.",
)
DRIFT = (
    "On text it was not trained on, batch norm's features have other means than those it has"
    " stored."
)
TERMS = {"hh": "recurrent term", "c": "cell"}


def gaps(run: RunRecord) -> dict[str, float]:
    """Return by set the loss with stored statistics less that with each batch's own.

    Both are of the same batches, without dropout.
    """
    return {p.set: p.evaluation - p.batch for p in run.probed(ModeLosses)}


def gap(run: RunRecord) -> float | None:
    """Return the gap on the test set."""
    return gaps(run).get("test")


def shift(run: RunRecord, name: str) -> float | None:
    """Return how far a set's means are from the stored ones, in stored deviations."""
    terms = [p for p in run.probed(StatisticsDistance) if p.set == name and p.steps]
    found = [np.average(p.mean_shift, weights=p.rows) for p in terms]
    return float(np.mean(found)) if found else None


def verdicts(group: Group) -> list[Verdict]:
    """Judge the computation by the two losses, and the drift by the distance of the means."""
    batch, layer = group.usual("batch", "layer")
    by_norm = group.by_norm(gap)
    apart = list(by_norm[batch].values())
    which = f"the stored ones are {'better' if fmean(apart) < 0 else 'worse'}" if apart else ""
    differ = f"on the test set, {batch}'s losses with stored and own statistics are more than"
    differ += f" {NOTICEABLE} nats/token apart"
    worse, unit = "'s stored statistics give the higher loss", "nats/token, stored less own"
    findings = [
        Finding(differ, "nats/token", [abs(g) for g in apart], above=NOTICEABLE, remark=which),
        _same(layer, [abs(g) for g in by_norm[layer].values()]),
        *(
            Finding(norm + worse, unit, list(by_norm[norm].values()), decides=False)
            for norm in group.variants("batch")
        ),
    ]
    drifts = [finding for norm in group.variants("batch") for finding in _drift(group, norm)]
    return [Verdict(STATEMENT.claim, findings), Verdict(DRIFT, drifts)]


def _same(norm: str, apart: list[float]) -> Finding:
    """Return whether a norm without stored statistics has the same loss in both modes."""
    found = Finding(f"{norm} has the same loss in both")
    if apart:
        found.exact = Outcome.supported if max(apart) <= SAME else Outcome.refuted
        found.detail = f"largest difference {max(apart):.1g} nats/token"
    return found


def _drift(group: Group, norm: str) -> list[Finding]:
    """Compare each set that was not trained on with the training set."""
    shifts = {
        name: group.by_seed(partial(shift, name=name), {"norm": norm}) for name in sets(group)
    }
    train = shifts.pop("train", {})
    return [
        higher(
            f"{norm}'s means on {name} are farther from the stored ones than on train",
            "stored deviations",
            found,
            train,
            decides=name == "test" and norm in group.usual("batch"),
        )
        for name, found in shifts.items()
    ]


def sets(group: Group) -> list[str]:
    """Return the names of the sets that were measured: train and the test sets."""
    return list(dict.fromkeys(name for run in group.runs for name in gaps(run)))


def charts(group: Group) -> list[Chart]:
    """Return the gap by set, and the distance of batch norm's statistics by step."""

    def gaps_by_set(run: RunRecord) -> Series:
        found = gaps(run)
        return list(found), list(found.values())

    panel = Panel("gap", "set", "loss, stored − own (nats/token)", norm_lines(group, gaps_by_set))
    gap_chart = Chart(
        "train_eval_gap",
        "The same batches' loss with stored and with own statistics",
        "Mean over seeds and their range; without dropout. 0: the model computes the same in"
        " evaluation as in training. Above 0: the stored statistics of evaluation are worse.",
        [panel],
    )
    return [
        gap_chart,
        _distances(group, "means", "mean_shift", "distance (stored deviations)"),
        _distances(group, "deviations", "log_scale", "distance (ln of their ratio)"),
    ]


def _distances(group: Group, what: str, key: str, y_label: str) -> Chart:
    """Return a panel for each term and side where they were measured."""
    panels = []
    for side, (term, label) in product(("encoder", "decoder"), TERMS.items()):
        lines = _distance_lines(group, f"{side}.layers.0.{term}_l0", key)
        if lines:
            panels.append(Panel(f"{label} of the {side}", "time step", y_label, lines))
    return Chart(
        f"{what}_by_step",
        f"Batch norm: distance of each set's {what} from the stored ones",
        "Root mean square over features, pooled over a set's batches; mean over seeds and their"
        " range. After the last step seen in training, that step's statistics are used.",
        panels,
    )


def _distance_lines(group: Group, term: str, key: str) -> list[Line]:
    """Return a line for each variant of batch norm and each set."""

    def by_step(run: RunRecord, name: str) -> Series:
        for p in run.probed(StatisticsDistance):
            if p.set == name and p.term == term:
                return p.steps, getattr(p, key)
        return [], []

    lines: list[Line] = []
    for norm, name in product(group.variants("batch"), sets(group)):
        series = [by_step(run, name) for run in group.where({"norm": norm})]
        lines.append(mean_line(f"{norm} on {name}", "batch", len(lines), series))
    return [line for line in lines if line.x]


EXPERIMENT = Experiment(
    "train_eval_gap",
    STATEMENT,
    Design(("norm.",)),
    ("batch", "layer"),
    verdicts,
    charts,
)
