"""What sentences longer than those trained on do to each norm."""

from collections.abc import Callable
from statistics import fmean

from ..charts import Chart, Line, Panel
from ..records import Group, RunRecord
from .lines import Series, norm_line, norm_lines
from .verdict import Finding, Verdict, difference, minus, needs

QUANTITIES = {"nll": "loss (nats/token)", "bleu": "BLEU", "length_ratio": "characters of translation / reference"}


def within_and_beyond(run: RunRecord, key: str, statistics: str = "running") -> tuple[float, float] | None:
    """A figure of the longest bucket within what was trained on, and its mean over the buckets beyond.

    A bucket that has sentences of both sides counts on neither.
    """
    found = run.probed("length", statistics=statistics)
    within = [p[key] for p in found if p["pieces"] <= p["trained"]]
    beyond = [p[key] for p in found if p["over"] >= p["trained"]]
    return (float(within[-1]), fmean(beyond)) if within and beyond else None


def gained_loss(run: RunRecord, statistics: str = "running") -> float | None:
    """By how much the loss is higher on longer sentences, in nats a token."""
    found = within_and_beyond(run, "nll", statistics)
    return None if found is None else found[1] - found[0]


def lost_bleu(run: RunRecord, statistics: str = "running") -> float | None:
    """Which part of the BLEU is lost on longer sentences, in %: the better model has more of it to lose."""
    found = within_and_beyond(run, "bleu", statistics)
    return None if found is None or not found[0] else 100 * (1 - found[1] / found[0])


LOSSES: dict[tuple[str, str], Callable[..., float | None]] = {
    ("By the loss:", "nats/token"): gained_loss, ("By the translations:", "% of the BLEU"): lost_bleu}
"""What longer sentences cost, and its unit."""


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Batch norm has to lose more than no norm, and layer norm less than half of what batch norm loses beyond that.

    A verdict of the loss, where every word is given those of the reference before it, and one of the translations.
    """
    missing = needs(group, "none", "batch", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    return [Verdict(f"{judged} {claim}", _findings(group, unit, lost)) for (judged, unit), lost in LOSSES.items()]


def _findings(group: Group, unit: str, lost: Callable[..., float | None]) -> list[Finding]:
    losses, findings = {norm: group.paired(lost, norm=norm) for norm in group.norms}, []
    none, batch, layer = (group.variants(kind)[0] for kind in ("none", "batch", "layer"))
    for norm in group.variants("batch"):
        findings.append(Finding(f"on longer sentences {norm} loses more than {none}", unit,
                                difference(losses[norm], losses[none]), decides=norm == batch))
        own = group.paired(lambda run: lost(run, statistics="batch"), norm=norm)
        findings.append(Finding(f"{norm}, normalising by each batch's own statistics, loses more than {none}", unit,
                                difference(own, losses[none]), decides=False))
    more = {norm: minus(losses[norm], losses[none]) for norm in (batch, layer)}
    return [*findings, Finding(f"{layer} loses less, beyond {none}, than half of what {batch} does", unit,
                               difference(more[batch], more[layer], scale=0.5))]


def charts(group: Group) -> list[Chart]:
    """Loss, BLEU and length of the translations by the source's length."""
    trained = max((p["trained"] for run in group.runs for p in run.probed("length")), default=0)
    panels = [Panel(label.partition(" (")[0], "source pieces (end of the bucket)", label,
                    _lines(group, key), marks={"longest trained on": trained}) for key, label in QUANTITIES.items()]
    return [Chart("by_length", "Quality by length of the source",
                  "Mean over seeds and their range, at the end of each bucket. Right of the dotted line: longer than "
                  "any training sentence.", panels)]


def _lines(group: Group, key: str) -> list[Line]:
    lines = norm_lines(group, lambda run: by_length(run, key))
    return lines + [norm_line(group, norm, lambda run: by_length(run, key, "batch"), group.of(norm=norm),
                              f"{norm}, the batch's own statistics", group.variant(norm) + 2)
                    for norm in group.variants("batch")]


def by_length(run: RunRecord, key: str, statistics: str = "running") -> Series:
    """(most pieces of each bucket, a figure)."""
    found = run.probed("length", statistics=statistics)
    return [p["pieces"] for p in found], [p[key] for p in found]
