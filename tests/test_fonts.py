"""Figures in scripts that the bundled fonts lack."""

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import vl_convert
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from seq2seq import fonts
from seq2seq.figures import LONGEST_LABEL, attention_figure, rendered
from seq2seq.fonts import drawable, use_fonts
from seq2seq.report.charts import Chart, Line, Panel
from seq2seq.report.vega import Drawing

THAI, HINDI, KOREAN = "ภาษาไทย", "हिन्दी", "한국어"


@pytest.fixture(autouse=True)
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with the bundled fonts alone, on a machine without any other."""
    use_fonts()
    before = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(fonts, "_lacking", set())
    monkeypatch.setitem(matplotlib.rcParams, "font.family", fonts.BUNDLED)
    fonts._characters.cache_clear()
    yield
    fonts._characters.cache_clear()
    font_manager.fontManager.ttflist[:] = before


def font(path: Path, name: str, characters: str) -> str:
    """Write a font whose glyphs are squares; return its path."""
    names = {ord(char): f"u{ord(char):04x}" for char in characters}
    pen = TTGlyphPen(None)
    for move in (pen.moveTo, pen.lineTo, pen.lineTo, pen.lineTo):
        move([(100, 0), (100, 700), (500, 700), (500, 0)][len(pen.points)])
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (600, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def draw(*pieces: str) -> list[str]:
    """Draw a map with these labels, without any warning; return the labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = attention_figure(np.eye(len(pieces)), pieces, pieces)
        rendered(figure, "png")
        rendered(figure, "svg")
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_a_script_without_a_font_is_shown_by_code_points_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert draw(f"▁a{THAI[:3]}b", THAI) == ["aU+0E20 0E32 0E29b", "U+0E20 0E32 0E29 0E32…"]
        draw(THAI[::-1], HINDI, HINDI)
    assert [record.getMessage() for record in caplog.records] == [
        "no font here has Thai: figures show code points instead; install Noto Sans Thai"
        " (Debian: fonts-noto-core)",
        "no font here has Devanagari: figures show code points instead; install Noto Sans"
        " Devanagari (Debian: fonts-noto-core)",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [(KOREAN, "Hangul: .* Noto Sans CJK .*fonts-noto-cjk"), ("\U0001f9ff", "some symbols: ")],
)
def test_the_remark_names_what_to_install(
    text: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    draw(text)
    (record,) = caplog.records
    assert re.search(named, record.getMessage())
    caplog.records.clear()
    draw(text)
    assert caplog.records == []


@pytest.mark.parametrize("text", [THAI, HINDI, KOREAN])
def test_a_system_font_shows_the_text_itself(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "noto-damaged.ttf"
    damaged.write_bytes(b"no font")
    paths = [
        str(damaged),
        font(tmp_path / "Last.ttf", "LastResort", text),
        font(tmp_path / "Invented-Bold.ttf", "Invented Bold", text),
        font(tmp_path / "Invented-Regular.ttf", "Invented", text),
    ]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    assert draw(text, "a") == [text, "a"]
    assert matplotlib.rcParams["font.family"] == [*fonts.BUNDLED, "Invented"]
    assert caplog.records == []


def test_a_font_that_has_only_some_characters_is_completed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        font(tmp_path / "one.ttf", "One", THAI),
        font(tmp_path / "two.ttf", "Two", HINDI),
    ]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    assert draw(THAI, HINDI, "xก") == [THAI, HINDI, "xU+0E01"]


def test_a_chart_as_png_shows_code_points_and_as_svg_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    to_png = vl_convert.svg_to_png

    def spy(svg: str, scale: float) -> bytes:
        drawn.append(svg)
        return bytes(to_png(svg, scale=scale))

    monkeypatch.setattr(vl_convert, "svg_to_png", spy)
    lines = [Line(f"{THAI} – 中 é ±", "layer", 0, [0.0, 1.0], [1.0, 2.0])]
    pictures = Drawing(Chart("c", "t", "", [Panel("t", "x", "y", lines)]), "c").pictures
    assert THAI in pictures["svg"].decode()
    assert THAI not in drawn[0]
    assert "U+0E20 0E32 0E29 0E32… – 中 é ±" in drawn[0]


def test_a_character_that_acts_is_shown_by_its_code() -> None:
    assert drawable(["a\nb", "\x1b[31m", "\u2028", "a\tb"]) == [
        "a\\nb",
        "\\x1b[31m",
        "\\u2028",
        "a\\tb",
    ]


def test_a_long_label_is_cut() -> None:
    (label, _) = draw("ab" * 5000, "c")
    assert label == ("ab" * 5000)[: LONGEST_LABEL - 1] + "…"


def width(text: str) -> float:
    """Return the width of a drawn text in pixels."""
    figure = Figure()
    shown = figure.text(0, 0, text, fontsize=40)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    return float(shown.get_window_extent(renderer).width)


def test_arabic_letters_are_joined() -> None:
    assert unicodedata.bidirectional("ب") == "AL"
    assert width("ببب") < 0.8 * 3 * width("ب")


def test_hebrew_runs_from_right_to_left() -> None:
    """The first letter of the text is wide, so that the right half has more ink."""
    figure = Figure(figsize=(3, 1))
    figure.text(0.1, 0.3, "שווו", fontsize=40)
    picture = imread(io.BytesIO(rendered(figure, "png")))
    ink = (picture[:, :, 0] < 0.5).any(axis=0)
    columns = np.flatnonzero(ink)
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(runs) == 4
    assert len(runs[-1]) > 2 * len(runs[0])
