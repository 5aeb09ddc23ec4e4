"""Which norm trains faster, in updates and in seconds, each at its best learning rate."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from ...runs.records import RunRecord
from ..charts import Chart, Panel
from ..groups import RATE, Design, Group, by_seed, valid_loss
from .base import Experiment, Statement
from .lines import Series, mean_by, norm_lines
from .verdict import Finding, Verdict, fewer, higher

MEASURED = "seconds at speeds measured side by side"
X_LABELS = {
    "update": "update",
    "seconds": "seconds of training",
    "tokens": "target tokens trained on",
    "seconds side by side": MEASURED,
}
TIMES = {"update": "updates", "seconds": "seconds of training", "seconds side by side": MEASURED}
"""What a way to a loss is measured in. Side by side counts before the seconds of a run, which
depend on what else the machine did.
"""
LOSS_LABEL = "validation loss (nats/token)"
QUANTITIES = {
    "training_loss": ("train", "nll", "training loss (nats/token)"),
    "validation_loss": ("valid", "loss", LOSS_LABEL),
    "validation_bleu": ("valid", "bleu", "validation BLEU (greedy)"),
}
LOSSES = 50
"""Points of the chart of times, evenly spaced on a logarithmic scale."""
LEAST = 1e-6
"""The lowest loss of a scale that is drawn by its logarithm."""
STATEMENT = Statement(
    "With layer norm a recurrent network trains faster, in updates and in time.",
    "Ba, Kiros & Hinton 2016, abstract: “layer normalization can substantially reduce the training"
    " time”.",
    "Layer norm takes more updates, or more time, than no norm to the lowest validation loss that"
    " both runs of a seed reach. Each norm is judged at the best of its learning rates.",
)


def ways_of(group: Group, ways: Mapping[str, str]) -> dict[str, str]:
    """Return the ways, with speeds measured side by side only where the group has them."""
    return {by: unit for by, unit in ways.items() if unit != MEASURED or group.has_speeds}


# -- how long a loss takes ---


def validation(run: RunRecord) -> list[float]:
    """Return the validation losses of a run."""
    return run.series("valid", "loss")[1]


def reached(run: RunRecord, loss: float, by: str = "update") -> float | None:
    """Return the update or second at which the validation loss was first this low.

    Between two validations it is interpolated linearly. None if the loss was never this low.
    """
    x, y = run.series("valid", "loss", by)
    for i, value in enumerate(y):
        if value <= loss:
            if i == 0:
                return x[0]
            return x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - loss) / (y[i - 1] - value)
    return None


def common_loss(runs: Sequence[RunRecord]) -> float:
    """Return the lowest validation loss that all of these runs reach."""
    return max(min(validation(run)) for run in runs)


def halfway_loss(runs: Sequence[RunRecord]) -> float:
    """Return the geometric mean of the lowest first loss and the lowest that all runs reach."""
    return math.sqrt(min(validation(run)[0] for run in runs) * common_loss(runs))


def pairs(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> dict[int, tuple[RunRecord, RunRecord]]:
    """Return by seed the runs of both sides, where both have validated."""
    other = {run.seed: run for run in b if validation(run)}
    return {r.seed: (r, other[r.seed]) for r in a if validation(r) and r.seed in other}


def time_to(
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
    by: str,
    loss_of: Callable[[Sequence[RunRecord]], float] = common_loss,
) -> tuple[dict[int, float], dict[int, float]]:
    """Return by seed how long each side takes to a loss that depends on both runs of the seed."""
    sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for seed, pair in pairs(a, b).items():
        loss = loss_of(pair)
        for side, run in zip(sides, pair, strict=True):
            if (time := reached(run, loss, by)) is not None:
                side[seed] = time
    return sides


# -- verdicts ---


def verdicts(group: Group) -> list[Verdict]:
    """Compare each norm with no norm; layer norm decides."""
    none, layer = group.usual("none", "layer")
    findings = [
        finding
        for norm in group.norms
        if group.kind(norm) != "none"
        for finding in _findings(group, norm, none, norm == layer)
    ]
    return [Verdict(STATEMENT.claim, findings)]


def _findings(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    runs, without = (group.at_best_rate({"norm": name}) for name in (norm, none))
    faster = [
        fewer(
            f"{norm} takes fewer {unit} than {none} to the same validation loss",
            f"{none}'s {unit}",
            *time_to(runs, without, by),
            decides and by != ("seconds" if group.has_speeds else "seconds side by side"),
        )
        for by, unit in ways_of(group, TIMES).items()
    ]
    halfway = fewer(
        f"{norm} takes fewer updates than {none} to the loss halfway there",
        f"{none}'s updates",
        *time_to(runs, without, "update", halfway_loss),
    )
    better = f"{norm} ends with a higher {group.split} BLEU than {none}"
    scores = (by_seed(runs, group.bleu), by_seed(without, group.bleu))
    return [*faster, halfway, higher(better, "BLEU", *scores)]


# -- charts ---


def charts(group: Group) -> list[Chart]:
    """Return curves by update, second and token; times to a loss; the loss by learning rate."""
    means = "Mean over seeds" if group.has_several_seeds else "One seed of each norm"
    if group.searches_rates:
        means += ", each norm at its best learning rate"
    shaded = "; shaded: from the {} to the {} seed" if group.has_several_seeds else ""
    caption = f"{means}{shaded.format('lowest', 'highest')}."
    batch = " Batch norm uses the running averages of training." if group.variants("batch") else ""
    found = [
        Chart(
            name,
            title,
            caption + (batch if kind == "valid" else ""),
            [_curves(group, kind, key, title, by) for by in ways_of(group, X_LABELS)],
        )
        for name, (kind, key, title) in QUANTITIES.items()
    ]
    found.append(_times_to_losses(group, means + shaded.format("fastest", "slowest")))
    if len(group.values(RATE)) > 1:
        lines = mean_by(group, RATE, valid_loss)
        panel = Panel("by rate", "learning rate", LOSS_LABEL, lines, log_x=True)
        of = "Of the checkpoint with the best validation BLEU; mean over seeds and their range."
        found.append(Chart("loss_by_rate", "Validation loss by learning rate", of, [panel]))
    return found


def _curves(group: Group, kind: str, key: str, title: str, by: str) -> Panel:
    lines = norm_lines(group, lambda run: run.series(kind, key, by))
    return Panel(
        f"by {by}", X_LABELS[by], title, lines, log_y=key != "bleu", smooths=kind == "train"
    )


def _times_to_losses(group: Group, means: str) -> Chart:
    """Return how long each norm takes to each loss, from the first validations' to the lowest."""
    by_norm = [group.at_best_rate({"norm": norm}) for norm in group.norms]
    known = [kept for runs in by_norm if (kept := [run for run in runs if validation(run)])]
    ends = [common_loss(runs) for runs in known]
    first = min((validation(run)[0] for runs in known for run in runs), default=0.0)
    scale = [max(loss, LEAST) for loss in (min(ends, default=0.0), first)]
    losses = sorted({*ends, *np.geomspace(scale[0], scale[1], LOSSES).tolist()}) if known else []

    def times(run: RunRecord, by: str) -> Series:
        found = {loss: time for loss in losses if (time := reached(run, loss, by)) is not None}
        return list(found), list(found.values())

    panels = [
        Panel(
            f"by {by}",
            LOSS_LABEL,
            f"{unit} to reach it",
            norm_lines(group, partial(times, by=by)),
            log_x=True,
        )
        for by, unit in ways_of(group, TIMES).items()
    ]
    return Chart(
        "time_to_loss",
        "Updates and seconds to reach a validation loss",
        f"{means}. A line ends at the lowest loss that all seeds of its norm reach.",
        panels,
    )


EXPERIMENT = Experiment(
    "convergence",
    STATEMENT,
    Design(("norm.", RATE), compares_norms=True),
    ("none", "layer"),
    verdicts,
    charts,
)
