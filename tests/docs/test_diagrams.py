"""The diagrams of docs/: what they highlight, that they are legible, and that they are current."""

import importlib.util
import io
import pathlib
import re
import sys
import xml.etree.ElementTree as ET
from itertools import combinations
from types import ModuleType

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch, PathPatch
from matplotlib.path import Path
from matplotlib.text import Text

from seq2seq.figures import NORM_COLOURS

ROOT = pathlib.Path(__file__).resolve().parents[2]


def loaded(path: pathlib.Path) -> ModuleType:
    """Import a script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # a dataclass finds its own module there
    spec.loader.exec_module(module)
    return module


diagrams = loaded(ROOT / "docs" / "diagrams.py")
CUBES, DIAGRAMS, LARGE = diagrams.CUBES, diagrams.DIAGRAMS, diagrams.LARGE
axes_diagram, cell_diagram = diagrams.axes_diagram, diagrams.cell_diagram
SIZES = (5, 6, 4)
PHONE = 360
"""Width of a small screen, in CSS pixels."""


@pytest.fixture(params=sorted(DIAGRAMS))
def figure(request: pytest.FixtureRequest) -> Figure:
    drawn: Figure = DIAGRAMS[request.param]()
    drawn.canvas.draw()
    return drawn


def texts(figure: Figure) -> list[Text]:
    return [text for axes in figure.axes for text in axes.texts]


def ends_of(arrow: FancyArrowPatch) -> list[tuple[float, float]]:
    """Return where an arrow begins and where it ends."""
    # Matplotlib has no public attribute for them.
    ends: list[tuple[float, float]] = arrow._posA_posB  # type: ignore[attr-defined]
    return ends


def highlighted(axes: Axes, norm: str) -> list[PathPatch]:
    return [
        patch
        for patch in axes.patches
        if isinstance(patch, PathPatch)
        and to_hex(patch.get_facecolor()).upper() == NORM_COLOURS[norm]
    ]


# -- what they show ---


@pytest.mark.parametrize("sizes", [SIZES, (3, 4, 7), (8, 3, 3)])
def test_each_cube_shows_as_many_values_as_are_averaged_over(sizes: tuple[int, int, int]) -> None:
    rows, steps, features = sizes
    expected = {
        "batch norm": rows,
        "batch norm of u": rows * steps,
        "layer norm": features,
        "rms norm": features,
    }
    figure = axes_diagram(sizes)
    found = {
        axes.get_label(): len(highlighted(axes, averaged.norm))
        for axes, averaged in zip(figure.axes, CUBES, strict=True)
    }
    assert found == expected
    assert {averaged.title: averaged.cells(sizes).sum() for averaged in CUBES} == expected


def test_the_highlighted_values_differ_in_the_right_axes() -> None:
    """They lie along the right axes of rows, steps and features."""
    along = {
        averaged.title: [len(set(axis)) > 1 for axis in np.nonzero(averaged.cells(SIZES))]
        for averaged in CUBES
    }
    assert along == {
        "batch norm": [True, False, False],
        "batch norm of u": [True, True, False],
        "layer norm": [False, False, True],
        "rms norm": [False, False, True],
    }


def test_every_cube_names_its_axes_and_its_norm() -> None:
    for axes, averaged in zip(axes_diagram().axes, CUBES, strict=True):
        shown = [text.get_text() for text in axes.texts]
        assert {"time steps", "features", "rows", averaged.title} <= set(shown)
        title = axes.texts[shown.index(averaged.title)]
        assert title.get_color() == NORM_COLOURS[averaged.norm]


def test_the_whole_front_top_and_side_of_a_cube_are_drawn() -> None:
    rows, steps, features = SIZES
    hidden = (rows - 1) * (steps - 1) * (features - 1)
    for axes in axes_diagram().axes:
        cells = [patch.get_gid() for patch in axes.patches]
        assert len(cells) == len(set(cells)) == rows * steps * features - hidden


def test_the_cell_has_the_terms_and_gates_of_the_equations() -> None:
    figure = cell_diagram()
    shown = [text.get_text() for text in texts(figure)]
    for label in (
        "$x_t$",
        "$h_{t-1}$",
        "$c_{t-1}$",
        "$c_t$",
        "$h_t$",
        "$W_{ih}$",
        "$W_{hh}$",
        "$u$",
        "$z$",
        "$y_{ih}$",
        "$y_{hh}$",
        "sigmoid(i)",
        "sigmoid(f)",
        "tanh(g)",
        "sigmoid(o)",
        "tanh",
        "gain$_c$ N($c_t$) + bias$_c$",
    ):
        assert shown.count(label) == 1, label
    assert (shown.count("×"), shown.count("+")) == (3, 2)
    assert sum(patch.get_gid() == "norm" for patch in figure.axes[0].patches) == 3


def test_no_norm_is_on_the_path_of_the_cell_state() -> None:
    figure = cell_diagram()
    (axes,) = figure.axes
    (y,) = [patch.get_center()[1] for patch in axes.patches if patch.get_gid() == "branch"]
    carried = [
        patch
        for patch in axes.patches
        if isinstance(patch, FancyArrowPatch) and patch.get_linewidth() > 2
    ]
    ends = sorted(x for patch in carried for x, _ in ends_of(patch))
    assert {height for patch in carried for _, height in ends_of(patch)} == {y}
    assert ends[0] < 0.5
    assert ends[-1] > 9.5
    for patch in axes.patches:
        if patch.get_gid() == "norm":
            assert not patch.get_y() <= y <= patch.get_y() + patch.get_height()


# -- how it looks ---


def test_every_text_is_inside_and_none_overlaps_another(figure: Figure) -> None:
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    assert len(boxes) > 10
    for text, box in boxes.items():
        assert figure.bbox.x0 < box.x0 < box.x1 < figure.bbox.x1, text
        assert figure.bbox.y0 < box.y0 < box.y1 < figure.bbox.y1, text
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, other)


def test_every_text_is_large_enough_on_a_phone(figure: Figure) -> None:
    pixels = PHONE / (72 * figure.get_figwidth())
    for text in texts(figure):
        size = float(text.get_fontsize())
        assert size * pixels >= 10.5
        assert size <= LARGE


def test_no_text_of_a_cube_lies_on_it() -> None:
    figure = axes_diagram()
    figure.canvas.draw()
    for axes in figure.axes:
        cells = [patch.get_transform().transform_path(patch.get_path()) for patch in axes.patches]
        for text in axes.texts:
            assert not any(cell.intersects_bbox(text.get_window_extent()) for cell in cells), text


def test_no_arrow_crosses_a_text() -> None:
    figure = cell_diagram()
    figure.canvas.draw()
    (axes,) = figure.axes
    lines = [axes.transData.transform_path(line.get_path()) for line in axes.lines]
    lines += [
        axes.transData.transform_path(Path(ends_of(patch)))
        for patch in axes.patches
        if isinstance(patch, FancyArrowPatch)
    ]
    assert len(lines) > 20
    for text in axes.texts:
        assert not any(
            line.intersects_bbox(text.get_window_extent(), filled=False) for line in lines
        ), text


def test_every_box_is_wider_and_higher_than_its_text() -> None:
    figure = cell_diagram()
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [
        patch.get_window_extent() for patch in axes.patches if patch.get_gid() in ("norm", "box")
    ]
    assert len(boxes) == 3 + 2 + 4 + 1
    for box in boxes:
        inside = [t.get_window_extent() for t in axes.texts if box.overlaps(t.get_window_extent())]
        (text,) = inside
        assert box.x0 < text.x0 < text.x1 < box.x1
        assert box.y0 < text.y0 < text.y1 < box.y1


def test_diagrams_are_drawn_on_white(figure: Figure) -> None:
    """Some readers have dark pages."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = imread(io.BytesIO(buffer.getvalue()))
    assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()
    assert picture.shape[2] == 3 or (picture[:, :, 3] == 1).all()


# -- files ---


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder into which the script has just written its files."""
    root = tmp_path_factory.mktemp("root")
    diagrams.main(root)
    return root


def test_the_script_writes_the_files_of_the_documentation_and_the_page(drawn: pathlib.Path) -> None:
    written = sorted(str(path.relative_to(drawn)) for path in drawn.rglob("*") if path.is_file())
    assert written == [
        "docs/axes.png",
        "docs/cell.png",
        "seq2seq/report/axes.svg",
        "seq2seq/report/cell.svg",
    ]


@pytest.mark.parametrize("name", sorted(DIAGRAMS))
def test_the_files_of_the_documentation_are_current(name: str, drawn: pathlib.Path) -> None:
    new, kept = imread(drawn / "docs" / f"{name}.png"), imread(ROOT / "docs" / f"{name}.png")
    assert new.shape == kept.shape
    assert (
        np.abs(new - kept).mean() < 0.02
    )  # the letters' edges differ between versions of the libraries


Shape = tuple[str, str | None, list[float]]
"""Group, style, and the numbers of the outline."""


def texts_and_shapes(path: pathlib.Path) -> tuple[list[str], list[Shape]]:
    """Return the texts of an SVG (matplotlib writes each as a comment), and its other shapes.

    A shape is its style and the numbers of its outline.
    """
    svg = path.read_text(encoding="utf-8")
    shapes = []
    for group in ET.fromstring(svg).iterfind(".//{*}g[@id]"):
        if not group.attrib["id"].startswith("text"):
            for shape in group.iterfind("{*}path"):
                numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.attrib["d"])]
                shapes.append((group.attrib["id"], shape.get("style"), numbers))
    return re.findall(r"<!-- (.*?) -->", svg, re.DOTALL), shapes


@pytest.mark.parametrize("name", sorted(DIAGRAMS))
def test_the_files_of_the_page_are_current(name: str, drawn: pathlib.Path) -> None:
    file = pathlib.Path("seq2seq") / "report" / f"{name}.svg"
    (new_texts, new_shapes), (texts, shapes) = map(texts_and_shapes, (drawn / file, ROOT / file))
    assert new_texts == texts
    assert len(texts) > 10
    assert len(new_shapes) == len(shapes) > 30
    for (new_id, new_style, new), (id, style, kept) in zip(new_shapes, shapes, strict=True):
        assert (new_id, new_style) == (id, style)
        np.testing.assert_allclose(new, kept, atol=0.1)
