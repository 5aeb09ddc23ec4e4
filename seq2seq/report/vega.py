"""Charts drawn by Vega-Lite: one specification for the page, the SVG and the PNG.

vl-convert renders without a browser or a network, and bundles the JavaScript that the page needs.
panel.json.jinja is a panel's specification; style.json is the configuration of every chart.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import vl_convert
from platformdirs import user_cache_path

from ..figures import NORM_COLOURS, small_png
from ..files import kept_text
from ..fonts import bundled_fonts, drawable
from ..shown import escaped
from .charts import Chart, HeatMap, Line, Panel
from .heat_maps import heat_map_spec
from .templates import rendered_template

DASHES = ([1, 0], [6, 3], [2, 2], [7, 2, 2, 2])
"""Strokes of the lines of one colour, in pixels drawn and left out."""
TINTS = (0.0, 0.4, -0.35, 0.55, -0.65)
"""How far the lines of one norm go from its colour, towards white or, below 0, towards black.

Black goes towards white alone. One more than dashes, so that twenty lines differ.
"""
SHAPES = {
    "circle": "M.5,0A.5,.5,0,1,1,-.5,0A.5,.5,0,1,1,.5,0",
    "square": "M-.45,-.45H.45V.45H-.45Z",
    "triangle-up": "M-.5,.45L0,-.5L.5,.45Z",
    "triangle-down": "M-.5,-.45L0,.5L.5,-.45Z",
    "diamond": "M0,-.65L.65,0L0,.65L-.65,0Z",
    "cross": "M-.17,-.5H.17V-.17H.5V.17H.17V.5H-.17V.17H-.5V-.17H-.17Z",
}
"""Vega's names of the marks -> their outlines in the legend."""
STROKE = "M-1.8,0H1.8"
"""A line's piece in the legend."""
SPREAD = {
    "bands": "Lines: means of the seeds; shaded: from the lowest to the highest",
    "rules": "Points: means of the seeds; bars: from the lowest to the highest",
}
"""What a picture says about the range of several runs, by how it shows it."""
MARKED, MOST_MARKS = 20, 15
"""A line of fewer points has a mark at each; a longer one has at most so many."""
WIDTH, HEIGHT, PAGE_HEIGHT = 300, 240, 300
"""Size of a panel in a file and its height on the page, in pixels."""
LETTER, SYMBOL = 7, 60
"""Width of a legend's letter and of the rest of an entry, in pixels."""
OTHER_SCRIPTS = re.compile("[^\\x00-\\u052f\\u2000-\\u22ff]+")
"""Text in other scripts than Latin, Greek and Cyrillic, for which there may be no font."""
Spec = dict[str, Any]


@dataclass
class Drawing:
    """A chart for the page and for its two files."""

    chart: Chart
    stem: str
    """Name of its files in figures/, without the ending."""
    begun: Future[dict[str, bytes]] | None = None
    """The files that a thread draws."""

    def begin(self, threads: Executor) -> None:
        """Draw while the caller goes on: vl-convert leaves Python to others, and takes a second."""
        self.begun = threads.submit(pictures, self.chart)

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """Ending -> content of each file."""
        return pictures(self.chart) if self.begun is None else self.begun.result()

    @property
    def svg(self) -> bytes:
        """The panels side by side."""
        return self.pictures["svg"]

    @property
    def json(self) -> str:
        """Specifications of the panels, safe inside a script element."""
        content = json.dumps([page_spec(panel) for panel in self.chart.panels])
        return content.replace("<", "\\u003c")


def pictures(chart: Chart) -> dict[str, bytes]:
    """Draw a chart; return ending -> content of each file."""
    vl_convert.register_font_directory(str(bundled_fonts()))  # for Chinese and Japanese
    svg = vl_convert.vegalite_to_svg(file_spec(chart))
    shown = OTHER_SCRIPTS.sub(lambda run: drawable([run[0]])[0], svg)
    return {"png": small_png(vl_convert.svg_to_png(shown, scale=2)), "svg": svg.encode()}


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`.

    It takes over a second to make and depends on the version alone: the user's cache keeps it.
    """
    file = user_cache_path("seq2seq") / f"vega-embed-{version('vl-convert-python')}.js"
    bundle = kept_text(file, partial(vl_convert.javascript_bundle, "window.vegaEmbed = vegaEmbed;"))
    return bundle.replace("</script", "<\\/script")


# -- specifications ---


def page_spec(panel: Panel | HeatMap) -> Spec:
    """Return one panel as wide as its place, whose lines can be switched off in the legend."""
    columns = {"expr": f"max(1, floor(containerSize()[0] / {_entry_width([panel])}))"}
    return _panel_spec(panel, True) | {"config": _config(columns)}


def file_spec(chart: Chart) -> Spec:
    """Return all panels in rows of two or three, with one legend below."""
    panels: Sequence[Panel | HeatMap] = chart.panels
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    specs = [_panel_spec(panel, False) for panel in panels]
    if len(specs) > 1:
        for spec, panel in zip(specs, panels, strict=True):
            spec["title"] = escaped(panel.title)
    fitting = max(1, columns * WIDTH // _entry_width(panels))
    found: Spec = {"concat": specs, "columns": columns, "config": _config(fitting)}
    if marks := [mark for shown, mark in SPREAD.items() if shown in map(_spread, chart.curves)]:
        style = {"orient": "bottom", "fontWeight": "normal", "fontSize": 10, "offset": 8}
        found["title"] = {"text": f"{'. '.join(marks)}.", **style}
    return found


def _spread(panel: Panel) -> str | None:
    """Return how a panel shows the range of several runs; None where no line has one."""
    return ("rules" if panel.names else "bands") if any(line.band for line in panel.lines) else None


def _config(legend_columns: Any) -> Spec:
    """Return the style, with so many entries side by side in a legend."""
    style: Spec = json.loads((files("seq2seq.report") / "style.json").read_text(encoding="utf-8"))
    style["legend"]["columns"] = legend_columns
    return style


def _entry_width(panels: Sequence[Panel | HeatMap]) -> int:
    """Return the width of the longest entry of a legend, in pixels."""
    labels = [label for panel in panels for label in panel.labels]
    return SYMBOL + LETTER * max(map(len, labels), default=0)


def _panel_spec(panel: Panel | HeatMap, on_page: bool) -> Spec:
    """Return the specification of a panel, with its points."""
    spec = (
        _lines_spec(panel, on_page)
        if isinstance(panel, Panel)
        else heat_map_spec(panel, on_page, WIDTH)
    )
    visible: Spec = _visible(spec)
    return visible


def _lines_spec(panel: Panel, on_page: bool) -> Spec:
    """Return panel.json.jinja filled in, with the points."""
    shapes = [SHAPES.get(_shape(line, panel), "") for line in panel.lines]
    content = {
        "panel": panel,
        "on_page": on_page,
        "width": "container" if on_page else WIDTH,
        "height": PAGE_HEIGHT if on_page else HEIGHT,
        "colours": [_colour(line) for line in panel.lines],
        "dashes": [DASHES[line.variant % len(DASHES)] for line in panel.lines],
        "outlines": shapes if panel.names else [STROKE + shape for shape in shapes],
    }
    spec: Spec = json.loads(rendered_template("panel.json.jinja", content))
    spec["data"]["values"] = list(_rows(panel))
    return spec


def _colour(line: Line) -> str:
    """Return the colour of a line's norm, in a tint of its own for each of the norm's lines."""
    tint = TINTS[line.variant % len(TINTS)]
    channels = bytes.fromhex(NORM_COLOURS[line.kind][1:])
    end = 255 if tint > 0 or not any(channels) else 0
    return "#" + bytes(round(c + abs(tint) * (end - c)) for c in channels).hex().upper()


def _visible(value: Any) -> Any:
    """Return a specification whose texts have no control characters, which SVG does not allow."""
    if isinstance(value, dict):
        return {key: _visible(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_visible(part) for part in value]
    return escaped(value) if isinstance(value, str) else value


# -- data ---


def _shape(line: Line, panel: Panel) -> str:
    """Return a line's mark; "" on one of many points that its dashes distinguish."""
    shapes = list(SHAPES)
    if panel.names or len(line.x) < MARKED:
        return shapes[line.variant % len(shapes)]
    return ["", *shapes[1:]][line.variant // len(DASHES) % len(shapes)]


def _rows(panel: Panel) -> Iterator[Spec]:
    """Yield each point of each line, with the lowest and the highest run."""
    for line in panel.lines:
        shape = _shape(line, panel)
        every = 1 if len(line.x) < MARKED else len(line.x) // MOST_MARKS
        values = {"y": line.y}
        if line.band:
            values["low"], values["high"] = line.band
        for number, x in enumerate(line.x):
            point = {name: _rounded(y[number], panel.log_y) for name, y in values.items()}
            shown = shape if number % every == 0 else ""
            yield {"label": line.label, "x": x, "shape": shown, **point}


def _rounded(value: float, log: bool) -> float | None:
    """Round to five digits; None where an axis has no place for the value."""
    return float(f"{value:.5g}") if math.isfinite(value) and (value > 0 or not log) else None
