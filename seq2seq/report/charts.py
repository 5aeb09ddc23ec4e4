"""Charts and tables as data, and the mean of several runs as a line. `vega` draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

MOST_POINTS = 200
"""Points of a line at most: a screen shows no more."""
FEW = 8
"""So many values of x or fewer are all labelled on a logarithmic axis."""
THOUSANDS = 20_000
"""From such a value on, an axis counts in thousands (k) or millions (M)."""


@dataclass
class Line:
    """A mean over seeds with the range of the single runs."""

    label: str
    kind: str
    """The norm's name, for the colour."""
    variant: int
    """Number among the lines of this colour, for tints, dashes and marks."""
    x: list[Any]
    """Numbers or names."""
    y: list[float]
    band: tuple[list[float], list[float]] | None = None
    """Lowest and highest run at each x."""


@dataclass
class Panel:
    """A pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    log_x: bool = False
    log_y: bool = False
    marks: dict[str, float] = field(default_factory=dict)
    """Label -> x of a vertical line."""
    smooths: bool = False
    """Whether the page offers smoothing, for noisy curves."""

    @property
    def labels(self) -> list[str]:
        """The entries of its legend."""
        return [line.label for line in self.lines]

    @property
    def names(self) -> list[str]:
        """The x of all lines where they are names, which are drawn as points without lines."""
        return list(dict.fromkeys(x for line in self.lines for x in line.x if isinstance(x, str)))

    @property
    def positive_x(self) -> bool:
        """Whether all x are positive numbers."""
        return not self.names and all(x > 0 for line in self.lines for x in line.x)

    @property
    def positive_y(self) -> bool:
        """Whether the y axis may be logarithmic: by choice, or because all values are positive."""
        return self.log_y or all(
            y > 0 or math.isnan(y)
            for line in self.lines
            for y in [*line.y, *(line.band[0] if line.band else ())]
        )

    @property
    def plain_y(self) -> bool:
        """Whether the y need no powers of ten, on a logarithmic axis if it may be one."""
        sizes = [abs(y) for line in self.lines for y in line.y if y]
        least = (min if self.positive_y else max)(sizes, default=0.0)
        return least >= 1e-3 and max(sizes) < 1e5

    @property
    def in_thousands(self) -> bool:
        """Whether the x axis counts in thousands or millions."""
        return any(abs(x) >= THOUSANDS for line in self.lines for x in line.x)

    @property
    def x_ticks(self) -> list[Any] | None:
        """The values of a logarithmic x axis where they are few; else None."""
        found = sorted({x for line in self.lines for x in line.x}) if self.log_x else []
        return found if 0 < len(found) <= FEW else None


@dataclass
class HeatMap:
    """A factor by a number and a name: colours from halved to doubled, with the factor as text."""

    title: str
    x_label: str
    rows: dict[str, dict[float, float]]
    """Name -> x -> log2 of the factor; nan where there is none."""
    what: str
    """What the factor is of."""
    marks: dict[str, float] = field(default_factory=dict)
    """Label -> x of a vertical line."""
    log_x: ClassVar[bool] = False
    """As all below: the page offers no choice of axes and no smoothing."""
    log_y: ClassVar[bool] = False
    positive_x: ClassVar[bool] = False
    positive_y: ClassVar[bool] = False
    smooths: ClassVar[bool] = False
    labels: ClassVar[Sequence[str]] = ("×1.41",)
    """The longest entry of its legend."""

    @property
    def x(self) -> list[float]:
        """All x in order."""
        return sorted({x for row in self.rows.values() for x in row})


@dataclass
class Chart:
    """Related panels: side by side in a file, one at a time on the page."""

    name: str
    """Name of its files and of its place on the page."""
    title: str
    caption: str
    panels: Sequence[Panel] | Sequence[HeatMap]

    @property
    def curves(self) -> list[Panel]:
        """The panels with lines."""
        return [panel for panel in self.panels if isinstance(panel, Panel)]

    @property
    def maps(self) -> list[HeatMap]:
        """The panels that are heat maps."""
        return [panel for panel in self.panels if isinstance(panel, HeatMap)]

    @property
    def is_empty(self) -> bool:
        """Whether no panel has anything to show."""
        return not any(p.lines for p in self.curves) and not any(p.rows for p in self.maps)


@dataclass
class Table:
    """Results in rows and columns."""

    title: str
    rows: list[dict[str, str]]
    """Column -> text; the first column is the row's name."""
    caption: str


def mean_line(
    label: str,
    kind: str,
    variant: int,
    runs: Sequence[tuple[Sequence[Any], Sequence[float]]],
    geometric: bool = False,
) -> Line:
    """Return the mean of several runs' (x, y) over the range of x that all of them cover.

    Runs with different x are interpolated. Where no range is common to all, as with a single
    validation per run at different seconds, the result is one point in the middle. A nan in one
    run makes the mean nan. `geometric` takes the geometric mean, which values that are not positive
    do not have: it is nan there.
    """
    runs = [(x, y) for x, y in runs if len(x)]
    if not runs:
        return Line(label, kind, variant, [], [])
    x, ys = _aligned(runs)
    band = (ys.min(0).tolist(), ys.max(0).tolist()) if len(runs) > 1 else None
    means = ys.mean(0)
    if geometric:
        means = np.exp(np.log(np.where(ys > 0, ys, np.nan)).mean(0))
    return Line(label, kind, variant, x, means.tolist(), band)


def _aligned(
    runs: Sequence[tuple[Sequence[Any], Sequence[float]]],
) -> tuple[list[Any], "np.ndarray[tuple[int, int], np.dtype[np.float64]]"]:
    """Return the common x (N) and each run's values there (runs, N)."""
    x = list(runs[0][0])
    if isinstance(x[0], str):
        x = [name for name in x if all(name in names for names, _ in runs)]
        return x, np.array([[y[list(names).index(name)] for name in x] for names, y in runs])
    if len(x) <= MOST_POINTS and all(list(other) == x for other, _ in runs):
        return x, np.array([y for _, y in runs])
    low, high = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    if low < high:
        x = np.linspace(low, high, MOST_POINTS).tolist()
    else:
        x = [float(np.clip(np.mean([np.mean(x) for x, _ in runs]), high, low))]
    return x, np.array([np.interp(x, *run) for run in runs])
