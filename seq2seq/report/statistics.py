"""Differences over seeds: Student's interval, what it says of a claim, and the smallest effect it
could have shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import special  # a second less than scipy.stats takes to load

CONFIDENCE = 0.95
POWER = 0.8


class Outcome(Enum):
    """What measurements say of a claim."""

    supported = "supported"
    refuted = "refuted"
    undecided = "undecided"


@dataclass
class Interval:
    """Of a mean over seeds: Student's, at 95%. Without an end where there is one seed."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


def interval(values: Sequence[float]) -> Interval:
    """Student's 95% confidence interval of the mean of independent values."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    half = _quantile(n) * _standard_error(values)
    return Interval(mean, mean - half, mean + half)


def _quantile(n: int) -> float:
    """Student's, of n values: so many standard errors is half the interval."""
    return float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def outcome(values: Sequence[float]) -> Outcome:
    """Of differences, one a seed, of which the claim says that they are positive.

    Supported if the whole interval of their mean is above 0, refuted if it is below, else
    undecided.
    """
    found = interval(values)
    return (
        Outcome.supported
        if found.low > 0
        else Outcome.refuted
        if found.high < 0
        else Outcome.undecided
    )


def smallest_effect(values: Sequence[float]) -> float:
    """The smallest mean that so many seeds, spread as these are, would have shown with probability
    0.8.

    From the noncentral t distribution; infinite for one seed.
    """
    n = len(values)
    if n < 2:
        return math.inf
    return float(special.nctdtrinc(n - 1, 1 - POWER, _quantile(n))) * _standard_error(values)


def both(outcomes: Sequence[Outcome]) -> Outcome:
    """Of a claim that has several parts: refuted if one is, supported if all are."""
    if Outcome.refuted in outcomes:
        return Outcome.refuted
    return Outcome.supported if all(o is Outcome.supported for o in outcomes) else Outcome.undecided
