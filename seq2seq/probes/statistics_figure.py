"""A figure of batch norm's stored statistics by time step, for TensorBoard."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Moments = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Means and variances, each (steps, F)."""
TERM_STYLES = {"ih": "-", "hh": "--", "c": ":"}
TITLES = ("stored means, root mean square", "stored variances, mean")


def statistics_figure(places: dict[str, dict[str, Moments]]) -> "Figure":
    """Return a figure of each place's and term's statistics by step.

    Means are drawn as their root mean square over features, variances as their mean. A place has
    its colour, a term its line style. Fixed margins: a constrained layout would take three times
    as long, at each validation.
    """
    from matplotlib.figure import Figure  # not before the first figure: it takes half a second

    figure = Figure(figsize=(6, 7))
    panels = figure.subplots(2, 1, sharex=True)
    bottom = 0.1 + 0.03 * len(places)  # room for the legend
    figure.subplots_adjust(left=0.1, right=0.97, top=0.95, bottom=bottom, hspace=0.15)
    for number, (place, terms) in enumerate(places.items()):
        for term, (mean, var) in terms.items():
            lines = (np.sqrt(np.square(mean).mean(1)), var.mean(1))
            for axes, line in zip(panels, lines, strict=True):
                axes.plot(
                    range(len(line)),
                    line,
                    TERM_STYLES[term],
                    color=f"C{number % 10}",
                    label=f"{place} {term}",
                    marker="." if len(line) == 1 else None,
                )
    for axes, title in zip(panels, TITLES, strict=True):
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
