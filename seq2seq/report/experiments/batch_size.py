"""What small batches do to each norm, at equal numbers of sentences seen."""

from statistics import fmean

from ...runs.records import Group, by_seed
from ..charts import Chart, Panel
from .convergence import at_best_rate
from .lines import mean_by
from .verdict import Figures, Finding, Verdict, less_than_half, minus, needs, valid_loss

KEY = "data.batch_sentences"
SMALL, LARGE = 4, 64
LEARNED = 10.0
"""BLEU that each has to reach in the large batches: else there was nothing to lose ground on."""


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Batch norm has to lose ground on no norm between 64 sentences and 4; layer norm less than
    half as much.
    """
    missing = needs(group, "none", "batch", "layer") or _unfit(group)
    if missing:
        return [Verdict(claim, missing=missing)]
    none, batch, layer = (group.variants(kind)[0] for kind in ("none", "batch", "layer"))
    behind = {
        (norm, size): minus(_losses(group, norm, size), _losses(group, none, size))
        for norm in (batch, layer)
        for size in sorted(group.values(KEY))
    }
    lost = {norm: minus(behind[norm, SMALL], behind[norm, LARGE]) for norm in (batch, layer)}
    unit = "nats/token"
    breaks = Finding(
        f"from {LARGE} sentences a batch to {SMALL}, {batch} loses ground on {none}",
        unit,
        list(lost[batch].values()),
    )
    return [
        Verdict(
            claim,
            [
                breaks,
                less_than_half(
                    f"what {layer} loses on {none} is less than half of what {batch} does",
                    unit,
                    lost[layer],
                    lost[batch],
                    breaks,
                ),
                Finding(
                    f"from {LARGE} sentences a batch to {SMALL}, {layer} gains ground on {none}",
                    unit,
                    list(lost[layer].values()),
                    below=0.0,
                    decides=False,
                ),
                *(
                    Finding(
                        f"at {size} sentences a batch, {norm} ends with a lower loss than {none}",
                        unit,
                        list(figures.values()),
                        below=0.0,
                        decides=False,
                    )
                    for (norm, size), figures in behind.items()
                ),
            ],
        )
    ]


def _unfit(group: Group) -> str:
    """What is missing for a verdict; empty where nothing is."""
    norms = {kind: group.variants(kind)[0] for kind in ("none", "batch", "layer")}
    absent = [
        f"norm={kind} {KEY}={size}"
        for kind, norm in norms.items()
        for size in (SMALL, LARGE)
        if not group.of(norm=norm, **{KEY: size})
    ]
    if absent:
        return f"needs runs with {' and '.join(absent)}"
    reached = {
        norm: fmean(map(group.bleu, at_best_rate(group, norm, **{KEY: LARGE})))
        for norm in norms.values()
    }
    worst = min(reached, key=lambda norm: reached[norm])
    if reached[worst] < LEARNED:
        return (
            f"needs longer training: at {LARGE} sentences a batch {worst} ends with"
            f" {reached[worst]:.1f} BLEU, and what has not learned to translate ({LEARNED:g} BLEU)"
            " can't lose ground"
        )
    return ""


def _losses(group: Group, norm: str, size: int) -> Figures:
    """seed -> final validation loss in batches of this size."""
    return by_seed(at_best_rate(group, norm, **{KEY: size}), valid_loss)


def charts(group: Group) -> list[Chart]:
    """Final loss and BLEU by size of batch."""
    x = "sentences a batch"
    loss = mean_by(group, KEY, valid_loss, at_best_rate)
    bleu = mean_by(group, KEY, group.bleu, at_best_rate)
    panels = [
        Panel("BLEU", x, f"{group.split} BLEU", bleu, log_x=True),
        Panel("loss", x, "validation loss (nats/token)", loss, log_x=True),
    ]
    return [
        Chart(
            "by_batch_size",
            "Quality by size of batch",
            "Mean over seeds and their range. All runs see as many sentences, so that the larger"
            f" the batch, the fewer the updates{_updates(group)}.{_rates(group)}",
            panels,
        )
    ]


def _updates(group: Group) -> str:
    """Of the smallest and of the largest batches."""
    sizes = sorted(group.values(KEY))
    counts = {
        size: fmean(run.results["update"] for run in group.of(**{KEY: size}) if run.results)
        for size in [*sizes[:1], *sizes[-1:]]
    }
    told = " and ".join(f"{count:,.0f} of {size} sentences" for size, count in counts.items())
    return f": {told}" if told else ""


def _rates(group: Group) -> str:
    """That they differ, where they do."""
    rates = sorted(group.values("optimizer.lr"))
    return f" The learning rate goes from {rates[0]:g} to {rates[-1]:g}." if len(rates) > 1 else ""
