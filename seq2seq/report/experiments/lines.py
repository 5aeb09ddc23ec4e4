"""Lines of a chart: one a norm, the mean over its seeds."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ...runs.records import RunRecord
from ..charts import Line, mean_line
from ..groups import ALL, Group, Quantity, by_seed

Series = tuple[Sequence[Any], Sequence[float]]
"""(x, y) of one run"""
SeriesOf = Callable[[RunRecord], Series]


def norm_lines(
    group: Group, series: SeriesOf, wanted: Mapping[str, Any] = ALL, geometric: bool = False
) -> list[Line]:
    """Return a line for each norm: the mean over its runs with these settings, at its best rate."""
    lines = [
        mean_line(
            norm,
            group.kind(norm),
            group.variant(norm),
            [series(run) for run in group.at_best_rate({**wanted, "norm": norm})],
            geometric,
        )
        for norm in group.norms
    ]
    return [line for line in lines if line.x]


def mean_by(group: Group, key: str, quantity: Quantity) -> list[Line]:
    """Return for each norm the mean and range over seeds of a quantity, by a setting."""
    lines = []
    for norm in group.norms:
        found = {
            value: by_seed(group.at_best_rate({"norm": norm, key: value}), quantity).values()
            for value in sorted(group.values(key))
        }
        known = {value: list(reached) for value, reached in found.items() if reached}
        lines.append(mean_and_range(norm, group.kind(norm), group.variant(norm), known))
    return lines


def mean_and_range(
    label: str, kind: str, variant: int, values: Mapping[Any, Sequence[float]]
) -> Line:
    """Return a line through the means of the values of all seeds, by x, with their range if any."""
    low, high, means = ([of(found) for found in values.values()] for of in (min, max, fmean))
    band = (low, high) if any(len(found) > 1 for found in values.values()) else None
    return Line(label, kind, variant, list(values), means, band)
