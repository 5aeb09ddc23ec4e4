"""What an experiment's runs say of its claim: findings by seed, and their verdict."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..groups import Group, Values
from ..statistics import (
    CONFIDENCE,
    Interval,
    Outcome,
    both,
    by_regime,
    detectable_effect,
    holm,
    interval,
    outcome,
    p_value,
)


@dataclass
class Finding:
    """One value a seed, mostly the difference of two norms, and the bound that a claim names."""

    statement: str
    """What holds where the value is on the side claimed."""
    unit: str = ""
    differences: list[float] = field(default_factory=list)
    above: float = 0.0
    """The bound that they exceed according to the claim."""
    below: float | None = None
    """The bound that they stay below; None where `above` is the bound."""
    log2: bool = False
    """Whether values and bound are binary logarithms, to be shown as factors."""
    decides: bool = True
    """Whether the claim's verdict depends on it; otherwise it is reported only."""
    exact: Outcome | None = None
    """The outcome where no chance is involved, such as a threshold that is kept."""
    detail: str = ""
    """What was measured for an exact finding."""
    remark: str = ""
    """What a reader has to know about the value."""
    given: "Finding | None" = None
    """The finding without which this one says less: that the other norm loses anything at all."""
    corrected: float | None = None
    """p after the correction for all findings of a report; None before it."""

    @property
    def _beyond(self) -> list[float]:
        """By how much each value is on the side claimed."""
        above, below = self.above, self.below
        return [d - above if below is None else below - d for d in self.differences]

    @property
    def p(self) -> float:
        """The probability of values at least as far from the bound, if their mean were on it.

        nan where no test is made: for exact findings and for fewer than two values.
        """
        return math.nan if self.exact else p_value(self._beyond)

    @property
    def alone(self) -> Outcome:
        """What the values say of the statement, as if it were the only one."""
        return self.exact or outcome(self._beyond)

    @property
    def outcome(self) -> Outcome:
        """What the values say of the statement, corrected for the number of findings."""
        if self.corrected is not None and self.corrected >= 1 - CONFIDENCE:
            return Outcome.undecided
        return self.alone

    @property
    def interval(self) -> Interval:
        """The mean value and its interval."""
        return interval(self.differences)

    def _number(self, value: float) -> str:
        return f"{2**value:.3g}" if self.log2 else f"{value:+.3g}"

    @property
    def in_words(self) -> str:
        """The mean value, its unit, its interval and the claim, as text."""
        if self.exact or not self.differences:
            return self.detail or "no seed has both sides"
        text = self.interval.text(self._number, f" {'times ' if self.log2 else ''}{self.unit}")
        if self.below is not None or self.above:
            word, bound = ("above", self.above) if self.below is None else ("below", self.below)
            text += f"; claimed: {word} {2**bound if self.log2 else bound:g}"
        if self.corrected is not None:
            text += f"; p = {self.p:.2g}, corrected {self.corrected:.2g}"
            text += "" if self.alone is self.outcome else f"; exploratory: {self.alone.value}"
        if self.given is not None and self.given.outcome is not Outcome.supported:
            text += "; it is not established that the other norm loses more at all"
        return text + (f"; {self.remark}" if self.remark else "")

    @property
    def smallest(self) -> str:
        """The detectable effect (80% power), as text."""
        effect = detectable_effect(self.differences)
        if not math.isfinite(effect):
            return "–"
        factor = 2 ** (effect if self.below is None else -effect)
        return f"{factor:.3g} times" if self.log2 else f"{effect:.3g}"


@dataclass
class Verdict:
    """A claim, what was found, and what that says of the claim."""

    claim: str
    findings: list[Finding] = field(default_factory=list)
    missing: str = ""
    """Which runs are missing; empty if there are enough."""
    regimes: bool = False
    """Whether each finding is the claim in another regime, with an outcome of its own."""

    @property
    def outcome(self) -> Outcome:
        """The outcome of all findings that decide; never supported if a part is missing."""
        deciding = [f.outcome for f in self.findings if f.decides]
        if self.missing or not deciding:
            deciding.append(Outcome.undecided)
        return by_regime(deciding) if self.regimes else both(deciding)


def correct(verdicts: Iterable[Verdict]) -> None:
    """Correct the findings that decide these verdicts for their number, by Holm's method."""
    deciding = [f for verdict in verdicts for f in verdict.findings if f.decides]
    for finding, corrected in zip(deciding, holm([f.p for f in deciding]), strict=True):
        finding.corrected = None if math.isnan(corrected) else corrected


# -- findings that compare two sides ---


def minus(a: Values, b: Values) -> Values:
    """Return a - b for each seed that both have."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def difference(a: Values, b: Values) -> list[float]:
    """Return a - b for each seed that both have, as a list."""
    return list(minus(a, b).values())


def doublings(a: Values, b: Values) -> list[float]:
    """Return log2(a / b) for each seed that both have."""
    return [math.log2(a[seed] / b[seed]) for seed in sorted(a.keys() & b.keys())]


def higher(statement: str, unit: str, a: Values, b: Values, decides: bool = False) -> Finding:
    """Return the finding that a is above b."""
    return Finding(statement, unit, difference(a, b), decides=decides)


def lower(statement: str, unit: str, a: Values, b: Values, decides: bool = False) -> Finding:
    """Return the finding that a is below b."""
    return Finding(statement, unit, difference(a, b), below=0.0, decides=decides)


def fewer(statement: str, unit: str, a: Values, b: Values, decides: bool = False) -> Finding:
    """Return the finding that a is a part of b, shown as a factor."""
    return Finding(statement, unit, doublings(a, b), below=0.0, log2=True, decides=decides)


def less_than_half(statement: str, own: Values, other: Values, loses: Finding) -> Finding:
    """Return the finding that a norm loses less than half of what another one does.

    `loses` is the finding that the other one loses anything.
    """
    half = {seed: 0.5 * lost for seed, lost in other.items()}
    found = lower(statement, f"{loses.unit} above that half", own, half, decides=True)
    found.given = loses
    return found


# -- what is missing ---


def needs(runs: Sequence[str]) -> str:
    """Return that these runs are missing; "" if there are none."""
    return f"needs runs with {' and '.join(runs)}" if runs else ""


def absent(group: Group, kinds: Sequence[str]) -> str:
    """Return which of these kinds of norm no run of the group has, as text."""
    return needs([f"norm={kind}" for kind in kinds if not group.variants(kind)])
