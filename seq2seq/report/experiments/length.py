"""What sentences longer than those of the training set do to each norm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from ...runs.entries import LengthBucket
from ...runs.records import RunRecord
from ..charts import Chart, Line, Panel
from ..groups import Design, Group
from .base import Experiment, Statement
from .lines import Series, norm_lines
from .verdict import Finding, Verdict, higher, less_than_half, lower, minus

QUANTITIES = {
    "bleu": "BLEU",
    "nll": "loss (nats/token)",
    "length_ratio": "characters of translation / reference",
}
STATEMENT = Statement(
    "Batch norm fails on sentences longer than those it was trained on; layer norm does not.",
    "Ba, Kiros & Hinton 2016, section 3.1: statistics for each time step are “problematic if a"
    " test sequence is longer than any of the training sequences”.",
    "From the longest bucket within the training lengths to those beyond, batch norm loses less"
    " than no norm does; or layer norm's extra loss, compared with no norm, is more than half of"
    " batch norm's. One verdict is by the loss, where the model is given the reference's earlier"
    " words. One is by the share of the translations' BLEU that is lost.",
)


def buckets(run: RunRecord, statistics: str = "running") -> list[LengthBucket]:
    """Return the buckets of a run, measured with these statistics of batch norm."""
    return [p for p in run.probed(LengthBucket) if p.statistics == statistics]


def within_and_beyond(
    run: RunRecord, key: str, statistics: str = "running"
) -> tuple[float, float] | None:
    """Return a quantity in the longest bucket of training lengths, and its mean in longer ones.

    A bucket with sentences on both sides counts on neither.
    """
    found = buckets(run, statistics)
    within = [getattr(p, key) for p in found if p.pieces <= p.trained]
    beyond = [getattr(p, key) for p in found if p.over >= p.trained]
    return (float(within[-1]), fmean(beyond)) if within and beyond else None


def gained_loss(run: RunRecord, statistics: str = "running") -> float | None:
    """Return by how much the loss is higher on longer sentences, in nats a token."""
    found = within_and_beyond(run, "nll", statistics)
    return None if found is None else found[1] - found[0]


def lost_bleu(run: RunRecord, statistics: str = "running") -> float | None:
    """Return the share of the BLEU that is lost on longer sentences, in %.

    It is a share because the better model has more BLEU to lose.
    """
    found = within_and_beyond(run, "bleu", statistics)
    return None if found is None or not found[0] else 100 * (1 - found[1] / found[0])


@dataclass(frozen=True)
class Measure:
    """One measure of what longer sentences cost."""

    name: str
    lost: Callable[..., float | None]
    """(run, statistics) -> what longer sentences cost"""
    lost_unit: str
    key: str
    """Its name in the probe's records."""
    unit: str
    better: str
    is_better: Callable[..., Finding]
    """`lower` or `higher`"""

    def beyond(self, run: RunRecord) -> float | None:
        """Return a run's value beyond the training lengths."""
        found = within_and_beyond(run, self.key)
        return None if found is None else found[1]


MEASURES = (
    Measure("loss", gained_loss, "nats/token", "nll", "nats/token", "a lower loss", lower),
    Measure(
        "translations",
        lost_bleu,
        "percentage points of its BLEU",
        "bleu",
        "BLEU",
        "a higher BLEU",
        higher,
    ),
)


def verdicts(group: Group) -> list[Verdict]:
    """Return a verdict by the loss and one by the translations."""
    return [
        Verdict(f"By the {measure.name}: {STATEMENT.claim}", _findings(group, measure))
        for measure in MEASURES
    ]


def _findings(group: Group, measure: Measure) -> list[Finding]:
    """Return whether batch norm loses more than no norm, and layer norm less than half of that."""
    none, batch, layer = group.usual("none", "batch", "layer")
    lost, beyond = group.by_norm(measure.lost), group.by_norm(measure.beyond)
    own = group.by_norm(partial(measure.lost, statistics="batch"))
    on, unit = "on longer sentences", measure.lost_unit
    variants = group.variants("batch")
    others = [norm for norm in group.norms if group.kind(norm) not in ("none", "batch")]
    found = [
        higher(f"{on} {n} loses more than {none}", unit, lost[n], lost[none], decides=n == batch)
        for n in variants
    ]
    more = {norm: minus(lost[norm], lost[none]) for norm in (batch, layer)}
    half = f"{layer}'s extra loss, compared with {none}, is less than half of {batch}'s"
    found.append(less_than_half(half, more[layer], more[batch], found[0]))
    for n in variants:
        text = f"{on} {n}, with each batch's own statistics, loses more than {none}"
        found.append(higher(text, unit, own[n], lost[none]))
    for n in others:
        found.append(lower(f"{on} {n} loses less than {none}", unit, lost[n], lost[none]))
    for n in group.norms:
        if n != none:
            text = f"{on} {n} has {measure.better} than {none}"
            found.append(measure.is_better(text, measure.unit, beyond[n], beyond[none]))
    return found


def charts(group: Group) -> list[Chart]:
    """Return loss, BLEU and length of the translations by the length of the source."""
    trained = max((p.trained for run in group.runs for p in buckets(run)), default=0)
    caption = (
        "Mean over seeds and their range, at the end of each bucket. Right of the mark: longer than"
        " any training sentence."
    )
    if group.variants("batch"):
        caption += (
            " Batch norm's stored statistics end with the last step that enough training sentences"
            " reach. Own statistics: each batch is normalised by its own statistics; in the search"
            " by those of the current step."
        )
    x_label, mark = "source pieces (end of the bucket)", "longest in training"
    panels = [
        Panel(label.partition(" (")[0], x_label, label, _lines(group, key), marks={mark: trained})
        for key, label in QUANTITIES.items()
    ]
    return [Chart("by_length", "Quality by length of the source", caption, panels)]


def _lines(group: Group, key: str) -> list[Line]:
    """Return a line for each norm, and one for each batch norm with each batch's statistics."""

    def series(run: RunRecord, statistics: str = "running") -> Series:
        found = buckets(run, statistics)
        return [p.pieces for p in found], [getattr(p, key) for p in found]

    own = norm_lines(group, partial(series, statistics="batch"))  # that of batch norm alone
    tint = len(group.variants("batch"))
    return norm_lines(group, series) + [
        replace(line, label=f"{line.label}, own statistics", variant=line.variant + tint)
        for line in own
    ]


EXPERIMENT = Experiment(
    "length",
    STATEMENT,
    Design(("norm.",)),
    ("none", "batch", "layer"),
    verdicts,
    charts,
)
