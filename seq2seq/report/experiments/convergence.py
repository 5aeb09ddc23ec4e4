"""Which norm trains faster, in updates and in seconds, each at the best of the rates tried for
it.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ...runs.records import Group, RunRecord, by_seed
from ..charts import Chart, Panel
from .lines import Series, mean_by, norm_lines
from .verdict import Finding, Verdict, difference, doublings, needs, valid_loss

X_LABELS = {
    "update": "update",
    "seconds": "seconds of training",
    "tokens": "target tokens trained on",
}
QUANTITIES = {
    "training_loss": ("train", "nll", "training loss (nats/token)"),
    "validation_loss": ("valid", "loss", "validation loss (nats/token)"),
    "validation_bleu": ("valid", "bleu", "validation BLEU (greedy)"),
}
LOSSES = 50
"""So many, evenly on a logarithmic scale, are asked how long it took to reach them."""


def best_rate(group: Group, norm: str, **wanted: Any) -> float:
    """The rate whose final validation loss, mean over seeds, is the lowest for this norm with these
    settings.

    Of those rates alone that have the most seeds: the ones that got through a rate too high would
    speak for it.
    """
    rates = {run.config.optimizer.lr for run in group.of(norm=norm, **wanted)}
    losses = {
        rate: list(group.paired(valid_loss, norm=norm, optimizer__lr=rate, **wanted).values())
        for rate in sorted(rates)
    }
    most = max(map(len, losses.values()))
    return min(
        (rate for rate in losses if len(losses[rate]) == most),
        key=lambda rate: fmean(losses[rate] or [0.0]),
    )


def at_best_rate(group: Group, norm: str, **wanted: Any) -> list[RunRecord]:
    """A norm's runs with these settings at its best rate, by seed; none where there are none."""
    if not group.of(norm=norm, **wanted):
        return []
    return group.of(norm=norm, optimizer__lr=best_rate(group, norm, **wanted), **wanted)


def reached(run: RunRecord, loss: float, by: str = "update") -> float | None:
    """The update, or second, at which the validation loss first was as low; between validations, by
    a straight line.
    """
    x, y = run.series("valid", "loss", by)
    for i, value in enumerate(y):
        if value <= loss:
            if i == 0:
                return x[0]
            return x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - loss) / (y[i - 1] - value)
    return None


def with_curves(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Those that have logged a validation."""
    return [run for run in runs if run.series("valid", "loss")[1]]


def common_loss(runs: Sequence[RunRecord]) -> float:
    """The lowest validation loss that all of these runs have reached."""
    return max(min(run.series("valid", "loss")[1]) for run in runs)


def halfway_loss(runs: Sequence[RunRecord]) -> float:
    """Between the lowest of the first validations' and the lowest that all reach, on a logarithmic
    scale.
    """
    return math.sqrt(min(run.series("valid", "loss")[1][0] for run in runs) * common_loss(runs))


def pairs(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> dict[int, tuple[RunRecord, RunRecord]]:
    """seed -> its run of both sides, of the seeds whose runs have curves on both."""
    other = {run.config.seed: run for run in with_curves(b)}
    return {
        run.config.seed: (run, other[run.config.seed])
        for run in with_curves(a)
        if run.config.seed in other
    }


def time_to(
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
    by: str,
    loss_of: Callable[[Sequence[RunRecord]], float] = common_loss,
) -> tuple[dict[int, float], dict[int, float]]:
    """seed -> how long each side takes to a loss that is told from the two runs of that seed."""
    sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for seed, pair in pairs(a, b).items():
        loss = loss_of(pair)
        for side, run in zip(sides, pair, strict=True):
            if (time := reached(run, loss, by)) is not None:
                side[seed] = time
    return sides


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Layer norm beside no norm decides; the other norms are told too."""
    missing = needs(group, "none", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    none, layer = group.variants("none")[0], group.variants("layer")[0]
    without, findings = at_best_rate(group, none), []
    for norm in (norm for norm in group.norms if group.kind(norm) != "none"):
        runs = at_best_rate(group, norm)
        for by, unit in (("update", "updates"), ("seconds", "seconds of training")):
            findings.append(
                Finding(
                    f"{norm} takes fewer {unit} than {none} to the same validation loss",
                    f"{none}'s {unit}",
                    doublings(*time_to(runs, without, by)),
                    below=0.0,
                    log2=True,
                    decides=norm == layer,
                )
            )
        findings.append(
            Finding(
                f"{norm} takes fewer updates than {none} to the loss halfway there",
                f"{none}'s updates",
                doublings(*time_to(runs, without, "update", halfway_loss)),
                below=0.0,
                log2=True,
                decides=False,
            )
        )
        findings.append(
            Finding(
                f"{norm} ends with a higher {group.split} BLEU than {none}",
                "BLEU",
                difference(by_seed(runs, group.bleu), by_seed(without, group.bleu)),
                decides=False,
            )
        )
    return [Verdict(claim, findings)]


def charts(group: Group) -> list[Chart]:
    """Losses and BLEU by update, second and token; the time to each loss; the final loss by rate,
    where it varies.
    """
    means = (
        "Mean over seeds, each norm at its best rate" if group.searches_rates else "Mean over seeds"
    )
    caption = f"{means}; shaded: from the lowest to the highest seed."
    stored = " Batch norm's by the running averages of training." if group.variants("batch") else ""
    found = [
        Chart(
            name,
            title,
            caption + (stored if kind == "valid" else ""),
            [_panel(group, kind, key, title, by) for by in X_LABELS],
        )
        for name, (kind, key, title) in QUANTITIES.items()
    ]
    found.append(_times_to_losses(group, means))
    by_rate = Panel(
        "by rate",
        "learning rate",
        "validation loss (nats/token)",
        mean_by(group, "optimizer.lr", valid_loss),
        log_x=True,
    )
    if len(group.values("optimizer.lr")) > 1:
        found.append(
            Chart(
                "loss_by_rate",
                "Validation loss by learning rate",
                "Of the checkpoint with the best validation BLEU; mean over seeds and their range.",
                [by_rate],
            )
        )
    return found


def _times_to_losses(group: Group, means: str) -> Chart:
    """How long each norm takes to each loss from the lowest of the first validations' down to the
    lowest of all.
    """
    known = [runs for norm in group.norms if (runs := with_curves(at_best_rate(group, norm)))]
    ends = [common_loss(runs) for runs in known]
    first = min((run.series("valid", "loss")[1][0] for runs in known for run in runs), default=0.0)
    losses = sorted({*ends, *np.geomspace(min(ends), first, LOSSES).tolist()}) if known else []

    panels = [
        Panel(
            f"by {by}",
            "validation loss (nats/token)",
            label,
            norm_lines(group, _times_to(losses, by), at_best_rate),
            log_x=True,
        )
        for by, label in (
            ("update", "updates to reach it"),
            ("seconds", "seconds of training to reach it"),
        )
    ]
    return Chart(
        "time_to_loss",
        "Updates and seconds to reach a validation loss",
        f"{means}; shaded: from the fastest to the slowest seed. A line ends at the lowest loss"
        " that all seeds of its norm reach.",
        panels,
    )


def _times_to(losses: Sequence[float], by: str) -> Callable[[RunRecord], Series]:
    """A run -> those of the losses that it reaches, and when."""

    def line(run: RunRecord) -> Series:
        times = {loss: time for loss in losses if (time := reached(run, loss, by)) is not None}
        return list(times), list(times.values())

    return line


def _panel(group: Group, kind: str, key: str, title: str, by: str) -> Panel:
    lines = norm_lines(group, lambda run: run.series(kind, key, by), at_best_rate)
    return Panel(
        f"by {by}", X_LABELS[by], title, lines, log_y=key != "bleu", smooths=kind == "train"
    )
