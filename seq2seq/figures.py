"""What figures share: colours of the norms, rendering, small files; and the attention map.

matplotlib is imported when the first figure is drawn: the charts need the colours alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from .files import replacing
from .fonts import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORM_COLOURS = {"none": "#000000", "batch": "#D55E00", "layer": "#0072B2", "rms": "#009E73"}
"""Colour of each norm, from Okabe & Ito's palette for colour-blind readers."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(rendered(figure, "png"))


def rendered(figure: Figure, kind: str, dpi: int = 150) -> bytes:
    """Return a figure as the bytes of a png or svg, the same each time.

    The layout is computed once, for the first rendering.
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


def small_png(png: bytes) -> bytes:
    """Return a PNG with at most 256 colours, which needs a tenth of the space.

    A chart has few colours. Where it has more, the rarest become the nearest of the others.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        height, width = image.height, image.width
        pixels = np.asarray(image.convert("RGBA")).view("<u4").ravel() & 0xFFFFFF
    starts = np.flatnonzero(np.diff(pixels, prepend=~pixels[:1]))  # of runs of one colour
    lengths = np.diff(starts, append=pixels.size)
    colours, of_run = np.unique(pixels[starts], return_inverse=True)
    rgb = colours[:, None].astype(np.int64) >> [0, 8, 16] & 0xFF
    kept = rgb[np.argsort(-np.bincount(of_run, lengths), kind="stable")[:256]]
    nearest = np.array([np.square(kept - colour).sum(1).argmin() for colour in rgb], np.uint8)
    palette = Image.fromarray(np.repeat(nearest[of_run], lengths).reshape(height, width))
    palette.putpalette(kept.astype(np.uint8).tobytes())
    file = io.BytesIO()
    palette.save(file, "png", compress_level=8)  # 9 takes twice the time, for 6% less
    return file.getvalue()


# -- attention ---

LONGEST_LABEL = 24
"""The most characters of a piece that are shown."""
SHADES = (
    *("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c"),
    "#08306b",
)
"""Colours of the weights 0 to 1: ColorBrewer's Blues, as in matplotlib."""


def shade(weight: float) -> str:
    """Return the colour of a weight of 0 to 1, between the two nearest shades."""
    place = min(max(weight, 0.0), 1.0) * (len(SHADES) - 1)
    low = min(int(place), len(SHADES) - 2)
    ends = [bytes.fromhex(colour[1:]) for colour in SHADES[low : low + 2]]
    mixed = [round(a + (place - low) * (b - a)) for a, b in zip(*ends, strict=True)]
    return f"#{bytes(mixed).hex()}"


def piece_label(piece: str) -> str:
    """Return a piece as a map shows it: without spaces at its ends, never empty."""
    return piece.replace("▁", " ").strip(" ") or "␣"


def short_label(label: str) -> str:
    """Return a label cut to LONGEST_LABEL characters."""
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def _inches(pieces: int) -> float:
    """Return the size of one piece's row or column; a long sentence has smaller ones."""
    return min(0.34, 40 / max(pieces, 1))


def _labels(pieces: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return positions and texts of the labels: of every piece, or of as many as there is room."""
    shown = range(0, len(pieces), math.ceil(0.17 / _inches(len(pieces))))
    labels = drawable([piece_label(pieces[i]) for i in shown])
    return list(shown), [short_label(label) for label in labels]


def _room(labels: Sequence[str]) -> float:
    """Return the inches that the longest label takes."""
    wide = {"F", "W"}  # the characters of East Asia
    lengths = [sum(1 + (east_asian_width(c) in wide) for c in label) for label in labels]
    return 0.1 * max(lengths, default=0)


def attention_figure(
    weights: NDArray[np.floating], src: Sequence[str], tgt: Sequence[str]
) -> Figure:
    """Return a figure of attention weights (T, S), from white (0) to dark (1).

    Rows are the T target pieces, columns the S source pieces.
    """
    from matplotlib.figure import Figure

    columns, rows = _labels(src), _labels(tgt)  # first, since they add the fonts that they need
    left, top = (_room(labels) for _, labels in (rows, columns))
    size = (
        1.2 + left + top / 2 + _inches(len(src)) * len(src),
        0.8 + top + _inches(len(tgt)) * len(tgt),
    )
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(*columns, rotation=60, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(*rows, parse_math=False)
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
