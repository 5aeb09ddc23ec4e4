"""What sentences longer than those trained on do to each norm."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from ...runs.records import Group, RunRecord
from ..charts import Chart, Line, Panel
from .lines import Series, norm_line, norm_lines
from .verdict import Finding, Verdict, difference, less_than_half, minus, needs

QUANTITIES = {
    "bleu": "BLEU",
    "nll": "loss (nats/token)",
    "length_ratio": "characters of translation / reference",
}


def within_and_beyond(
    run: RunRecord, key: str, statistics: str = "running"
) -> tuple[float, float] | None:
    """A figure of the longest bucket within what was trained on, and its mean over the buckets
    beyond.

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
    """Which part of the BLEU is lost on longer sentences, in %: the better model has more of it to
    lose.
    """
    found = within_and_beyond(run, "bleu", statistics)
    return None if found is None or not found[0] else 100 * (1 - found[1] / found[0])


@dataclass(frozen=True)
class Measure:
    """One way to tell what longer sentences cost."""

    judged: str
    key: str
    """Of the probe's lines."""
    better: str
    """Than none, in words."""
    below: float | None
    """0 where less is better."""
    unit: str
    lost: Callable[..., float | None]
    """(run, statistics) -> what they cost."""
    lost_unit: str

    def beyond(self, run: RunRecord) -> float | None:
        """What a run has beyond what it was trained on."""
        found = within_and_beyond(run, self.key)
        return None if found is None else found[1]


MEASURES = [
    Measure("By the loss:", "nll", "a lower loss", 0.0, "nats/token", gained_loss, "nats/token"),
    Measure(
        "By the translations:",
        "bleu",
        "a higher BLEU",
        None,
        "BLEU",
        lost_bleu,
        "percentage points of the BLEU",
    ),
]


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Batch norm has to lose more than no norm, and layer norm less than half of what batch norm
    loses beyond that.

    A verdict of the loss, where every word is given those of the reference before it, and one of
    the translations.
    """
    missing = needs(group, "none", "batch", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    return [Verdict(f"{measure.judged} {claim}", _findings(group, measure)) for measure in MEASURES]


def _findings(group: Group, measure: Measure) -> list[Finding]:
    none, batch, layer = (group.variants(kind)[0] for kind in ("none", "batch", "layer"))
    lost = {norm: group.paired(measure.lost, norm=norm) for norm in group.norms}
    more = {norm: minus(lost[norm], lost[none]) for norm in (batch, layer)}
    own_statistics = partial(measure.lost, statistics="batch")
    breaks = [
        Finding(
            f"on longer sentences {norm} loses more than {none}",
            measure.lost_unit,
            difference(lost[norm], lost[none]),
            decides=norm == batch,
        )
        for norm in group.variants("batch")
    ]
    return [
        *breaks,
        less_than_half(
            f"what {layer} loses more than {none} is less than half of what {batch} does",
            measure.lost_unit,
            more[layer],
            more[batch],
            breaks[0],
        ),
        *(
            Finding(
                f"on longer sentences {norm}, by each batch's own statistics, loses more than"
                f" {none}",
                measure.lost_unit,
                difference(group.paired(own_statistics, norm=norm), lost[none]),
                decides=False,
            )
            for norm in group.variants("batch")
        ),
        *(
            Finding(
                f"on longer sentences {norm} loses less than {none}",
                measure.lost_unit,
                difference(lost[norm], lost[none]),
                below=0.0,
                decides=False,
            )
            for norm in group.norms
            if group.kind(norm) not in ("none", "batch")
        ),
        *_better(group, measure, none),
    ]


def _better(group: Group, measure: Measure, none: str) -> list[Finding]:
    """Of each norm, whatever it was within what it was trained on."""
    reached = {norm: group.paired(measure.beyond, norm=norm) for norm in group.norms}
    return [
        Finding(
            f"on longer sentences {norm} has {measure.better} than {none}",
            measure.unit,
            difference(reached[norm], reached[none]),
            below=measure.below,
            decides=False,
        )
        for norm in group.norms
        if norm != none
    ]


def charts(group: Group) -> list[Chart]:
    """Loss, BLEU and length of the translations by the source's length."""
    trained = max((p["trained"] for run in group.runs for p in run.probed("length")), default=0)
    panels = [
        Panel(
            label.partition(" (")[0],
            "source pieces (end of the bucket)",
            label,
            _lines(group, key),
            marks={"longest trained on": trained},
        )
        for key, label in QUANTITIES.items()
    ]
    return [
        Chart(
            "by_length",
            "Quality by length of the source",
            "Mean over seeds and their range, at the end of each bucket. Right of the mark: longer"
            f" than any training sentence.{_of_own_statistics(group)}",
            panels,
        )
    ]


def _of_own_statistics(group: Group) -> str:
    """What a legend means by them."""
    return (
        " Batch norm's stored statistics end with the last step that enough training sentences"
        " reach, the decoder's with one of the target. Own statistics: each batch is normalised by"
        " its own, in the search by those of the step that it is at."
        if group.variants("batch")
        else ""
    )


def _lines(group: Group, key: str) -> list[Line]:
    lines = norm_lines(group, lambda run: by_length(run, key))
    return lines + [
        norm_line(
            group,
            norm,
            lambda run: by_length(run, key, "batch"),
            group.of(norm=norm),
            f"{norm}, own statistics",
            len(group.variants("batch")) + group.variant(norm),
        )
        for norm in group.variants("batch")
    ]


def by_length(run: RunRecord, key: str, statistics: str = "running") -> Series:
    """(most pieces of each bucket, a figure)."""
    found = run.probed("length", statistics=statistics)
    return [p["pieces"] for p in found], [p[key] for p in found]
