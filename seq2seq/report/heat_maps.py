"""Heat maps in Vega-Lite: heat_map.json.jinja is the specification of one."""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .charts import HeatMap
from .templates import rendered_template

ROW = 34
"""Height of a row, in pixels."""


def heat_map_spec(panel: HeatMap, on_page: bool, width: int) -> dict[str, Any]:
    """Return the template filled in, with the values; `width` (pixels) is that in a file."""
    content = {
        "panel": panel,
        "on_page": on_page,
        "width": "container" if on_page else width,
        "height": ROW * len(panel.rows),
        "ticks": [math.log2(x) for x in panel.x],
        "marks": {label: math.log2(x) for label, x in panel.marks.items()},
    }
    spec: dict[str, Any] = json.loads(rendered_template("heat_map.json.jinja", content))
    spec["data"]["values"] = list(_cells(panel))
    return spec


def _cells(panel: HeatMap) -> Iterator[dict[str, Any]]:
    """Yield the rectangle of each value; its sides are halfway to its neighbours."""
    at = [math.log2(x) for x in panel.x]
    middles = [(a + b) / 2 for a, b in pairwise(at)] or [at[0] + 0.5]
    sides = [2 * at[0] - middles[0], *middles, 2 * at[-1] - middles[-1]][: len(at) + 1]
    for row, values in panel.rows.items():
        for i, x in enumerate(panel.x):
            value = values.get(x, math.nan)
            yield {
                "row": row,
                "at": x,
                "x": at[i],
                "low": sides[i],
                "high": sides[i + 1],
                "value": value if math.isfinite(value) else None,
                "shown": factor(value),
            }


def factor(log2: float) -> str:
    """Return a factor that is given by its binary logarithm, as "×1.41"; "–" for nan."""
    if not math.isfinite(log2):
        return "–"
    value = 2**log2
    return f"×{value:#.3g}" if 0.1 <= value < 100 else f"×{value:.1g}"
