"""Charts as data: the mean of several runs, and the axes for its values."""

import math
from typing import Any

import numpy as np
import pytest

from seq2seq.report.charts import MOST_POINTS, Line, Panel, mean_line


def panel(lines: list[Line], **more: Any) -> Panel:
    return Panel("panel", "x (units)", "y (units)", lines, **more)


# -- lines ---


def test_the_mean_and_the_range_over_seeds() -> None:
    line = mean_line("a", "layer", 1, [([1, 2], [1.0, 5.0]), ([1, 2], [3.0, 4.0])])
    assert (line.x, line.y, line.band) == ([1, 2], [2.0, 4.5], ([1.0, 4.0], [3.0, 5.0]))


def test_the_mean_for_a_logarithmic_axis_is_geometric() -> None:
    runs = [([1, 2], [1e-8, 1.0]), ([1, 2], [1e-2, 4.0])]
    assert mean_line("a", "none", 0, runs, geometric=True).y == pytest.approx([1e-5, 2.0])
    runs = [([1, 2], [0.0, 1.0]), ([1, 2], [2.0, 4.0])]
    line = mean_line("a", "none", 0, runs, geometric=True)
    assert math.isnan(line.y[0])  # 0 has no logarithm
    assert line.y[1] == pytest.approx(2.0)


def test_a_single_run_has_no_range() -> None:
    line = mean_line("a", "none", 0, [([1, 2], [1.0, 5.0])])
    assert (line.y, line.band) == ([1.0, 5.0], None)


def test_different_points_are_interpolated_over_the_common_range() -> None:
    line = mean_line("a", "none", 0, [([0, 10], [0.0, 10.0]), ([5, 20], [10.0, 25.0])])
    assert (line.x[0], line.x[-1], len(line.x)) == (5, 10, MOST_POINTS)
    np.testing.assert_allclose(line.y, np.asarray(line.x) + 2.5)  # between x and x + 5


@pytest.mark.parametrize(
    ("runs", "x", "band"),
    [
        ([([10], [1.0]), ([13], [2.0]), ([16], [6.0])], 13, ([1.0], [6.0])),
        ([([0, 10], [0.0, 1.0]), ([20, 30], [5.0, 6.0])], 15, ([1.0], [5.0])),
        ([([0, 10], [0.0, 2.0]), ([10, 80], [4.0, 9.0])], 10, ([2.0], [4.0])),
    ],
)
def test_runs_without_a_common_range_give_one_point(
    runs: list[tuple[list[int], list[float]]], x: int, band: tuple[list[float], list[float]]
) -> None:
    line = mean_line("a", "layer", 0, runs)
    assert (line.x, line.band) == ([x], band)
    assert line.y == [pytest.approx(np.mean(band if len(runs) < 3 else [1, 2, 6]))]


def test_long_lines_are_thinned_and_names_keep_their_order() -> None:
    long = list(range(10_000))
    assert len(mean_line("a", "none", 0, [(long, [float(x) for x in long])]).x) == MOST_POINTS
    assert mean_line("a", "none", 0, [(["b", "a"], [1.0, 2.0])] * 2).x == ["b", "a"]
    assert mean_line("a", "none", 0, [([], [])]).x == []


def test_only_names_of_all_runs_are_kept() -> None:
    line = mean_line("a", "none", 0, [(["p", "q", "r"], [1.0, 2.0, 3.0]), (["r", "p"], [5.0, 3.0])])
    assert (line.x, line.y) == (["p", "r"], [2.0, 4.0])


def test_the_mean_with_a_missing_number_is_missing() -> None:
    line = mean_line(
        "a", "none", 0, [([1, 2], [1.0, np.nan]), ([1, 2], [4.0, 2.0])], geometric=True
    )
    assert line.y == [2.0, pytest.approx(np.nan, nan_ok=True)]


# -- axes ---


@pytest.mark.parametrize(
    ("y", "low", "positive"),
    [
        ([1.0, 2.0], [0.5, 1.0], True),
        ([1.0, 2.0], [0.0, 1.0], False),
        ([-1.0, 2.0], [0.5, 1.0], False),
        ([1.0, np.nan], [0.5, np.nan], True),
    ],
)
def test_a_logarithmic_axis_is_offered_for_positive_values_only(
    y: list[float], low: list[float], positive: bool
) -> None:
    lines = [Line("a", "none", 0, [1, 2], y, (low, [3.0, 3.0]))]
    assert panel(lines).positive_x
    assert panel(lines).positive_y is positive
    assert panel(lines, log_y=True).positive_y


def test_a_logarithmic_x_axis_needs_positive_numbers() -> None:
    found = [
        panel([Line("a", "none", 0, x, [1.0, 2.0])]).positive_x
        for x in ([1, 2], [0, 2], ["p", "q"])
    ]
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("y", "plain"), [([0.4, 7.0], True), ([0.0, 90.0], True), ([1e-30, 1.0], False), ([0.0], False)]
)
def test_axes_over_few_powers_of_ten_have_plain_numbers(y: list[float], plain: bool) -> None:
    found = panel([Line("a", "none", 0, list(range(len(y))), y)], log_y=True)
    assert found.plain_y is plain


@pytest.mark.parametrize(("y", "plain"), [([-0.004, 0.8], True), ([-1e-4, 2e-4], False)])
def test_small_numbers_do_not_count_where_the_axis_cannot_be_logarithmic(
    y: list[float], plain: bool
) -> None:
    assert panel([Line("a", "none", 0, [0, 1], y)]).plain_y is plain
