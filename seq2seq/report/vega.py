"""Charts drawn by Vega-Lite: one specification for the page, the SVG and the PNG.

vl-convert renders without a browser or a network, and bundles the JavaScript that the page needs.
style.json is the configuration of every chart: https://vega.github.io/vega-lite/docs/config.html
"""

import base64
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import vl_convert
from PIL import Image

from ..figures import NORM_COLOURS
from ..shown import escaped
from .charts import Chart, Line, Panel

DASHES = ([1, 0], [6, 3], [2, 2], [7, 2, 2, 2])
"""Strokes of the lines of one colour, in pixels drawn and left out."""
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
MARKED, MOST_MARKS = 20, 15
"""A line of fewer points has a mark at each; a longer one has at most so many."""
THOUSANDS = 20_000
"""From such a value on, an axis counts in thousands (k) or millions (M)."""
LEVEL = 3
"""More names below an axis are slanted."""
WIDTH, HEIGHT, PAGE_HEIGHT = 300, 240, 300
"""Size of a panel in a file and its height on the page, in pixels."""
LETTER, SYMBOL = 7, 60
"""Width of a legend's letter and of the rest of an entry, in pixels."""
Spec = dict[str, Any]


@dataclass
class Drawing:
    """A chart for the page and for its two files."""

    chart: Chart
    stem: str
    """Name of its files in figures/, without the ending."""

    @cached_property
    def svg(self) -> bytes:
        """The panels side by side."""
        vl_convert.register_font_directory(str(files("zhplot") / "fonts"))  # for Chinese, Japanese
        return vl_convert.vegalite_to_svg(file_spec(self.chart)).encode()

    @property
    def pictures(self) -> dict[str, bytes]:
        """Ending -> content of each file."""
        png = vl_convert.svg_to_png(self.svg.decode(), scale=2)
        return {"png": small_png(png), "svg": self.svg}

    @property
    def base64(self) -> str:
        """The SVG in base64."""
        return base64.b64encode(self.svg).decode()

    @property
    def json(self) -> str:
        """Specifications of the panels, safe inside a script element."""
        content = json.dumps([page_spec(panel) for panel in self.chart.panels])
        return content.replace("<", "\\u003c")


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


# -- specifications ---


def page_spec(panel: Panel) -> Spec:
    """Return one panel as wide as its place, whose lines can be switched off in the legend."""
    spec = _panel_spec(panel, "container")
    spec["transform"] = [{"filter": {"param": "shown", "empty": False}}]
    spec["layer"][0]["layer"][-1]["params"] = [
        {
            "name": "shown",
            "select": {"type": "point", "fields": ["label"], "toggle": "true"},
            "bind": "legend",
            "value": [{"label": line.label} for line in panel.lines],
        }
    ]
    columns = f"max(1, floor(containerSize()[0] / {_entry_width([panel])}))"
    return {
        **_visible(spec),
        "height": PAGE_HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "usermeta": {"positive": {"x": panel.positive_x, "y": panel.positive_y}},
        "config": _config({"expr": columns}),
    }


def small_png(png: bytes) -> bytes:
    """Return a PNG with 256 colours, which needs a tenth of the space."""
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    file = io.BytesIO()
    palette.save(file, "png", optimize=True)
    return file.getvalue()


def file_spec(chart: Chart) -> Spec:
    """Return all panels in rows of two or three, with one legend below."""
    columns = 2 if len(chart.panels) == 4 else min(len(chart.panels), 3)
    specs = []
    for panel in chart.panels:
        spec = _panel_spec(panel, WIDTH)
        # a file has no tooltips, so it needs no points without a mark
        spec["layer"][0]["layer"][-1]["transform"] = [{"filter": "datum.shape"}]
        specs.append(spec | ({"title": panel.title} if len(chart.panels) > 1 else {}))
    fitting = max(1, columns * WIDTH // _entry_width(chart.panels))
    return {"concat": _visible(specs), "columns": columns, "config": _config(fitting)}


def _visible(spec: Any) -> Any:
    """Return a specification whose texts have no control characters, which XML does not allow."""
    if isinstance(spec, dict):
        return {key: _visible(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_visible(value) for value in spec]
    return escaped(spec) if isinstance(spec, str) else spec


def _config(legend_columns: Any) -> Spec:
    """Return the style, with so many entries side by side in a legend."""
    style: Spec = json.loads((files("seq2seq.report") / "style.json").read_text(encoding="utf-8"))
    style["legend"]["columns"] = legend_columns
    return style


def _entry_width(panels: list[Panel]) -> int:
    """Return the width of the longest entry of a legend, in pixels."""
    labels = [line.label for panel in panels for line in panel.lines]
    return SYMBOL + LETTER * max(map(len, labels), default=0)


def _panel_spec(panel: Panel, width: Any) -> Spec:
    """Return a panel: its lines, the shapes of the legend, and its marks.

    The second layer has no points: it gives the legend the shape of each line.
    """
    shapes = [SHAPES.get(_shape(line, panel), "") for line in panel.lines]
    pieces = shapes if panel.names else [STROKE + shape for shape in shapes]
    legend = {
        "data": {"values": []},
        "mark": {"type": "point", "filled": True},
        "encoding": {"shape": _by_line(panel, pieces)},
    }
    marks = [layer for label, x in panel.marks.items() for layer in _mark(label, x)]
    return {
        "width": width,
        "height": HEIGHT,
        "data": {"values": list(_rows(panel))},
        "layer": [_lines(panel), legend, *marks],
    }


def _by_line(panel: Panel, values: list[Any]) -> Spec:
    """Return an encoding with one value for each line."""
    scale = {"domain": [line.label for line in panel.lines], "range": values}
    return {"field": "label", "type": "nominal", "title": None, "scale": scale}


def _lines(panel: Panel) -> Spec:
    """Return lines with bands, or points with bars where x are names."""
    colours = [NORM_COLOURS[line.kind] for line in panel.lines]
    dashes = [DASHES[line.variant % len(DASHES)] for line in panel.lines]
    encoding = {"x": _x_axis(panel), "y": _y_axis(panel), "color": _by_line(panel, colours)}
    low_to_high = {"y": {"field": "low"}, "y2": {"field": "high"}}
    if panel.names:
        domain = [line.label for line in panel.lines]
        encoding["xOffset"] = {"field": "label", "scale": {"domain": domain, "paddingOuter": 1}}
        layers = [{"mark": {"type": "rule", "strokeWidth": 1.3}, "encoding": low_to_high}]
    else:
        dash = {"strokeDash": _by_line(panel, dashes)}
        layers = [
            {"mark": {"type": "area", "fillOpacity": 0.15}, "encoding": low_to_high},
            {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": dash},
        ]
    return {"encoding": encoding, "layer": [*layers, _points(panel)]}


def _points(panel: Panel) -> Spec:
    """Return the marks; a point without one has only a tooltip."""
    number = {"type": "quantitative", "format": ",.4~r" if panel.plain_y else ".4~g"}
    x = {"type": "nominal"} if panel.names else {"type": "quantitative", "format": ",.6~r"}
    tooltip = [
        {"field": "label", "title": "title"},
        {"field": "x", "title": panel.x_label, **x},
        {"field": "y", "title": panel.y_label, **number},
    ]
    if any(line.band for line in panel.lines):
        tooltip += [{"field": f, "title": f"{f}est run", **number} for f in ("low", "high")]
    return {
        "mark": {"type": "point", "filled": True, "size": 40},
        "encoding": {
            "shape": {"field": "shape", "scale": None},
            "opacity": {"condition": {"test": "datum.shape", "value": 1}, "value": 0},
            "tooltip": tooltip,
        },
    }


def _mark(label: str, x: float) -> Iterator[Spec]:
    """Yield a vertical line and its label."""
    place = {"x": {"field": "x", "type": "quantitative"}}
    rule = {"type": "rule", "strokeDash": [2, 3], "color": "#555"}
    text = {"type": "text", "text": label, "align": "left", "baseline": "top", "dx": 4}
    for mark, encoding in ((rule, place), (text, place | {"y": {"value": 3}})):
        yield {"data": {"values": [{"x": x}]}, "mark": mark, "encoding": encoding}


def _x_axis(panel: Panel) -> Spec:
    axis: Spec = {"field": "x", "title": panel.x_label}
    if panel.names:
        labels: Spec = {"labelAngle": -45 if len(panel.names) > LEVEL else 0}
        return axis | {"type": "nominal", "sort": None, "axis": labels}
    largest = max((abs(x) for line in panel.lines for x in line.x), default=0)
    labels = {"format": "~s" if largest >= THOUSANDS else ",~r", "tickCount": 7}
    if panel.x_ticks:
        labels["values"] = panel.x_ticks
    return axis | _quantitative(panel.log_x) | {"axis": labels}


def _y_axis(panel: Panel) -> Spec:
    labels: Spec = {"format": ",~r", "tickCount": 5}
    if not panel.plain_y:
        labels |= {"format": "~e", "labelExpr": "replace(datum.label, 'e+0', '')"}
    return {"field": "y", "title": panel.y_label, "axis": labels} | _quantitative(panel.log_y)


def _quantitative(log: bool) -> Spec:
    scale = {"type": "log" if log else "linear", "zero": False, "nice": False, "padding": 8}
    return {"type": "quantitative", "scale": scale}


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
