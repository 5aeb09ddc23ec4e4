"""Statistics over seeds: Student's interval, what it says of a claim, and the detectable effect."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import special  # loads in a third of the time of scipy.stats

CONFIDENCE = 0.95
POWER = 0.8


class Outcome(Enum):
    """What measurements say of a claim."""

    supported = "supported"
    refuted = "refuted"
    undecided = "undecided"


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


def detectable_effect(values: Sequence[float]) -> float:
    """Return the smallest true mean that so many seeds, spread as these, detect with 80% power.

    By the noncentral t distribution; infinite for one seed.
    """
    n = len(values)
    if n < 2:
        return math.inf
    return float(special.nctdtrinc(n - 1, 1 - POWER, _quantile(n))) * _standard_error(values)


def both(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a claim of several parts: refuted if one is, supported if all are."""
    if Outcome.refuted in outcomes:
        return Outcome.refuted
    return Outcome.supported if all(o is Outcome.supported for o in outcomes) else Outcome.undecided
