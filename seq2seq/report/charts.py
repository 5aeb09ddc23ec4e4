"""Charts and tables as data; charts are drawn twice: by matplotlib for files and paper, by plotly
for the page.

A norm keeps its colour.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from plotly import graph_objects

from ..figures import LINE_STYLES, MARKERS, NORM_COLOURS, use_fonts

DASHES = dict(zip(LINE_STYLES, ("solid", "dash", "dot", "dashdot"), strict=True))
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "D": "diamond",
    "x": "x",
}
"""matplotlib's mark -> plotly's."""
MOST_MARKS = 15
"""On a line."""
MOST_POINTS = 200
"""Of a line: more can't be told apart on a screen."""
BAND = 0.15
"""Opacity of the range of the seeds."""
MARKED = 20
"""A line of fewer points has a mark at each: of a single one nothing else could be seen."""
FEW = 8
"""So many values of x are all written at the axis."""
LEGEND_WIDTH = 32
"""Letters in a line of a label: a phone shows no more."""
LEVEL = 3
"""So many names below an axis are written level."""
SLANT = -45
"""Of more names, in degrees: each ends at its tick."""
GROUP = 0.6
"""Of the distance between two names: taken up by the points of one."""


@dataclass
class Line:
    """A mean over seeds, and the range of the single runs around it."""

    label: str
    kind: str
    """The norm's, for the colour."""
    variant: int
    """Tells lines of one colour apart."""
    x: list[Any]
    """Numbers, or names."""
    y: list[float]
    band: tuple[list[float], list[float]] | None = None
    """The lowest and the highest run at each x."""

    @property
    def symbol(self) -> str:
        """Matplotlib's, of a point of its own."""
        return list(SYMBOLS)[self.variant % len(SYMBOLS)]

    @property
    def marker(self) -> str:
        """Matplotlib's, on a line; none on one of many points that its dashes tell apart."""
        return (
            self.symbol
            if len(self.x) < MARKED
            else MARKERS[self.variant // len(LINE_STYLES) % len(MARKERS)]
        )


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
    """Noisy enough for the page to offer smoothing."""

    @property
    def names(self) -> list[str]:
        """The x of all lines, where these are names, not numbers: then there are points side by
        side, and no lines.
        """
        return list(dict.fromkeys(x for line in self.lines for x in line.x if isinstance(x, str)))

    @property
    def positive_x(self) -> bool:
        """Whether the x are numbers that all have a logarithm."""
        return not self.names and all(x > 0 for line in self.lines for x in line.x)

    @property
    def positive_y(self) -> bool:
        """Whether a logarithmic axis suits: it is the panel's own, or no mean and no range would
        vanish from it.
        """
        return self.log_y or all(
            y > 0 or math.isnan(y)
            for line in self.lines
            for y in [*line.y, *(line.band[0] if line.band else ())]
        )

    @property
    def plain_y(self) -> bool:
        """Whether the y are easily read without powers of ten, also on a logarithmic axis."""
        sizes = [abs(y) for line in self.lines for y in line.y if y]
        return bool(sizes) and min(sizes) >= 1e-2 and max(sizes) < 1e5

    @property
    def x_ticks(self) -> list[Any] | None:
        """The few x of a logarithmic axis; None where the axis is to find its own."""
        found = sorted({x for line in self.lines for x in line.x}) if self.log_x else []
        return found if 0 < len(found) <= FEW else None


@dataclass
class Chart:
    """Panels that belong together: side by side on paper, one at a time on the page."""

    name: str
    """Of its files, and of its place in the page."""
    title: str
    caption: str
    panels: list[Panel]


def mean_line(
    label: str,
    kind: str,
    variant: int,
    runs: Sequence[tuple[Sequence[Any], Sequence[float]]],
    geometric: bool = False,
) -> Line:
    """The mean of several runs' (x, y), interpolated where their x differ, over the part that all
    of them cover.

    Where there is no such part, as of one validation a run at different seconds, it is one point in
    the middle. nan where a run has it. geometric: of positive values for a logarithmic axis.
    """
    runs = [(x, y) for x, y in runs if len(x)]
    if not runs:
        return Line(label, kind, variant, [], [])
    x = list(runs[0][0])
    if isinstance(x[0], str):
        x = [name for name in x if all(name in names for names, _ in runs)]
        ys = np.array([[y[list(names).index(name)] for name in x] for names, y in runs])
    elif len(x) <= MOST_POINTS and all(list(other) == x for other, _ in runs):
        ys = np.array([y for _, y in runs])
    else:
        low, high = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
        x = (
            np.linspace(low, high, MOST_POINTS).tolist()
            if low < high
            else [float(np.clip(np.mean([np.mean(x) for x, _ in runs]), high, low))]
        )
        ys = np.array([np.interp(x, *run) for run in runs])
    band = (ys.min(0).tolist(), ys.max(0).tolist()) if len(runs) > 1 else None
    means = np.exp(np.log(ys).mean(0)) if geometric and not (ys <= 0).any() else ys.mean(0)
    return Line(label, kind, variant, x, means.tolist(), band)


@dataclass
class Table:
    """What is better told in words and figures."""

    title: str
    rows: list[dict[str, str]]
    """Column -> text, the first column its row's name."""
    caption: str


# -- on paper ---


def static_figure(chart: Chart) -> Figure:
    """All panels in rows of two or three, one legend below."""
    use_fonts()
    columns = 2 if len(chart.panels) == 4 else min(len(chart.panels), 3)
    rows = math.ceil(len(chart.panels) / columns)
    figure = Figure(figsize=(max(4.4 * columns, 5.2), 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, place in zip(chart.panels, axes, strict=False):
        _draw_panel(place, panel)
    for empty in axes[len(chart.panels) :]:
        empty.set_axis_off()
    _legend_below(figure, axes[: len(chart.panels)])
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for number, line in enumerate(panel.lines):
        if panel.names:
            _draw_points(axes, line, panel.names, GROUP * ((number + 0.5) / len(panel.lines) - 0.5))
        else:
            _draw_line(axes, line)
    for label, x in panel.marks.items():
        axes.axvline(x, color="0.4", linewidth=1, linestyle=":")
        axes.annotate(
            label,
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=8,
            color="0.3",
        )
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(alpha=0.3)
    if panel.names:
        axes.set_xticks(
            range(len(panel.names)), panel.names, rotation=25, ha="right", rotation_mode="anchor"
        )
    elif panel.log_x:
        axes.set_xscale("log")
        _ticks_by_powers(axes.xaxis, panel.x_ticks)
    else:
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    if panel.log_y:
        axes.set_yscale("log")
        _ticks_by_powers(axes.yaxis)


def _draw_line(axes: Axes, line: Line) -> None:
    """Through the means, in the band from the lowest to the highest run."""
    colour, style = NORM_COLOURS[line.kind], LINE_STYLES[line.variant % len(LINE_STYLES)]
    axes.plot(
        line.x,
        line.y,
        color=colour,
        label=line.label,
        linewidth=1.6,
        ms=4,
        linestyle=style,
        marker=line.marker or None,
        markevery=max(1, len(line.x) // MOST_MARKS),
    )
    if line.band:
        axes.fill_between(line.x, *line.band, color=colour, alpha=BAND, linewidth=0)


def _draw_points(axes: Axes, line: Line, names: list[str], offset: float) -> None:
    """A mean at each name, beside those of the other lines, with a bar from the lowest to the
    highest run.
    """
    colour, places = NORM_COLOURS[line.kind], [names.index(x) + offset for x in line.x]
    axes.plot(places, line.y, line.symbol, color=colour, label=line.label, ms=4)
    if line.band:
        axes.vlines(places, *line.band, color=colour, linewidth=1.2)


def _ticks_by_powers(axis: Axis, ticks: Sequence[Any] | None = None) -> None:
    """Of a logarithmic axis: these; or powers of ten, with 2 and 5 times them where the values span
    few.
    """
    low, high = axis.get_view_interval()
    if ticks is not None:
        axis.set_ticks(ticks, labels=[f"{x:g}" for x in ticks])
    elif high < 1000 * low:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
    else:
        return
    axis.set_minor_formatter(ticker.NullFormatter())


def _legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """One entry for each label of any of the axes."""
    known = {
        label: handle
        for place in axes
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
    }
    columns = max(
        1, min(len(known), int(figure.get_figwidth() * 13) // (8 + max(map(len, known), default=0)))
    )
    figure.set_figheight(figure.get_figheight() + 0.25 * math.ceil(len(known) / columns))
    legend = figure.legend(
        list(known.values()),
        list(known),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


# -- on the page ---


def interactive_figure(chart: Chart) -> graph_objects.Figure:
    """The first panel, and in layout.meta for each panel its traces and axes: the page goes by
    these.
    """
    figure = graph_objects.Figure()
    owners: list[int] = []
    for number, panel in enumerate(chart.panels):
        for line in panel.lines:
            for trace in _traces(line, panel, visible=number == 0):
                figure.add_trace(trace)
                owners.append(number)
    panels = [
        {
            "visible": [owner == number for owner in owners],
            "layout": _layout(panel),
            "positive": {"x": panel.positive_x, "y": panel.positive_y},
        }
        for number, panel in enumerate(chart.panels)
    ]
    figure.update_layout(
        template="plotly_white",
        height=380 + 18 * max(map(_legend_lines, chart.panels)),
        margin={"l": 64, "r": 16, "t": 36, "b": 48},
        hovermode="closest",
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"size": 13},
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "groupclick": "togglegroup",
        },
        meta=panels,
        **_layout(chart.panels[0]),
    )
    return figure


def _legend_lines(panel: Panel) -> int:
    """How high its legend is on a phone, where the labels stand below each other."""
    return sum(len(wrap(line.label, LEGEND_WIDTH)) for line in panel.lines)


def _traces(line: Line, panel: Panel, visible: bool) -> list[graph_objects.Scatter]:
    """A line, and below it its band, toggled together; or points with their bars."""
    colour, common = NORM_COLOURS[line.kind], {"legendgroup": line.label, "visible": visible}
    name = "<br>".join(wrap(line.label, LEGEND_WIDTH))
    traces, bars = [], {}
    if line.band:
        low, high = line.band
        if panel.names:
            bars = {"error_y": {"array": _above(high, line.y), "arrayminus": _above(line.y, low)}}
        else:
            traces.append(
                graph_objects.Scatter(
                    x=[*line.x, *reversed(line.x)],
                    y=_rounded([*high, *reversed(low)]),
                    fill="toself",
                    mode="lines",
                    fillcolor=colour,
                    opacity=BAND,
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                    meta="band",
                    **common,
                )
            )
    marker = line.symbol if panel.names else line.marker
    marks = (
        {"marker": {"symbol": SYMBOLS[marker], "maxdisplayed": 0 if panel.names else MOST_MARKS}}
        if marker
        else {}
    )
    mode = "markers" if panel.names else "lines+markers" if marker else "lines"
    traces.append(
        graph_objects.Scatter(
            x=line.x,
            y=_rounded(line.y),
            name=name,
            mode=mode,
            meta="smooth" if panel.smooths else "line",
            line={
                "color": colour,
                "dash": DASHES[LINE_STYLES[line.variant % len(LINE_STYLES)]],
                "width": 2,
            },
            hovertemplate=f"%{{y:.4g}} at %{{x}}<extra>{name}</extra>",
            offsetgroup=line.label,
            **marks,
            **bars,
            **common,
        )
    )
    return traces


def _above(upper: Sequence[float], lower: Sequence[float]) -> list[float | None]:
    return _rounded([u - v for u, v in zip(upper, lower, strict=True)])


def _rounded(values: Sequence[float]) -> list[float | None]:
    """To five digits, which is more than a screen shows; None where there is no number."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]


def _layout(panel: Panel) -> dict[str, Any]:
    """Axes and marks. Traces side by side are for names: on an axis of numbers they would be moved
    off their x.
    """
    x, y = ("log" if log else "linear" for log in (panel.log_x, panel.log_y))
    return {
        "xaxis": {
            "title": {"text": panel.x_label},
            "type": "category" if panel.names else x,
            "tickvals": panel.x_ticks,
            "tickangle": SLANT if len(panel.names) > LEVEL else None,
        },
        "yaxis": {
            "title": {"text": panel.y_label},
            "type": y,
            "exponentformat": "power",
            "tickformat": "~g" if panel.plain_y else "",
        },
        "scattermode": "group" if panel.names else "overlay",
        "shapes": [_mark(label, x) for label, x in panel.marks.items()],
    }


def _mark(label: str, x: float) -> dict[str, Any]:
    beside = {
        "textposition": "end",
        "textangle": 0,
        "xanchor": "left",
        "yanchor": "top",
        "font": {"size": 11},
    }
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#666", "width": 1, "dash": "dot"},
        "label": {"text": label, **beside},
    }
