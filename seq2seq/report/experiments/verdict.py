"""What an experiment's runs say of its claim."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...runs.records import Group, RunRecord
from ..statistics import Interval, Outcome, both, interval, outcome, smallest_effect

RULE = (
    "For each seed one figure is taken, of which the claim says that it is above 0, or above or"
    " below the one given. Supported: the whole of Student's 95% confidence interval of their mean"
    " lies on the side claimed. Refuted: all of it lies on the other side. Undecided: it lies"
    " across. A claim of several parts is supported if every part is, and refuted if any is; what"
    " is reported only does not count. Nothing is corrected for the number of rows: of those that"
    " compare with 0 one in twenty comes out supported or refuted without any effect. What shows 4"
    " times in 5: so far from 0, or from the figure given, the mean has to lie for so many seeds,"
    " spread as these are, to be told from it in four of five repetitions; of what is told as times"
    " something: so far from 1."
)


@dataclass
class Finding:
    """One figure of each seed, mostly a norm's less another's; the claim says on which side of a
    bound it is.
    """

    statement: str
    """What it means where the figure is on that side."""
    unit: str
    differences: list[float]
    above: float = 0.0
    """Of which they are to be more."""
    below: float | None = None
    """Of which they are to be less, where that is the claim."""
    log2: bool = False
    """The differences are of logarithms to base 2, and so is the bound; told as factors."""
    decides: bool = True
    """Whether the claim's verdict depends on it; the others are told beside it."""
    exact: Outcome | None = None
    """Of what is no matter of chance: a threshold kept or not."""
    detail: str = ""
    """Of an exact finding: what was measured."""
    remark: str = ""
    """What to bear in mind as one reads it."""

    @property
    def outcome(self) -> Outcome:
        """By the rule, or as it is."""
        beyond = [
            d - self.above if self.below is None else self.below - d for d in self.differences
        ]
        return self.exact or (outcome(beyond) if beyond else Outcome.undecided)

    @property
    def interval(self) -> Interval:
        """Of the mean difference."""
        return interval(self.differences)

    def told(self, value: float) -> str:
        """A figure in words: +0.31, 0.59."""
        if not math.isfinite(value):
            return "–"
        return f"{2**value:.3g}" if self.log2 else f"{value:+.3g}"

    @property
    def in_words(self) -> str:
        """What was measured: the mean difference, its unit and its interval."""
        if self.exact or not self.differences:
            return self.detail or "no seed has both sides"
        found = self.interval
        between = (
            f" ({self.told(found.low)} to {self.told(found.high)})"
            if len(self.differences) > 1
            else ""
        )
        figure = (
            f"{self.told(found.mean)} times {self.unit}"
            if self.log2
            else f"{self.told(found.mean)} {self.unit}"
        )
        return f"{figure}{between}{self._claimed}{self.remark and f'; {self.remark}'}"

    @property
    def _claimed(self) -> str:
        """On which side of what it is to be; nothing where that is above 0."""
        if self.below is None and not self.above:
            return ""
        word, bound = ("above", self.above) if self.below is None else ("below", self.below)
        return f"; claimed: {word} {2**bound if self.log2 else bound:g}"

    @property
    def smallest(self) -> str:
        """The smallest mean, from the bound, that so many seeds show with probability 0.8: in
        words.
        """
        effect = smallest_effect(self.differences)
        if not math.isfinite(effect):
            return "–"
        return (
            f"{2 ** (-effect if self.below is not None else effect):.3g} times"
            if self.log2
            else f"{effect:.3g}"
        )


@dataclass
class Verdict:
    """A claim, what was found, and what that says of it."""

    claim: str
    findings: list[Finding] = field(default_factory=list)
    missing: str = ""
    """Which runs it would take, where there are not enough."""

    @property
    def outcome(self) -> Outcome:
        """Of all findings that decide; not supported where a part is missing."""
        deciding = [f.outcome for f in self.findings if f.decides]
        return both([*deciding, Outcome.undecided] if self.missing or not deciding else deciding)


Figures = Mapping[int, float]
"""seed -> a run's figure."""


def difference(a: Figures, b: Figures, scale: float = 1.0) -> list[float]:
    """a - scale * b, of each seed that has both."""
    return list(minus(a, b, scale).values())


def doublings(a: Figures, b: Figures) -> list[float]:
    """log2(a / b), of each seed that has both."""
    return [math.log2(a[seed] / b[seed]) for seed in sorted(a.keys() & b.keys())]


def minus(a: Figures, b: Figures, scale: float = 1.0) -> dict[int, float]:
    """a - scale * b, by seed."""
    return {seed: a[seed] - scale * b[seed] for seed in sorted(a.keys() & b.keys())}


def less_than_half(
    statement: str, unit: str, own: Figures, other: Figures, loses: Finding
) -> Finding:
    """That a norm's own loss is less than half of the other one's; `loses` is that the other one
    loses at all.
    """
    unsure = (
        ""
        if loses.outcome is Outcome.supported
        else "that there is something to halve is not shown"
    )
    return Finding(
        statement,
        f"{unit} from that half",
        difference(own, other, scale=0.5),
        below=0.0,
        remark=unsure,
    )


def needs(group: Group, *kinds: str) -> str:
    """Which of these kinds of norm no run of the group has."""
    absent = [kind for kind in kinds if not group.variants(kind)]
    return f"needs runs with {' and '.join(f'norm={kind}' for kind in absent)}" if absent else ""


def valid_loss(run: RunRecord) -> float | None:
    """Of the checkpoint that is scored, in nats a token."""
    return None if run.results is None else float(run.results["valid_loss"])
