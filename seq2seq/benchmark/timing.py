"""Interleaved timing: contestants run in turn, so that changes of the machine's speed hit all."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Task = Callable[[], object]
"""What a contestant does in its turn."""


@dataclass
class Timing:
    """Times of one contestant, compared with the baseline's of the same rounds."""

    name: str
    milliseconds: float
    """Median time."""
    ratio: float
    """Median over rounds of its time divided by the baseline's."""
    low: float
    """First quartile of that ratio."""
    high: float
    """Third quartile of that ratio."""


@dataclass
class Speed:
    """Speed of one contestant, compared with the baseline's of the same rounds."""

    name: str
    per_second: float
    """Median of what it does in a second, such as target tokens."""
    ratio: float
    """Median over rounds of its speed divided by the baseline's; more is faster."""
    low: float
    """First quartile of that ratio."""
    high: float
    """Third quartile of that ratio."""
    pieces: float | None = None
    """Mean length of its translations; None in training."""


def interleave(contestants: dict[str, Task], rounds: int, warm_up: int = 1) -> list[Timing]:
    """Return the timings of every contestant, each timed once a round after `warm_up` rounds.

    The first contestant is the baseline. In its turn a contestant runs twice and its second run is
    timed: the first one finds memory and caches as another contestant left them.
    """
    times = measured({name: (task, task) for name, task in contestants.items()}, rounds, warm_up)
    baseline = next(iter(times.values()))
    return [
        Timing(name, 1000 * statistics.median(seconds), *quartiles(seconds, baseline))
        for name, seconds in times.items()
    ]


def interleaved_speeds(
    contestants: dict[str, tuple[Task, Task]], units: int, rounds: int
) -> list[Speed]:
    """Return the speed of every contestant in units per second; the first one is the baseline.

    A contestant is a short task, which is not timed, and one that does `units`. The first round
    is not counted.
    """
    times = measured(contestants, rounds, warm_up=1)
    baseline = next(iter(times.values()))
    return [
        Speed(name, units / statistics.median(seconds), *quartiles(baseline, seconds))
        for name, seconds in times.items()
    ]


def measured(
    contestants: dict[str, tuple[Task, Task]], rounds: int, warm_up: int
) -> dict[str, list[float]]:
    """Return the seconds of every contestant in each round after `warm_up` rounds.

    In its turn a contestant does both of its tasks, and the second is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, (first, task) in contestants.items():
            first()
            started = time.perf_counter()
            task()
            if number >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def quartiles(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Return median, first and third quartile of the ratios of two series, round by round."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    low, _, high = (
        statistics.quantiles(ratios, n=4, method="inclusive")
        if len(ratios) > 1
        else (ratios[0],) * 3
    )
    return statistics.median(ratios), low, high


def geometric_means(tables: list[list[Timing]]) -> dict[str, float]:
    """Return the geometric mean ratio of each contestant over tables of the same contestants."""
    return {
        row[0].name: statistics.geometric_mean(t.ratio for t in row)
        for row in zip(*tables, strict=True)
    }
