"""The figures of speed: where bars stand, what they look like, and what is drawn."""

from pathlib import Path

import pytest
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from seq2seq.benchmark import results
from seq2seq.benchmark.figure import contestant, speed_figure, speeds_figure
from seq2seq.benchmark.results import Results
from seq2seq.benchmark.timing import Speed, Timing
from seq2seq.figures import NORM_COLOURS

NORMS = list(NORM_COLOURS)
TYPES = ("", " bfloat16")


def test_bars_stand_in_groups_around_their_size() -> None:
    sizes = ["T=1 B=2 I=3 H=4", "T=5 B=6 I=7 H=8"]
    ratios = {contestant(norm, dtype): 1.0 for norm in NORMS for dtype in TYPES}
    figure = speed_figure({f"LSTM, training, {size}": ratios for size in sizes})
    [axes] = figure.axes
    bars = [c for c in axes.containers if isinstance(c, BarContainer)]
    names = [(norm, dtype) for dtype in TYPES for norm in NORMS]
    assert [bar.get_label() for bar in bars] == [norm + dtype for norm, dtype in names]
    assert [label.get_text().split() for label in axes.get_xticklabels()] == [
        size.split() for size in sizes
    ]
    for number, place in enumerate(axes.get_xticks()):
        centres = [bar[number].get_x() + bar[number].get_width() / 2 for bar in bars]
        assert centres == sorted(centres)
        assert (centres[0] + centres[-1]) / 2 == pytest.approx(place)
        assert centres[-1] - centres[0] < 0.8
    for bar, (norm, dtype) in zip(bars, names, strict=True):
        assert {patch.get_facecolor() for patch in bar} == {to_rgba(NORM_COLOURS[norm])}
        assert {bool(patch.get_hatch()) for patch in bar} == {dtype == " bfloat16"}


def test_the_first_contestant_is_above_and_named_below() -> None:
    speeds = [Speed("plain nn.LSTM", 9, 1, 1, 1), Speed("norm=layer", 9, 2, 2, 2)]
    [axes] = speeds_figure({"greedy, multi30k: 8 sentences": speeds}).axes
    assert axes.get_title() == "greedy, multi30k"
    assert axes.get_xlabel() == "speed / speed of plain nn.LSTM"
    assert [label.get_text() for label in axes.get_yticklabels()] == [s.name for s in speeds]
    lowest, highest = axes.get_ylim()
    first, second = axes.get_yticks()
    assert abs(first - highest) < abs(second - highest) < abs(lowest - highest)


def test_ratios_to_torchs_lstm_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tables of other layers, and those that begin with another layer, have no place there."""
    drawn = []

    def noted(tables: dict[str, dict[str, float]]) -> Figure:
        drawn.append(tables)
        return Figure()

    monkeypatch.setattr(results, "speed_figure", noted)
    ours = Timing("LSTM norm=layer fused", 40, 2, 1, 3)
    torchs, cell = (Timing(f"torch.nn.{name}", 20, 1, 1, 1) for name in ("LSTM", "LSTMCell"))
    found = Results()
    found.timings = {
        "LSTM, training, T=1 B=2 I=3 H=4": [torchs, ours],
        "two directions, training, T=1 B=2 I=3 H=4": [torchs, ours],
        "LSTM, 20 single steps of 5 rows, H=4": [cell, ours],
    }
    found.draw(tmp_path / "a.png")
    ratios = {"torch.nn.LSTM": 1.0, "LSTM norm=layer fused": 2.0}
    assert drawn == [{"LSTM, training, T=1 B=2 I=3 H=4": ratios}]
    assert (tmp_path / "a.png").is_file()


def test_the_load_is_read_again_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "load", lambda: 9.0)
    found = Results(machine={"load": 1.0}).as_json()
    assert found["machine"] == {"load": 1.0, "load at the end": 9.0}
