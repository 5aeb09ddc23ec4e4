import io
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import runs
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seq2seq.figures import NORM_COLOURS, attention_figure
from seq2seq.fonts import use_fonts
from seq2seq.rnn import NormKind

pytest_plugins = ["run_fixtures"]


def png(figure: Figure, dpi: float = 150) -> NDArray[Any]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return imread(io.BytesIO(buffer.getvalue()))


def texts(labels: Iterable[Text]) -> list[str]:
    return [label.get_text() for label in labels]


# -- attention ---


def test_rows_are_target_pieces_and_columns_source_pieces() -> None:
    weights = np.array([[1.0, 0, 0], [0, 0, 0.5]])
    axes = attention_figure(weights, ["▁a", "b", "</s>"], ["▁x", "</s>"]).axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    assert np.array_equal(shown, weights)
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert texts(axes.get_xticklabels()) == ["a", "b", "</s>"]
    assert texts(axes.get_yticklabels()) == ["x", "</s>"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("source", "translation")
    assert axes.xaxis.get_label_position() == axes.xaxis.get_ticks_position() == "top"
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first target piece is on top: read down and right


def test_the_largest_weight_is_the_darkest_cell() -> None:
    """In a 2 x 3 map with one weight, the pixel of that cell is the darkest."""
    figure = attention_figure(np.array([[0, 0, 0], [0, 1.0, 0]]), ["a", "b", "c"], ["x", "y"])
    picture = png(figure)[:, :, :3].sum(2)
    axes = figure.axes[0]
    centres = {}
    for row in range(2):
        for column in range(3):
            x, y = axes.transData.transform((column, row)) * (150 / figure.dpi)
            centres[row, column] = picture[picture.shape[0] - 1 - int(y), int(x)]
    assert min(centres, key=lambda cell: centres[cell]) == (1, 1)
    assert centres[1, 1] < 1 < 2.8 < centres[0, 0]


def test_every_writing_system_has_its_glyphs() -> None:
    pieces = [
        "▁二",
        "狗",
        "看见",
        "。",
        "学校で",
        "Straße",
        "été",
        "tiếng",
        "Việt",
        "，",
        "「",
        "ー",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that a font lacks
        png(attention_figure(np.eye(12), pieces, pieces))


def test_special_characters_are_not_formulas() -> None:
    pieces = [
        "$x_1$",
        "$",
        "$\\frac$",
        "a_b",
        "^",
        "%",
        "$\\$",
    ]  # the third is not a valid formula
    figure = attention_figure(np.eye(7), pieces, pieces)
    png(figure)
    assert texts(figure.axes[0].get_xticklabels()) == pieces


def test_a_piece_that_is_a_space_is_visible() -> None:
    axes = attention_figure(np.eye(2), ["▁", "a"], [" ", "▁▁"]).axes[0]
    assert texts(axes.get_xticklabels()) == ["␣", "a"]
    assert texts(axes.get_yticklabels()) == ["␣", "␣"]


@pytest.mark.parametrize(("src", "tgt"), [(1, 1), (30, 25), (400, 3), (5000, 700)])
def test_a_map_of_any_size_can_be_drawn(src: int, tgt: int) -> None:
    weights = np.zeros((tgt, src))
    figure = attention_figure(weights, [f"s{i}" for i in range(src)], [f"t{i}" for i in range(tgt)])
    axes = figure.axes[0]
    width, height = figure.get_size_inches()
    assert max(width, height) < 43
    assert (
        len(axes.get_xticklabels()) == src
        if src <= 30
        else 150 < len(axes.get_xticklabels()) <= 240
    )
    for position, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert label.get_text() == f"s{position}"
    if src < 1000:
        assert png(figure, dpi=50).shape[1] == pytest.approx(width * 50, abs=1)


def test_fonts_are_added_once() -> None:
    use_fonts()
    before = len(font_manager.fontManager.ttflist)
    for _ in range(3):
        attention_figure(np.eye(1), ["a"], ["b"])
    assert len(font_manager.fontManager.ttflist) == before
    assert sum(font.name == "Noto Sans SC" for font in font_manager.fontManager.ttflist) >= 1


def test_every_norm_has_a_colour_of_its_own() -> None:
    assert NORM_COLOURS.keys() == {kind.value for kind in NormKind}
    assert len(set(NORM_COLOURS.values())) == len(NORM_COLOURS)
    assert NORM_COLOURS == {
        "none": "#000000",
        "batch": "#D55E00",
        "layer": "#0072B2",
        "rms": "#009E73",
    }


# -- what TensorBoard shows of a run ---


def test_tensorboard_has_the_curves_and_the_attention(two_runs: runs.Runs) -> None:
    events = EventAccumulator(
        str(two_runs.layer), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    events.Reload()
    tags = events.Tags()
    assert {
        "train/loss",
        "train/lr",
        "train/tokens_per_second",
        "valid/loss",
        "valid/bleu",
        "valid/chrf",
        "gradient_norm/all",
    } <= set(tags["scalars"])
    updates = [e.step for e in events.Scalars("valid/bleu")]
    assert updates == [66, 132, 198, 200]
    shown = events.Images("attention")
    assert [e.step for e in shown] == updates
    for image in shown:
        picture = imread(io.BytesIO(image.encoded_image_string))
        assert picture.shape[:2] == (image.height, image.width)
        assert picture[:, :, :3].min() < 0.3 < 0.99 < picture[:, :, :3].max()
    text = events.Tensors("translations/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "| source | reference | translation |" in text
    assert "。" in text
