"""Heat maps: colours, factors and lines, in files and on the page."""

import json
import math
import xml.etree.ElementTree as ET

import pytest

from seq2seq.report.charts import Chart, HeatMap
from seq2seq.report.heat_maps import factor
from seq2seq.report.vega import Drawing, file_spec, page_spec

MAP = HeatMap(
    "rnn",
    "radius",
    {"none": {0.25: -2.0, 1.0: 0.0, 4.0: 1.5}, "layer": {0.25: 0.0, 4.0: math.nan}},
    "factor a step",
    {"largest singular value 1": 0.5},
)


def test_factors_in_words() -> None:
    found = [factor(x) for x in (0.0, 0.5, -1.0, -0.01, 10.0, -5.0, math.nan, math.inf)]
    assert found == ["×1.00", "×1.41", "×0.500", "×0.993", "×1e+03", "×0.03", "–", "–"]


def test_every_value_has_its_rectangle_between_its_neighbours() -> None:
    cells = {(c["row"], c["at"]): c for c in page_spec(MAP)["data"]["values"]}
    assert len(cells) == 6
    first, middle, last = (cells["none", x] for x in (0.25, 1.0, 4.0))
    assert [(c["low"], c["high"]) for c in (first, middle, last)] == [(-3, -1), (-1, 1), (1, 3)]
    assert (first["value"], first["shown"]) == (-2.0, "×0.250")
    assert (cells["layer", 1.0]["value"], cells["layer", 1.0]["shown"]) == (None, "–")
    assert cells["layer", 4.0]["value"] is None
    assert json.loads(json.dumps(page_spec(MAP), allow_nan=False)) == page_spec(MAP)


def test_a_map_of_one_column_has_a_width() -> None:
    (cell,) = page_spec(HeatMap("t", "x", {"none": {2.0: 1.0}}, "w"))["data"]["values"]
    assert (cell["low"], cell["high"]) == (0.5, 1.5)


def test_a_file_shows_rows_columns_factors_and_the_line() -> None:
    drawing = Drawing(Chart("c", "t", "", [MAP, MAP]), "c")
    texts = [e.text for e in ET.fromstring(drawing.svg).iter() if e.tag.endswith("text")]
    assert {
        "none",
        "layer",
        "0.25",
        "×0.250",
        "×2.83",
        "–",
        "largest singular value 1",
        "factor a step",
    } <= set(texts)
    assert texts.count("×2.83") == 2
    assert file_spec(drawing.chart)["concat"][0]["title"] == "rnn"
    assert drawing.pictures["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_colours_go_from_blue_over_white_to_red(value: float) -> None:
    svg = Drawing(Chart("c", "t", "", [HeatMap("t", "x", {"a": {1.0: value}}, "w")]), "c").svg
    colour = {-1.0: "rgb(33, 102, 172)", 0.0: "rgb(247, 247, 247)", 1.0: "rgb(178, 24, 43)"}[value]
    assert f'fill="{colour}"'.encode() in svg.partition(b"mark-rect")[2].partition(b"/>")[0]
