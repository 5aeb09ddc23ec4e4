"""Charts drawn by Vega-Lite: one specification for the page, the SVG and the PNG.

vl-convert renders without a browser or a network, and bundles the JavaScript that the page needs.
"""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import vl_convert

from ..figures import NORM_COLOURS
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
MARKED = 20
"""A line of fewer points has a mark at each: a single point would be invisible without one."""
MOST_MARKS = 15
"""Marks at most on a longer line."""
THOUSANDS = 20_000
"""From such a value on, an axis counts in thousands (k) or millions (M)."""
LEVEL = 3
"""So many names or fewer are written horizontally below an axis."""
SLANT = -45
"""Angle of more names, in degrees."""
WIDTH, HEIGHT = 300, 240
"""Size of a panel in a file, in pixels."""
PAGE_HEIGHT = 300
"""Height of a panel on the page, which is as wide as the page."""
LETTER = 7
"""Width of a letter in the legend, in pixels, rounded up."""
SCALE = 2
"""Pixels of the PNG per pixel of the SVG."""
CONFIG = {
    "background": "white",
    "font": "sans-serif",
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": "#e4e4e4",
        "labelLimit": 150,
        "labelSeparation": 6,
    },
    "axisQuantitative": {"labelOverlap": "greedy"},
    "title": {"fontSize": 13, "fontWeight": "normal"},
    "legend": {
        "orient": "bottom",
        "labelFontSize": 12,
        "labelLimit": 0,
        "symbolSize": 160,
        "symbolOffset": 6,
        "labelOffset": 14,
        "columnPadding": 20,
        "symbolOpacity": 1,
    },
    "mark": {"invalid": "break-paths-show-path-domains"},
}
"""Style of every chart: https://vega.github.io/vega-lite/docs/config.html"""
Spec = dict[str, Any]


@dataclass
class Drawing:
    """A chart for the page and for its two files."""

    chart: Chart
    stem: str
    """Name of its files in figures/, without the ending."""

    @cached_property
    def svg(self) -> str:
        """The panels side by side."""
        return _converter().vegalite_to_svg(file_spec(self.chart))

    @property
    def pictures(self) -> dict[str, bytes]:
        """Ending -> content of each file."""
        png: bytes = _converter().svg_to_png(self.svg, scale=SCALE)
        return {"png": png, "svg": self.svg.encode()}

    @property
    def base64(self) -> str:
        """The SVG in base64."""
        return base64.b64encode(self.svg.encode()).decode()

    @property
    def json(self) -> str:
        """Specifications of the panels, safe inside a script element."""
        return json.dumps([page_spec(panel) for panel in self.chart.panels]).replace("</", "<\\/")


@cache
def _converter() -> Any:
    """Return vl_convert with a font for Chinese and Japanese, which the zhplot package brings."""
    vl_convert.register_font_directory(str(files("zhplot") / "fonts"))
    return vl_convert


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


# -- specifications ---


def page_spec(panel: Panel) -> Spec:
    """Return one panel as wide as its place, whose lines can be switched off in the legend."""
    labels = [line.label for line in panel.lines]
    spec = _panel_spec(panel, "container")
    spec["layer"][0]["layer"][-1]["params"] = [
        {
            "name": "shown",
            "select": {"type": "point", "fields": ["label"], "toggle": "true"},
            "bind": "legend",
            "value": [{"label": label} for label in labels],
        }
    ]
    spec["transform"] = [{"filter": {"param": "shown", "empty": False}}]
    columns = f"max(1, floor(containerSize()[0] / {_entry_width([panel])}))"
    return spec | {
        "height": PAGE_HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "usermeta": {"positive": {"x": panel.positive_x, "y": panel.positive_y}},
        "config": _config({"expr": columns}),
    }


def file_spec(chart: Chart) -> Spec:
    """Return all panels in rows of two or three, with one legend below."""
    columns = 2 if len(chart.panels) == 4 else min(len(chart.panels), 3)
    panels = [_panel_spec(panel, WIDTH) for panel in chart.panels]
    for panel in panels:  # no tooltips, so no points without a mark
        panel["layer"][0]["layer"][-1]["transform"] = [{"filter": "datum.shape"}]
    if len(panels) > 1:
        panels = [
            spec | {"title": panel.title} for spec, panel in zip(panels, chart.panels, strict=True)
        ]
    fitting = columns * WIDTH // _entry_width(chart.panels)
    return {"concat": panels, "columns": columns, "config": _config(max(1, fitting))}


def _config(columns: Any) -> Spec:
    return CONFIG | {"legend": CONFIG["legend"] | {"columns": columns}}


def _entry_width(panels: list[Panel]) -> int:
    """Return the width of the longest entry of a legend, in pixels."""
    return 60 + LETTER * max(
        (len(line.label) for panel in panels for line in panel.lines), default=0
    )


def _panel_spec(panel: Panel, width: Any) -> Spec:
    """Return the lines with bands, or points with bars where x are names, and the marks on top."""
    domain = [line.label for line in panel.lines]
    look = {"field": "label", "type": "nominal", "title": None}
    shapes = [
        ("" if panel.names else STROKE) + SHAPES.get(_shape(line, panel), "")
        for line in panel.lines
    ]
    color = look | _scale(domain, [NORM_COLOURS[line.kind] for line in panel.lines])
    dash = look | _scale(domain, [DASHES[line.variant % len(DASHES)] for line in panel.lines])
    low_to_high = {"y": {"field": "low"}, "y2": {"field": "high"}}
    if panel.names:
        drawn = [{"mark": {"type": "rule", "strokeWidth": 1.3}, "encoding": low_to_high}]
    else:
        drawn = [
            {"mark": {"type": "area", "fillOpacity": 0.15}, "encoding": low_to_high},
            {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": {"strokeDash": dash}},
        ]
    encoding = {"x": _x_axis(panel), "y": _y_axis(panel), "color": color}
    if panel.names:
        encoding["xOffset"] = {"field": "label", "scale": {"domain": domain, "paddingOuter": 1}}
    return {
        "width": width,
        "height": HEIGHT,
        "data": {"values": list(_rows(panel))},
        "layer": [
            {"encoding": encoding, "layer": [*drawn, _points(panel)]},
            {  # nothing but the shapes of the legend
                "data": {"values": []},
                "mark": {"type": "point", "filled": True},
                "encoding": {"shape": look | _scale(domain, shapes)},
            },
            *(layer for label, x in panel.marks.items() for layer in _mark(label, x)),
        ],
    }


def _scale(domain: list[str], values: list[Any]) -> Spec:
    return {"scale": {"domain": domain, "range": values}}


def _points(panel: Panel) -> Spec:
    """Return the marks; at points without one there is only the tooltip."""
    number = {"type": "quantitative", "format": ".4~g"}
    ranges = [number | {"field": name, "title": f"{name}est run"} for name in ("low", "high")]
    return {
        "mark": {"type": "point", "filled": True, "size": 40},
        "encoding": {
            "shape": {"field": "shape", "scale": None},
            "opacity": {"condition": {"test": "datum.shape", "value": 1}, "value": 0},
            "tooltip": [
                {"field": "label", "title": "title"},
                {"field": "x", "title": panel.x_label} | ({} if panel.names else number),
                number | {"field": "y", "title": panel.y_label},
                *(ranges if any(line.band for line in panel.lines) else ()),
            ],
        },
    }


def _mark(label: str, x: float) -> Iterator[Spec]:
    """Yield a vertical line and its label."""
    data = {"values": [{"x": x}]}
    encoding = {"x": {"field": "x", "type": "quantitative"}}
    yield {
        "data": data,
        "mark": {"type": "rule", "strokeDash": [2, 3], "color": "#555"},
        "encoding": encoding,
    }
    yield {
        "data": data,
        "mark": {"type": "text", "text": label, "align": "left", "baseline": "top", "dx": 4},
        "encoding": encoding | {"y": {"value": 3}},
    }


def _x_axis(panel: Panel) -> Spec:
    axis: Spec = {"field": "x", "title": panel.x_label}
    if panel.names:
        angle = SLANT if len(panel.names) > LEVEL else 0
        return axis | {"type": "nominal", "sort": None, "axis": {"labelAngle": angle}}
    largest = max((abs(x) for line in panel.lines for x in line.x), default=0)
    labels: Spec = {"format": "~s" if largest >= THOUSANDS else ",~r", "tickCount": 7}
    if panel.x_ticks:
        labels |= {"values": panel.x_ticks}
    return axis | _quantitative(panel.log_x) | {"axis": labels}


def _y_axis(panel: Panel) -> Spec:
    axis = {"format": "~r" if panel.plain_y else "~e", "tickCount": 5}
    return {"field": "y", "title": panel.y_label, "axis": axis} | _quantitative(panel.log_y)


def _quantitative(log: bool) -> Spec:
    kind = "log" if log else "linear"
    scale = {"type": kind, "zero": False, "nice": False, "padding": 8}
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
            values |= dict(zip(("low", "high"), line.band, strict=True))
        for number, x in enumerate(line.x):
            point = {name: _rounded(y[number], panel.log_y) for name, y in values.items()}
            shown = shape if number % every == 0 else ""
            yield {"label": line.label, "x": x, "shape": shown, **point}


def _rounded(value: float, log: bool) -> float | None:
    """Round to five digits; None where an axis has no place for the value."""
    return float(f"{value:.5g}") if math.isfinite(value) and (value > 0 or not log) else None
