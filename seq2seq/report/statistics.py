"""Statistics over seeds: Student's interval, what it says of a claim, and the detectable effect."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8
Key = TypeVar("Key", bound=Hashable)


class Outcome(Enum):
    """What measurements say of a claim."""

    supported = "supported"
    refuted = "refuted"
    undecided = "undecided"
    depends = "depends"
    """Of a claim by regime: supported in one and refuted in another."""


@dataclass
class Interval:
    """Student's 95% confidence interval of a mean over seeds; infinite for one seed."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2

    def text(self, number: Callable[[float], str], unit: str = "") -> str:
        """Return "mean unit (low to high)"; without the interval for one seed."""
        between = f" ({number(self.low)} to {number(self.high)})"
        return number(self.mean) + unit + (between if math.isfinite(self.half) else "")


def interval(values: Sequence[float]) -> Interval:
    """Return Student's 95% confidence interval of the mean of independent values."""
    mean = float(np.mean(values))
    half = _quantile(len(values)) * _standard_error(values) if len(values) > 1 else math.inf
    return Interval(mean, mean - half, mean + half)


def _quantile(n: int) -> float:
    """Return half the width of the interval of n values, in standard errors."""
    from scipy import special  # not for single seeds: it takes as long as all else; stats thrice

    return float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def outcome(values: Sequence[float]) -> Outcome:
    """Return what differences, one a seed, say of the claim that they are positive.

    Supported if the whole interval of their mean is above 0, refuted if it is below 0. One value
    decides nothing, and nor does none.
    """
    found = interval(values if len(values) else [0.0])
    if found.low > 0:
        return Outcome.supported
    return Outcome.refuted if found.high < 0 else Outcome.undecided


def p_value(values: Sequence[float]) -> float:
    """Return p of Student's two-sided t-test that the mean of independent values is 0.

    It is below 0.05 where the 95% interval does not contain 0; nan for fewer than two values.
    """
    if len(values) < 2:
        return math.nan
    from scipy import special

    mean, error = float(np.mean(values)), _standard_error(values)
    if error == 0:
        return 0.0 if mean else 1.0
    return 2 * float(special.stdtr(len(values) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method (Holm 1979), in their order.

    To call those below 0.05 significant is wrong in any of them with a probability of at most 5%.
    nan, of what was not tested, stays and does not count.
    """
    found, least = [math.nan] * len(p_values), 0.0
    tested = (i for i, p in enumerate(p_values) if not math.isnan(p))
    order = sorted(tested, key=p_values.__getitem__)
    for place, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * p_values[i]))
        found[i] = least
    return found


def outcomes(differences: Mapping[Key, Sequence[float]]) -> dict[Key, Outcome]:
    """Return what several lists of differences say of the claim that they are positive.

    As `outcome` does of each alone, corrected for their number by Holm's method. Lists of fewer
    than two values decide nothing and do not count.
    """
    corrected = holm([p_value(of) for of in differences.values()])
    return {
        key: outcome(of) if p < 1 - CONFIDENCE else Outcome.undecided
        for (key, of), p in zip(differences.items(), corrected, strict=True)
    }


def detectable_effect(values: Sequence[float]) -> float:
    """Return the smallest true mean that so many seeds, spread as these, detect with 80% power.

    By the noncentral t distribution; infinite for one seed.
    """
    n = len(values)
    if n < 2:
        return math.inf
    from scipy import special

    return float(special.nctdtrinc(n - 1, 1 - POWER, _quantile(n))) * _standard_error(values)


def both(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a claim of several parts: refuted if one is, supported if all are."""
    if Outcome.refuted in outcomes:
        return Outcome.refuted
    return Outcome.supported if all(o is Outcome.supported for o in outcomes) else Outcome.undecided


def by_regime(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a claim in several regimes: what all are, else depends or undecided."""
    found = set(outcomes)
    if {Outcome.supported, Outcome.refuted} <= found:
        return Outcome.depends
    return found.pop() if len(found) == 1 else Outcome.undecided
