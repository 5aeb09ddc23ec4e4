"""Figures: attention maps and speed; and the norms' colours in these and in the charts.

matplotlib is imported when the first figure is drawn: the charts need the colours alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORM_COLOURS = {"none": "#000000", "batch": "#D55E00", "layer": "#0072B2", "rms": "#009E73"}
"""From Okabe & Ito's palette, distinct for colour-blind readers."""


@cache
def use_fonts() -> None:
    """Let figures show Chinese and Japanese too, with a font that the zhplot package brings."""
    import matplotlib
    from matplotlib import font_manager

    font_manager.fontManager.addfont(str(files("zhplot") / "fonts" / "NotoSansSC-Regular.ttf"))
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", "Noto Sans SC"]


def save_figure(figure: Figure, path: Path) -> None:
    """Write it as a PNG, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(rendered(figure, "png"))


def rendered(figure: Figure, kind: str, dpi: int = 150) -> bytes:
    """It as a png or svg; the same bytes each time. Its layout is found once: it is drawn but once
    for each kind.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    else:
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    return buffer.getvalue()


# -- attention ---


def _inches(pieces: int) -> float:
    """Of one piece's row or column; smaller in a long sentence, so that the figure can always be
    drawn.
    """
    return min(0.34, 40 / max(pieces, 1))


def _labels(pieces: Sequence[str]) -> tuple[list[int], list[str]]:
    """Positions and texts of the pieces that get a label: all, or every few where there is no
    room.
    """
    shown = range(0, len(pieces), math.ceil(0.17 / _inches(len(pieces))))
    return list(shown), [pieces[i].replace("▁", " ").strip() or "␣" for i in shown]


def attention_figure(
    weights: NDArray[np.floating], src: Sequence[str], tgt: Sequence[str]
) -> Figure:
    """weights (T, S): how much each target piece looked at each source piece, from white (0) to
    dark (1).
    """
    from matplotlib.figure import Figure

    use_fonts()
    size = (1.8 + _inches(len(src)) * len(src), 1.2 + _inches(len(tgt)) * len(tgt))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(*_labels(src), rotation=60, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(*_labels(tgt), parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source")
    axes.set_ylabel("translation")
    figure.colorbar(
        image,
        ax=axes,
        label="attention weight",
        fraction=0.3 / size[0],
        pad=0.02,
        aspect=size[1] / 0.2,
    )
    return figure


# -- batch norm's statistics ---

TERM_STYLES = {"ih": "-", "hh": "--", "c": ":"}


def statistics_figure(
    places: dict[str, dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]],
) -> Figure:
    """Means and variances (steps, F) of each place's terms by step: over the features their root
    mean square, and mean.

    A place has its colour, a term its style. Drawn at each validation: a constrained layout would
    take three times as long.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7))
    panels = figure.subplots(2, 1, sharex=True)
    figure.subplots_adjust(
        left=0.1, right=0.97, top=0.95, bottom=0.1 + 0.03 * len(places), hspace=0.15
    )
    for number, (place, terms) in enumerate(places.items()):
        for term, (mean, var) in terms.items():
            for axes, line in zip(
                panels, (np.sqrt(np.square(mean).mean(1)), var.mean(1)), strict=True
            ):
                axes.plot(
                    range(len(line)),
                    line,
                    TERM_STYLES[term],
                    color=f"C{number % 10}",
                    label=f"{place} {term}",
                    marker="." if len(line) == 1 else None,
                )
    for axes, title in zip(
        panels, ("stored means, root mean square", "stored variances, mean"), strict=True
    ):
        axes.set_title(title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[1].set_xlabel("time step")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize="small",
        handlelength=3,
    )
    return figure


# -- speed ---


def speed_figure(tables: dict[str, dict[str, float]]) -> Figure:
    """Ratios to torch.nn.LSTM's time, by title "LSTM, training, SIZES" and then by contestant "LSTM
    norm=layer fused".

    A panel for training and one for inference, a group of bars for each size, hatched where under
    bfloat16 autocast; a bar for each norm and type that was measured.
    """
    from matplotlib.figure import Figure

    use_fonts()
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for title, ratios in tables.items():
        _, what, shape = title.split(", ")
        groups.setdefault(what, {})[shape.replace(" ", "\n", 2)] = ratios
    measured = {name for ratios in tables.values() for name in ratios}
    bars = [
        (norm, dtype)
        for dtype in ("", " bfloat16")
        for norm in NORM_COLOURS
        if f"LSTM norm={norm} fused{dtype}" in measured
    ]
    width = 0.8 / max(len(bars), 1)
    figure = Figure(figsize=(6.4, 3.4 * len(groups)), layout="constrained")
    for axes, (what, sizes) in zip(
        figure.subplots(len(groups), squeeze=False)[:, 0], groups.items(), strict=True
    ):
        for number, (norm, dtype) in enumerate(bars):
            heights = [
                ratios.get(f"LSTM norm={norm} fused{dtype}", math.nan) for ratios in sizes.values()
            ]
            axes.bar(
                [group + width * (number - (len(bars) - 1) / 2) for group in range(len(sizes))],
                heights,
                0.9 * width,
                color=NORM_COLOURS[norm],
                hatch="///" if dtype else None,
                edgecolor="white",
                linewidth=0.3,
                label=f"{norm}{dtype}",
            )
        axes.axhline(1.0, color="grey", linewidth=1, zorder=0)
        axes.set_title(what)
        axes.set_ylabel("time / torch.nn.LSTM's in float32")
        axes.set_xticks(range(len(sizes)), list(sizes))
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    return figure
