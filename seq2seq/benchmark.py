"""Side-by-side timing: what is compared runs in turn, round after round, so that the machine's mood hits all alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Timing:
    """One contestant's times beside the baseline's, from the same rounds."""

    name: str
    milliseconds: float
    """Median."""
    ratio: float
    """Median over rounds of its time divided by the baseline's of that round."""
    low: float
    """First quartile of that ratio."""
    high: float
    """Third quartile of that ratio."""


def interleave(contestants: dict[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> list[Timing]:
    """Time every contestant once a round; the first is the baseline of the ratios."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if number >= warm_up:
                times[name].append(time.perf_counter() - started)
    baseline = next(iter(times.values()))
    timings = []
    for name, seconds in times.items():
        ratios = sorted(a / b for a, b in zip(seconds, baseline, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else (ratios[0],) * 3
        timings.append(Timing(name, 1000 * statistics.median(seconds), statistics.median(ratios), low, high))
    return timings
