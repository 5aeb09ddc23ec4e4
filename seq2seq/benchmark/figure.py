"""Figures of speed: layers relative to torch.nn.LSTM, translators relative to the rival."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures import NORM_COLOURS
from ..fonts import use_fonts
from .timing import Speed

Ratios = dict[str, float]
"""Time divided by torch.nn.LSTM's, by contestant, such as "LSTM norm=layer fused bfloat16"."""
Bar = tuple[str, str]
"""A norm, and "" or " bfloat16"."""


def contestant(norm: str, dtype: str) -> str:
    """Return the name of the fused LSTM of a norm and type in the tables."""
    return f"LSTM norm={norm} fused{dtype}"


def speed_figure(tables: dict[str, Ratios]) -> Figure:
    """Return a figure of tables by title, such as "LSTM, training, T=25 B=64 I=256 H=256".

    A panel for training and one for inference, a group of bars for each size, a bar for each norm
    and type that was measured; those under bfloat16 autocast are hatched.
    """
    use_fonts()
    panels: dict[str, dict[str, Ratios]] = {}
    for title, ratios in tables.items():
        _, what, shape = title.split(", ")
        panels.setdefault(what, {})[shape.replace(" ", "\n", 2)] = ratios
    measured = {name for ratios in tables.values() for name in ratios}
    bars = [
        (norm, dtype)
        for dtype in ("", " bfloat16")
        for norm in NORM_COLOURS
        if contestant(norm, dtype) in measured
    ]
    figure = Figure(figsize=(6.4, 3.4 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (what, sizes) in zip(all_axes, panels.items(), strict=True):
        draw_bars(axes, bars, list(sizes.values()))
        axes.axhline(1.0, color="grey", linewidth=1, zorder=0)
        axes.set_title(what)
        axes.set_ylabel("time / time of torch.nn.LSTM in float32")
        axes.set_xticks(range(len(sizes)), list(sizes))
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure


def draw_bars(axes: Axes, bars: list[Bar], groups: list[Ratios]) -> None:
    """Draw a group of bars for each size; what was not measured leaves a gap."""
    width = 0.8 / max(len(bars), 1)
    for number, (norm, dtype) in enumerate(bars):
        offset = width * (number - (len(bars) - 1) / 2)
        axes.bar(
            [group + offset for group in range(len(groups))],
            [ratios.get(contestant(norm, dtype), math.nan) for ratios in groups],
            0.9 * width,
            color=NORM_COLOURS[norm],
            hatch="///" if dtype else None,
            edgecolor="white",
            linewidth=0.3,
            label=f"{norm}{dtype}",
        )


def speeds_figure(tables: Mapping[str, Sequence[Speed]]) -> Figure:
    """Return a figure of speeds relative to the first row: a panel a table, a bar a contestant.

    A line on each bar goes from the first to the third quartile.
    """
    use_fonts()
    heights = [0.3 * len(speeds) + 0.8 for speeds in tables.values()]
    figure = Figure(figsize=(6.4, sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(tables), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, speeds) in zip(all_axes, tables.items(), strict=True):
        names = [s.name for s in speeds]
        spread = [[s.ratio - s.low for s in speeds], [s.high - s.ratio for s in speeds]]
        colours = [NORM_COLOURS.get(norm_of(name), "grey") for name in names]
        axes.barh(names, [s.ratio for s in speeds], xerr=spread, color=colours, ecolor="grey")
        axes.axvline(1.0, color="grey", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(title.partition(":")[0])
        axes.set_xlabel(f"speed / speed of {names[0]}")
    return figure


def norm_of(name: str) -> str:
    """Return the norm in a contestant's name, such as "norm=layer, sorted"."""
    return name.partition("norm=")[2].partition(",")[0]
