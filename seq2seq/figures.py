"""Figures: attention maps and training curves. A norm has the same colour in every figure."""

from collections.abc import Sequence
from importlib.resources import files

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from numpy.typing import NDArray

NORM_COLOURS = {"none": "#000000", "batch": "#D55E00", "layer": "#0072B2", "rms": "#009E73"}
"""From Okabe & Ito's palette, distinct for colour-blind readers."""


def use_fonts() -> None:
    """Let figures show Chinese and Japanese too: a font that comes with the zhplot package."""
    font_manager.fontManager.addfont(str(files("zhplot") / "fonts" / "NotoSansSC-Regular.ttf"))
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", "Noto Sans SC"]


def attention_figure(weights: NDArray[np.floating], src: Sequence[str], tgt: Sequence[str]) -> Figure:
    """weights (T, S): how much each target piece looked at each source piece, from white (0) to dark (1)."""
    use_fonts()
    size = (1.8 + 0.34 * len(src), 1.2 + 0.34 * len(tgt))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(src)), [piece.replace("▁", " ").strip() or "␣" for piece in src], rotation=60,
                    ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(tgt)), [piece.replace("▁", " ").strip() or "␣" for piece in tgt])
    axes.xaxis.tick_top()
    axes.set_xlabel("source")
    axes.set_ylabel("translation")
    figure.colorbar(image, ax=axes, label="attention weight", fraction=0.05, pad=0.02)
    return figure


def curves_figure(series: dict[str, dict[str, tuple[list[float], list[float]]]], colours: dict[str, str]) -> Figure:
    """One panel a quantity, one line a run: series[panel title][run] = (updates, values)."""
    use_fonts()
    figure = Figure(figsize=(5.2 * len(series), 3.8), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (title, lines) in zip(panels, series.items(), strict=True):
        for run, (x, y) in lines.items():
            axes.plot(x, y, color=colours[run], label=run, linewidth=1.6, marker="o" if len(x) < 20 else None, ms=3)
        axes.set_title(title)
        axes.set_xlabel("update")
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return figure
