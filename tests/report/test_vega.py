"""One specification for the page and the files shows all values in a readable way."""

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert
from matplotlib.image import imread
from PIL import Image

from seq2seq.figures import NORM_COLOURS, small_png
from seq2seq.report.charts import Chart, Line, Panel
from seq2seq.report.vega import (
    DASHES,
    HEIGHT,
    SHAPES,
    SPREAD,
    STROKE,
    Drawing,
    Spec,
    file_spec,
    javascript,
    page_spec,
)


def chart(*panels: Panel) -> Chart:
    return Chart("name", "title", "caption", list(panels))


def panel(lines: list[Line], **more: Any) -> Panel:
    return Panel("panel", "x (units)", "y (units)", lines, **more)


def values(spec: Spec) -> list[Spec]:
    found: list[Spec] = spec["data"]["values"]
    return found


def lines_of(spec: Spec) -> tuple[list[Spec], Spec]:
    """Return the layers that draw the lines, and their common encoding."""
    group = spec["layer"][0]
    return group["layer"], group["encoding"]


def kinds(spec: Spec) -> list[str]:
    return [layer["mark"]["type"] for layer in lines_of(spec)[0]]


def legend_shapes(spec: Spec) -> list[str]:
    found: list[str] = spec["layer"][1]["encoding"]["shape"]["scale"]["range"]
    return found


def axis(spec: Spec, name: str) -> Spec:
    found: Spec = lines_of(spec)[1][name]["axis"]
    return found


def texts(svg: bytes) -> list[tuple[str, float, float]]:
    """Return the texts of an SVG with their places in the picture: (text, x, y)."""
    found = []

    def search(element: ET.Element, x: float, y: float) -> None:
        move = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", element.get("transform", ""))
        if move:
            x, y = x + float(move[1]), y + float(move[2])
        if element.tag.endswith("}text") and element.text:
            found.append((element.text, x, y))
        for child in element:
            search(child, x, y)

    search(ET.fromstring(svg), 0.0, 0.0)
    return found


def size(svg: bytes) -> tuple[float, float]:
    root = ET.fromstring(svg)
    return float(root.attrib["width"]), float(root.attrib["height"])


# -- specification ---


def test_lines_have_their_colours_bands_and_labels() -> None:
    lines = [
        Line("none", "none", 0, [1, 2], [3.0, 4.0], ([2.0, 3.0], [4.0, 5.0])),
        Line("rms", "rms", 0, [1, 5], [2.0, 1]),
    ]
    spec = page_spec(panel(lines, smooths=True))
    _, encoding = lines_of(spec)
    assert kinds(spec) == ["area", "line", "point"]
    assert encoding["color"]["scale"] == {
        "domain": ["none", "rms"],
        "range": [NORM_COLOURS["none"], NORM_COLOURS["rms"]],
    }
    assert [(v["label"], v["x"], v["y"]) for v in values(spec)] == [
        ("none", 1, 3.0),
        ("none", 2, 4.0),
        ("rms", 1, 2.0),
        ("rms", 5, 1.0),
    ]
    assert [(v["low"], v["high"]) for v in values(spec)[:2]] == [(2.0, 4.0), (3.0, 5.0)]
    assert not {"low", "high"} & values(spec)[2].keys()
    assert (encoding["x"]["title"], encoding["y"]["title"]) == ("x (units)", "y (units)")


@pytest.mark.parametrize("kind", NORM_COLOURS)
def test_the_lines_of_a_norm_have_tints_of_its_colour(kind: str) -> None:
    lines = [Line(str(n), kind, n, [1, 2], [3.0, 4.0]) for n in range(20)]
    spec = page_spec(panel(lines))
    colours = lines_of(spec)[1]["color"]["scale"]["range"]
    dashes = spec["layer"][0]["layer"][1]["encoding"]["strokeDash"]["scale"]["range"]
    assert colours[0] == NORM_COLOURS[kind]
    sums = sorted(sum(bytes.fromhex(colour[1:])) for colour in set(colours))
    assert len(sums) == 5
    assert all(above - below >= 30 for below, above in pairwise(sums))
    assert len({(c, *d) for c, d in zip(colours, dashes, strict=True)}) == 20


def test_page_and_files_show_the_same() -> None:
    line = Line("none", "none", 0, [1, 2], [3.0, 4.0])
    first, second = panel([line]), panel([line, line], log_y=True, marks={"here": 1.5})
    spec = file_spec(chart(first, second))
    for given, filed in zip((first, second), spec["concat"], strict=True):
        shown = page_spec(given)
        assert values(shown) == values(filed)
        assert lines_of(shown)[1] == lines_of(filed)[1]
        assert shown["layer"][1:] == filed["layer"][1:]
    scales = [lines_of(part)[1]["y"]["scale"]["type"] for part in spec["concat"]]
    assert scales == ["linear", "log"]
    rule, text = spec["concat"][1]["layer"][2:]
    assert (rule["mark"]["type"], text["mark"]["text"]) == ("rule", "here")
    assert values(rule) == values(text) == [{"x": 1.5}]


def test_the_page_knows_which_axes_may_be_logarithmic() -> None:
    drawing = Drawing(chart(panel([Line("a", "none", 0, [0, 2], [3.0, 4.0])])), "stem")
    (spec,) = json.loads(drawing.json)
    assert spec["usermeta"] == {"positive": {"x": False, "y": True}, "lines": True}


def test_a_label_cannot_end_the_script() -> None:
    line = Line("</script>", "none", 0, [1], [3.0])
    text = Drawing(chart(panel([line])), "stem").json
    assert "</" not in text
    assert values(json.loads(text)[0])[0]["label"] == "</script>"
    assert "</script" not in javascript()


def test_every_line_is_shown_at_first() -> None:
    lines = [Line(label, "none", i, [1], [3.0]) for i, label in enumerate("ab")]
    spec = page_spec(panel(lines))
    (shown,) = lines_of(spec)[0][-1]["params"]
    assert shown["value"] == [{"label": "a"}, {"label": "b"}]
    assert spec["transform"] == [{"filter": {"param": shown["name"], "empty": False}}]


def test_variants_of_a_norm_look_different() -> None:
    count, long = len(DASHES) * len(SHAPES), [float(i) for i in range(100)]
    lines = [Line(str(i), "layer", i, long, long) for i in range(count)]
    spec = page_spec(panel(lines))
    dashes = lines_of(spec)[0][1]["encoding"]["strokeDash"]["scale"]["range"]
    looks = list(zip(map(tuple, dashes), legend_shapes(spec), strict=True))
    assert len(set(looks)) == count
    assert looks[: len(DASHES)] == [(tuple(dash), STROKE) for dash in DASHES]  # these have no marks


def test_short_lines_of_variants_of_a_norm_have_marks_of_their_own() -> None:
    lines = [Line(str(i), "layer", i, [1, 2], [1.0, 2.0]) for i in range(len(SHAPES))]
    spec = page_spec(panel(lines))
    assert [v["shape"] for v in values(spec)] == [name for name in SHAPES for _ in range(2)]
    assert legend_shapes(spec) == [STROKE + outline for outline in SHAPES.values()]


def test_a_long_line_has_a_mark_at_some_of_its_points() -> None:
    line = Line("a", "layer", len(DASHES), list(range(200)), [1.0] * 200)
    shapes = [v["shape"] for v in values(page_spec(panel([line])))]
    assert 10 <= sum(shape != "" for shape in shapes) <= 20


def test_points_of_variants_of_a_norm_look_different() -> None:
    lines = [Line(str(i), "layer", i, ["p"], [1.0]) for i in range(len(SHAPES))]
    spec = page_spec(panel(lines))
    assert len({v["shape"] for v in values(spec)}) == len(lines)
    assert legend_shapes(spec) == list(SHAPES.values())


def test_a_single_point_is_visible() -> None:
    spec = page_spec(panel([Line("a", "none", 0, [7], [1.0])]))
    assert values(spec) == [{"label": "a", "x": 7, "y": 1.0, "shape": "circle"}]
    svg = Drawing(chart(panel([Line("a", "none", 0, [7], [1.0])])), "a").svg
    (point,) = ET.fromstring(svg).iterfind(".//{*}path[@aria-roledescription='point']")
    assert (point.get("fill"), point.get("opacity")) == (NORM_COLOURS["none"], "1")


def test_many_names_are_slanted() -> None:
    for names, angle in ((["p", "q", "r"], 0), (["p", "q", "r", "s"], -45)):
        spec = page_spec(panel([Line("a", "none", 0, names, [1.0] * len(names))]))
        assert axis(spec, "x")["labelAngle"] == angle


def named(*labels: str) -> Panel:
    """Return a panel with a point at each of p and q for every label, the first with a range."""
    lines = [Line(label, "layer", i, ["p", "q"], [2.0, 5.0]) for i, label in enumerate(labels)]
    lines[0].band = [1.0, 5.0], [4.0, 6.0]
    return panel(lines)


def test_points_at_names_are_side_by_side_with_bars() -> None:
    spec = page_spec(named("a", "b", "c"))
    assert kinds(spec) == ["rule", "point"]
    _, encoding = lines_of(spec)
    assert (encoding["x"]["type"], encoding["x"]["sort"]) == ("nominal", None)
    assert encoding["xOffset"]["scale"]["domain"] == ["a", "b", "c"]
    assert [(v["low"], v["high"]) for v in values(spec)[:2]] == [(1.0, 4.0), (5.0, 6.0)]
    numbers = page_spec(panel([Line("a", "none", 0, [1, 2], [1.0, 2.0])]))
    assert "xOffset" not in lines_of(numbers)[1]


def test_a_missing_number_leaves_a_gap() -> None:
    line = Line("a", "none", 0, [1, 2, 3], [float("nan"), 1.23456789, 0.0])
    assert [v["y"] for v in values(page_spec(panel([line])))] == [None, 1.2346, 0.0]
    assert [v["y"] for v in values(page_spec(panel([line], log_y=True)))] == [None, 1.2346, None]


def test_a_logarithmic_axis_with_few_values_has_them_as_ticks() -> None:
    lines = [Line("a", "none", 0, [4, 16, 256], [1.0, 2.0, 3.0])]
    assert axis(page_spec(panel(lines, log_x=True)), "x")["values"] == [4, 16, 256]
    assert "values" not in axis(page_spec(panel(lines)), "x")


# -- pictures ---


def tick_texts(given: Panel) -> set[str]:
    return {text for text, _, _ in texts(Drawing(chart(given), "a").svg)}


@pytest.mark.parametrize(
    ("y", "ticks"), [([0.2, 3.0], {"0.2", "1", "3"}), ([1e-9, 1.0], {"1e-8", "1e-4", "1"})]
)
def test_a_logarithmic_axis_has_plain_numbers_where_it_spans_few_powers(
    y: list[float], ticks: set[str]
) -> None:
    assert ticks <= tick_texts(panel([Line("a", "none", 0, [1, 2], y)], log_y=True))


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(1400, {"200", "1,400"}), (250_000, {"50k", "250k"}), (3.5, {"0.5", "3"})],
)
def test_large_numbers_are_short(largest: float, ticks: set[str]) -> None:
    line = Line("a", "none", 0, [0, largest], [1.0, 2.0])
    assert ticks <= tick_texts(panel([line]))


@pytest.mark.parametrize("panels", [1, 3, 4])
def test_the_legend_is_below_and_in_the_picture(panels: int) -> None:
    names = [f"layer (statistics per_step, gain {i}), $x$ 中文" for i in range(9)]
    lines = [Line(name, "layer", i, [1, 2], [1.0, 2.0]) for i, name in enumerate(names)]
    svg = Drawing(chart(*[panel(lines)] * panels), "a").svg
    found, (width, height) = texts(svg), size(svg)
    entries = [(text, x, y) for text, x, y in found if text in names]
    assert [text for text, _, _ in entries] == names  # one legend for all panels
    titles = [y for text, _, y in found if text == "x (units)"]
    assert len(titles) == panels
    assert all(max(titles) < y < height for _, _, y in entries)
    assert all(0 <= x < x + 6 * len(text) <= width for text, x, _ in entries)
    assert height > HEIGHT * (2 if panels == 4 else 1)


def test_a_file_says_what_shows_the_range_of_runs() -> None:
    band = ([0.5, 1.5], [1.5, 2.5])
    numbers = Line("a", "batch", 0, [1, 2], [1.0, 2.0], band)
    names = Line("a", "batch", 0, ["x", "y"], [1.0, 2.0], band)
    alone = Line("a", "batch", 0, [1, 2], [1.0, 2.0])
    for lines, marks in (([numbers], "bands"), ([names], "rules"), ([alone], "")):
        found = [text for text, _, _ in texts(Drawing(chart(panel(lines)), "a").svg)]
        assert [text for text in found if "seeds" in text] == (
            [f"{SPREAD[marks]}."] if marks else []
        )


def test_the_files_are_the_same_picture() -> None:
    drawing = Drawing(chart(panel([Line("a", "batch", 0, [1, 2], [1.0, 2.0])])), "a")
    width, height = size(drawing.svg)
    picture = imread(io.BytesIO(drawing.pictures["png"]))
    np.testing.assert_allclose(picture.shape[:2], (2 * height, 2 * width), atol=2)
    assert (picture[0, 0] == 1).all()  # white, also on a dark page
    colour = [int(NORM_COLOURS["batch"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert (np.abs(picture[:, :, :3] - colour).max(-1) < 0.02).sum() > 100


def test_chinese_characters_are_drawn() -> None:
    """A font without a glyph draws the same box for every letter."""
    pictures = [
        Drawing(chart(panel([Line(text, "none", 0, [1], [1.0])])), "a").pictures["png"]
        for text in ("中中", "文文")
    ]
    assert pictures[0] != pictures[1]


def test_the_script_of_the_page_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = javascript.__wrapped__()
    (file,) = (tmp_path / "seq2seq").iterdir()
    assert version("vl-convert-python") in file.name

    def unwanted(snippet: str) -> str:
        raise AssertionError(f"made again: {snippet}")

    monkeypatch.setattr(vl_convert, "javascript_bundle", unwanted)
    assert javascript.__wrapped__() == made
    assert "vegaEmbed" in made


@pytest.mark.parametrize("colours", [3, 256, 400])
def test_a_small_png_has_the_colours_of_the_picture(colours: int) -> None:
    """Up to 256 colours all are kept; of more the rarest change a little."""
    draw = np.random.default_rng(1)
    palette = draw.permutation(np.arange(colours))[:, None] * [1, 3, 7] % 256
    runs = draw.integers(colours, size=2000) * (draw.random(2000) < 0.5)
    pixels = np.repeat(palette[runs], 3, axis=0).reshape(60, 100, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    with Image.open(io.BytesIO(small_png(file.getvalue()))) as image:
        assert image.mode == "P"
        change = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels)
    assert change.max() == 0 if colours <= 256 else change.mean() < 2


def test_a_page_does_not_import_matplotlib() -> None:
    """Its import takes half a second, and only attention maps for TensorBoard need it."""
    code = "import sys, seq2seq.report.page; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
