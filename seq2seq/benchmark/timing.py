"""Interleaved timing: contestants run in turn, so that changes of the machine's speed hit all."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], object]


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


def interleave(contestants: dict[str, Run], rounds: int, warm_up: int = 1) -> list[Timing]:
    """Return the timings of every contestant, each timed once a round after `warm_up` rounds.

    The first contestant is the baseline. In its turn a contestant runs twice and its second run is
    timed: the first one finds memory and caches as another contestant left them.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, run in contestants.items():
            run()
            started = time.perf_counter()
            run()
            if number >= warm_up:
                times[name].append(time.perf_counter() - started)
    baseline = next(iter(times.values()))
    timings = []
    for name, seconds in times.items():
        ratios = sorted(a / b for a, b in zip(seconds, baseline, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else (ratios[0],) * 3
        timings.append(
            Timing(name, 1000 * statistics.median(seconds), statistics.median(ratios), low, high)
        )
    return timings


def geometric_means(tables: list[list[Timing]]) -> dict[str, float]:
    """Return the geometric mean ratio of each contestant over tables of the same contestants."""
    return {
        row[0].name: statistics.geometric_mean(t.ratio for t in row)
        for row in zip(*tables, strict=True)
    }
