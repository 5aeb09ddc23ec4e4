"""Draw the two diagrams of the documentation and of the report's page.

    python docs/diagrams.py

writes axes.png and cell.png into docs/, and axes.svg and cell.svg into seq2seq/report/. axes shows
what each norm averages over; cell shows where the norms are in the LSTM's cell. Both are legible on
a phone's screen. The names are those of `seq2seq/rnn/reference.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from seq2seq.figures import NORM_COLOURS, rendered, save_figure

INK = NORM_COLOURS["none"]
WIDTH = 6.4
"""Width of both figures, in inches."""
LARGE, MIDDLE, SMALL = 17, 15, 13.5
"""Font sizes, in points; the smallest is 12 pixels high where the figure is 360 pixels wide."""
FONT = "DejaVu Sans"
Point = tuple[float, float]


# -- what each norm averages over ---

CUBE = (5, 6, 4)
"""Rows, time steps and features of the cubes drawn."""
DEPTH = (0.42, 0.36)
"""Offset of each row from the row before it: to the right, and up."""
IDLE, EDGE = "#ECECEC", "#8A8A8A"


@dataclass
class Averaged:
    """One cube: the values that share a mean and a variance."""

    norm: str
    title: str
    text: str
    row: slice
    step: slice
    feature: slice

    def cells(self, sizes: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return which values are averaged over: (rows, steps, features), the last on top."""
        cells = np.zeros(sizes, dtype=bool)
        cells[self.row, self.step, self.feature] = True
        return cells


ONE_ROW, ONE_STEP, LAST, ALL = slice(0, 1), slice(2, 3), slice(-1, None), slice(None)
CUBES = [
    Averaged("batch", "batch norm", "one feature, one step:\nover all rows", ALL, ONE_STEP, LAST),
    Averaged(
        "batch",
        "batch norm of u",
        "one feature: over all rows\nand steps (sequence_input)",
        ALL,
        ALL,
        LAST,
    ),
    Averaged(
        "layer", "layer norm", "one row, one step:\nover all features", ONE_ROW, ONE_STEP, ALL
    ),
    Averaged("rms", "rms norm", "as layer norm,\nwithout the mean", ONE_ROW, ONE_STEP, ALL),
]


def axes_diagram(sizes: tuple[int, int, int] = CUBE) -> Figure:
    """Draw a cube of rows, time steps and features for each norm.

    What is averaged over has the norm's colour.
    """
    figure = Figure(figsize=(WIDTH, 6.7), facecolor="white")
    places = [(0.0, 0.5), (0.5, 0.5), (0.0, 0.0), (0.5, 0.0)]
    for averaged, place in zip(CUBES, places, strict=True):
        axes = figure.add_axes((*place, 0.5, 0.5))
        axes.set_label(averaged.title)
        _draw_cube(axes, averaged, sizes)
    return figure


def _draw_cube(axes: Axes, averaged: Averaged, sizes: tuple[int, int, int]) -> None:
    rows, steps, features = sizes
    cells, colour = averaged.cells(sizes), NORM_COLOURS[averaged.norm]
    for cell in np.ndindex(sizes):
        outline = _visible(cell, sizes)
        if outline is not None:
            axes.add_patch(
                PathPatch(
                    outline,
                    facecolor=colour if cells[cell] else IDLE,
                    joinstyle="round",
                    edgecolor="white" if cells[cell] else EDGE,
                    linewidth=1,
                    gid=f"cell {cell}",
                    zorder=2 if cells[cell] else 1,
                )
            )
    across, up = rows * DEPTH[0], rows * DEPTH[1]
    small: dict[str, Any] = {"fontsize": SMALL, "family": FONT}
    axes.text(steps / 2, -0.25, "time steps", ha="center", va="top", **small)
    axes.text(-0.25, features / 2, "features", ha="right", va="center", rotation=90, **small)
    axes.text(steps + across / 2 + 0.3, up / 2 - 0.2, "rows", ha="left", va="center", **small)
    title: dict[str, Any] = {"color": colour, "weight": "bold", "fontsize": MIDDLE, "family": FONT}
    axes.text(-0.9, features + up + 2.05, averaged.title, **title)
    for number, line in enumerate(averaged.text.split("\n")):
        axes.text(-0.9, features + up + 1.34 - 0.68 * number, line, va="baseline", **small)
    axes.set(xlim=(-1.2, steps + across + 0.8), ylim=(-1.1, features + up + 2.7))
    axes.set(aspect="equal", anchor="W")
    axes.set_axis_off()


def _visible(cell: tuple[int, ...], sizes: tuple[int, int, int]) -> Outline | None:
    """Return the faces of a cell on the cube's front, top or right side; None without any."""
    row, step, feature = cell
    _, steps, features = sizes
    faces: list[list[tuple[int, int, int]]] = []
    if row == 0:
        faces.append([(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)])
    if feature == features - 1:
        faces.append([(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 1)])
    if step == steps - 1:
        faces.append([(0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)])
    outlines = [
        Outline(
            [_projected(row + r, step + s, feature + f) for r, s, f in [*face, face[0]]],
            closed=True,
        )
        for face in faces
    ]
    return Outline.make_compound_path(*outlines) if outlines else None


def _projected(row: float, step: float, feature: float) -> Point:
    return step + DEPTH[0] * row, feature + DEPTH[1] * row


# -- where the norms are in the cell ---


def cell_diagram() -> Figure:
    """Draw the LSTM's step with separate terms, from the bottom up (`lstm_step`)."""
    figure = Figure(figsize=(WIDTH, 8.6), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0, 10 * 8.6 / WIDTH), aspect="equal")
    axes.set_axis_off()
    _draw_terms(axes)
    _draw_gates(axes)
    _draw_state(axes)
    _draw_key(axes)
    return figure


MIDDLE_X = 4.9
GATES = {"f": 1.35, "i": 3.7, "g": 6.1, "o": 8.6}
"""Position of each gate, from left to right."""
STATE_LINE = 3.0
"""Width of the cell state's path, in points."""
SUM_Y, GATES_Y, WRITTEN_Y, STATE_Y, OUTPUT_Y = 4.75, 6.75, 7.9, 8.95, 11.75


def _draw_terms(axes: Axes) -> None:
    """Draw x_t and h_{t-1}, their products and their norms, up to the sum."""
    for x, source, name, v in ((2.45, "$x_t$", "ih", "u"), (7.55, "$h_{t-1}$", "hh", "z")):
        _label(axes, (x, 0.45), source, LARGE)
        _arrow(axes, (x, 0.8), (x, 1.3))
        _box(axes, (x, 1.68), f"$W_{{{name}}}$", 1.5)
        _arrow(axes, (x, 2.06), (x, 2.86))
        _label(axes, (x + 0.3, 2.42), f"${v}$")
        _norm_box(axes, (x, 3.3), f"gain$_{{{name}}}$ N(${v}$) + bias$_{{{name}}}$")
        _arrow(axes, (x, 3.74), (x, SUM_Y), (MIDDLE_X + (0.3 if x > MIDDLE_X else -0.3), SUM_Y))
        _label(axes, ((x + MIDDLE_X) / 2 - 0.05, SUM_Y - 0.4), f"$y_{{{name}}}$")
    _circle(axes, (MIDDLE_X, SUM_Y), "+")


def _draw_gates(axes: Axes) -> None:
    """Draw the four parts of the sum, each through its nonlinearity."""
    bus = SUM_Y + 1.1
    _line(axes, (MIDDLE_X, SUM_Y + 0.3), (MIDDLE_X, bus))
    _label(axes, (MIDDLE_X + 0.2, SUM_Y + 0.62), "(i f g o) = $y_{ih}$ + $y_{hh}$", ha="left")
    _line(axes, (GATES["f"], bus), (GATES["o"], bus))
    for gate, x in GATES.items():
        _arrow(axes, (x, bus), (x, GATES_Y - 0.38))
        _box(axes, (x, GATES_Y), f"{'tanh' if gate == 'g' else 'sigmoid'}({gate})", 2.0)


def _draw_state(axes: Axes) -> None:
    """Draw the path from c_{t-1} to c_t, without a norm, and from c_t through its norm to h_t."""
    top, branch = GATES_Y + 0.38, 6.1
    _label(axes, (0.55, STATE_Y + 0.45), "$c_{t-1}$", LARGE)
    _arrow(axes, (0.15, STATE_Y), (GATES["f"] - 0.3, STATE_Y), linewidth=STATE_LINE)
    _arrow(axes, (GATES["f"], top), (GATES["f"], STATE_Y - 0.3))
    _circle(axes, (GATES["f"], STATE_Y), "×")
    _arrow(axes, (GATES["f"] + 0.3, STATE_Y), (MIDDLE_X - 0.3, STATE_Y), linewidth=STATE_LINE)
    _label(axes, (3.15, STATE_Y + 0.32), "no norm here", size=SMALL)
    for gate, side in (("i", -0.3), ("g", 0.3)):
        _arrow(axes, (GATES[gate], top), (GATES[gate], WRITTEN_Y), (MIDDLE_X + side, WRITTEN_Y))
    _circle(axes, (MIDDLE_X, WRITTEN_Y), "×")
    _arrow(axes, (MIDDLE_X, WRITTEN_Y + 0.3), (MIDDLE_X, STATE_Y - 0.3))
    _circle(axes, (MIDDLE_X, STATE_Y), "+")
    _line(axes, (GATES["o"], top), (GATES["o"], STATE_Y - 0.2))  # goes under the state's path
    _arrow(axes, (GATES["o"], STATE_Y + 0.2), (GATES["o"], OUTPUT_Y - 0.3))
    _arrow(axes, (MIDDLE_X + 0.3, STATE_Y), (9.85, STATE_Y), linewidth=STATE_LINE)
    _label(axes, (9.4, STATE_Y + 0.45), "$c_t$", LARGE)
    axes.add_patch(Circle((branch, STATE_Y), 0.11, color=INK, zorder=5, gid="branch"))
    _arrow(axes, (branch, STATE_Y), (branch, 9.86))
    _norm_box(axes, (branch - 0.3, 10.3), "gain$_c$ N($c_t$) + bias$_c$")
    _arrow(axes, (branch, 10.74), (branch, OUTPUT_Y - 0.38))
    _box(axes, (branch, OUTPUT_Y), "tanh", 1.4)
    _arrow(axes, (branch + 0.7, OUTPUT_Y), (GATES["o"] - 0.3, OUTPUT_Y))
    _circle(axes, (GATES["o"], OUTPUT_Y), "×")
    _arrow(axes, (GATES["o"], OUTPUT_Y + 0.3), (GATES["o"], OUTPUT_Y + 0.9))
    _label(axes, (GATES["o"], OUTPUT_Y + 1.2), "$h_t$", LARGE)


def _draw_key(axes: Axes) -> None:
    _label(axes, (0.35, 12.85), "N is one of", ha="left")
    for number, norm in enumerate(NORMS):
        y = 12.3 - 0.5 * number
        axes.add_patch(Rectangle((0.4, y - 0.16), 0.32, 0.32, facecolor=NORM_COLOURS[norm]))
        _label(axes, (0.95, y), f"{norm} norm", ha="left")


NORMS = ("batch", "layer", "rms")


def _label(axes: Axes, at: Point, text: str, size: float = MIDDLE, ha: str = "center") -> None:
    axes.text(*at, text, ha=ha, va="center", fontsize=size, family=FONT, color=INK, zorder=6)


def _box(axes: Axes, at: Point, text: str, width: float) -> None:
    """Draw a box of the common height, centred at a point."""
    corner = (at[0] - width / 2, at[1] - 0.38)
    axes.add_patch(
        FancyBboxPatch(
            corner,
            width,
            0.76,
            "round,pad=0,rounding_size=0.12",
            facecolor="#F4F4F4",
            edgecolor=INK,
            linewidth=1.3,
            zorder=3,
            gid="box",
        )
    )
    _label(axes, at, text)


def _norm_box(axes: Axes, at: Point, text: str) -> None:
    """Draw a norm with its gain and bias; its left end has the norms' colours."""
    width, height = 4.4, 0.88
    left, bottom = at[0] - width / 2, at[1] - height / 2
    axes.add_patch(
        Rectangle(
            (left, bottom),
            width,
            height,
            facecolor="white",
            edgecolor=INK,
            linewidth=1.8,
            zorder=3,
            gid="norm",
        )
    )
    for number, norm in enumerate(NORMS):
        axes.add_patch(
            Rectangle(
                (left, bottom + height * (2 - number) / 3),
                0.22,
                height / 3,
                zorder=4,
                facecolor=NORM_COLOURS[norm],
            )
        )
    _label(axes, (at[0] + 0.11, at[1]), text)


def _circle(axes: Axes, at: Point, sign: str) -> None:
    axes.add_patch(Circle(at, 0.3, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=3))
    _label(axes, at, sign, LARGE)


def _line(axes: Axes, *points: Point) -> None:
    axes.plot(
        *zip(*points, strict=True),
        color=INK,
        linewidth=1.5,
        solid_joinstyle="miter",
        snap=False,
        zorder=2,
    )


def _arrow(axes: Axes, *points: Point, linewidth: float = 1.5) -> None:
    """Draw a line through the points with a head at the last."""
    if len(points) > 2:
        _line(axes, *points[:-1])
    style = f"-|>,head_length={5.5 + linewidth},head_width={2 + linewidth}"
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle=style,
            color=INK,
            mutation_scale=1,
            linewidth=linewidth,
            shrinkA=0,
            shrinkB=0,
            joinstyle="miter",
            zorder=2,
        )
    )


# -- files ---

ROOT = Path(__file__).resolve().parents[1]
DIAGRAMS: dict[str, Callable[[], Figure]] = {"axes": axes_diagram, "cell": cell_diagram}


def main(root: Path = ROOT) -> None:
    """Write every diagram as a PNG for the documentation and as an SVG for the page."""
    matplotlib.rcParams["svg.hashsalt"] = "diagrams"  # the same file each time
    for name, draw in DIAGRAMS.items():
        figure = draw()
        save_figure(figure, root / "docs" / f"{name}.png")
        page = root / "seq2seq" / "report" / f"{name}.svg"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(rendered(figure, "svg"))


if __name__ == "__main__":
    main()
