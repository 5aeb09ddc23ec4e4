"""A line a norm."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from ...runs.records import Group, RunRecord, by_seed
from ..charts import Line, mean_line

Series = tuple[Sequence[Any], Sequence[float]]
"""x and y."""
RunsOf = Callable[..., Sequence[RunRecord]]
"""(group, norm=..., other settings) -> a norm's runs with these settings: all, or those at its best
rate.
"""


def norm_lines(
    group: Group,
    series: Callable[[RunRecord], Series],
    runs_of: RunsOf = Group.of,
    geometric: bool = False,
    **wanted: Any,
) -> list[Line]:
    """For each norm the mean over its runs with these settings."""
    lines = [
        norm_line(group, norm, series, runs_of(group, norm=norm, **wanted), geometric=geometric)
        for norm in group.norms
    ]
    return [line for line in lines if line.x]


def norm_line(
    group: Group,
    norm: str,
    series: Callable[[RunRecord], Series],
    runs: Sequence[RunRecord],
    label: str | None = None,
    variant: int | None = None,
    geometric: bool = False,
) -> Line:
    """The mean over these runs of a norm."""
    return mean_line(
        label or norm,
        group.kind(norm),
        group.variant(norm) if variant is None else variant,
        [series(run) for run in runs],
        geometric,
    )


def mean_by(
    group: Group, key: str, figure: Callable[[RunRecord], float | None], runs_of: RunsOf = Group.of
) -> list[Line]:
    """For each norm the mean and range over seeds of a figure, by the values of a setting, from low
    to high.
    """
    lines = []
    for norm in group.norms:
        found = {
            value: list(by_seed(runs_of(group, norm=norm, **{key: value}), figure).values())
            for value in sorted(group.values(key))
        }
        found = {value: figures for value, figures in found.items() if figures}
        lines.append(
            Line(
                norm,
                group.kind(norm),
                group.variant(norm),
                list(found),
                [fmean(f) for f in found.values()],
                ([min(f) for f in found.values()], [max(f) for f in found.values()]),
            )
        )
    return lines
