"""The lengths of a corpus as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..figures import NORM_COLOURS
from ..fonts import use_fonts
from .survey import Split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (NORM_COLOURS["layer"], NORM_COLOURS["batch"])
SHOWN = 99.5
"""Percentile of the lengths up to which the axes go."""
MOST_BARS = 60


def lengths_figure(splits: Sequence[Split], name: str) -> Figure:
    """Return a figure: how long sentences are, and how source and target belong together."""
    from matplotlib.figure import Figure

    use_fonts()
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    train = splits[0]
    figure.suptitle(f"{name}: {train.pairs:,} training pairs", x=0.01, ha="left")
    _histogram(left, [split for split in splits if split.name in ("train", "valid", "test")])
    _pairs(figure, right, train)
    return figure


def _limit(split: Split, side: int) -> int:
    lengths = split.lengths[side]
    return max(int(np.percentile(lengths, SHOWN)), 2) if len(lengths) else 2


def _histogram(axes: Axes, splits: Sequence[Split]) -> None:
    """Draw the share of sentences by length: train filled, the other splits as lines."""
    limit = max(_limit(splits[0], side) for side in (0, 1))
    step = max(1, round(limit / MOST_BARS))
    edges = np.arange(0, limit + 2 * step, step) - 0.5
    for side, colour in enumerate(COLOURS):
        for split in splits:
            lengths = split.lengths[side]
            shares = np.histogram(lengths, edges)[0] / max(len(lengths), 1)
            if split is splits[0]:
                found = split.sides[side]
                median = f"median {found.words['50']:.0f} {found.unit}"
                label = f"{('source', 'target')[side]} ({found.language}), {median}"
                axes.stairs(100 * shares, edges, fill=True, color=colour, alpha=0.35, label=label)
            axes.stairs(100 * shares, edges, color=colour, lw=1.2 if split is splits[0] else 0.6)
    units = {side.unit for side in splits[0].sides}
    axes.set(
        xlabel=f"length ({' or '.join(sorted(units))})", ylabel="% of sentences", ylim=(0, None)
    )
    axes.set_xlim(0, edges[-1])
    axes.set_title("Lengths (filled: train; lines: valid and test)", loc="left", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _pairs(figure: Figure, axes: Axes, train: Split) -> None:
    """Draw how many pairs have which two lengths."""
    src, tgt = train.lengths
    limits = [_limit(train, side) for side in (0, 1)]
    bins = [np.arange(limit + 2) - 0.5 for limit in limits]
    counts, *_ = np.histogram2d(src, tgt, bins=bins)
    shown = np.ma.masked_equal(counts.T, 0)
    image = axes.pcolormesh(bins[0], bins[1], shown, norm="log", cmap="viridis_r", rasterized=True)
    figure.colorbar(image, ax=axes, label="pairs")
    source, target = train.sides
    axes.set(
        xlabel=f"source ({source.language}, {source.unit})",
        ylabel=f"target ({target.language}, {target.unit})",
    )
    axes.set_title("Pairs by both lengths", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
