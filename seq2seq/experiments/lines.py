"""A line a norm."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from ..charts import Line, mean_line
from ..records import Group, RunRecord, by_seed

Series = tuple[Sequence[Any], Sequence[float]]
"""x and y."""


def norm_lines(group: Group, series: Callable[[RunRecord], Series],
               runs_of: Callable[[Group, str], Sequence[RunRecord]] | None = None, geometric: bool = False,
               **wanted: Any) -> list[Line]:
    """For each norm the mean over its runs, all with these settings or those that `runs_of` gives."""
    runs = {norm: runs_of(group, norm) if runs_of else group.of(norm=norm, **wanted) for norm in group.norms}
    lines = [norm_line(group, norm, series, found, geometric=geometric) for norm, found in runs.items()]
    return [line for line in lines if line.x]


def norm_line(group: Group, norm: str, series: Callable[[RunRecord], Series], runs: Sequence[RunRecord],
              label: str | None = None, variant: int | None = None, geometric: bool = False) -> Line:
    """The mean over these runs of a norm."""
    return mean_line(label or norm, group.kind(norm), group.variant(norm) if variant is None else variant,
                     [series(run) for run in runs], geometric)


def mean_by(group: Group, key: str, figure: Callable[[RunRecord], float | None],
            runs_of: Callable[..., Sequence[RunRecord]]) -> list[Line]:
    """For each norm the mean and range over seeds of a figure, by the values of a setting, from low to high.

    runs_of(group, norm, **{key: value}) gives a point's runs.
    """
    lines = []
    for norm in group.norms:
        found = {value: list(by_seed(runs_of(group, norm, **{key: value}), figure).values())
                 for value in sorted(group.values(key))}
        found = {value: figures for value, figures in found.items() if figures}
        lines.append(Line(norm, group.kind(norm), group.variant(norm), list(found),
                          [fmean(f) for f in found.values()], [min(f) for f in found.values()],
                          [max(f) for f in found.values()]))
    return lines


def runs_with(group: Group, norm: str, **wanted: Any) -> list[RunRecord]:
    """A norm's runs with these settings."""
    return group.of(norm=norm, **wanted)
