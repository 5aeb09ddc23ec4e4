"""Charts as data: the mean of several runs, and what axes suit the values."""

import numpy as np
import pytest

from seq2seq.report.charts import MOST_POINTS, Line, Panel, mean_line


def panel(lines, **more):
    return Panel("panel", "x (units)", "y (units)", lines, **more)


# -- lines ---


def test_the_mean_and_the_range_over_seeds():
    line = mean_line("a", "layer", 1, [([1, 2], [1.0, 5.0]), ([1, 2], [3.0, 4.0])])
    assert (line.x, line.y, line.band) == ([1, 2], [2.0, 4.5], ([1.0, 4.0], [3.0, 5.0]))


def test_the_mean_for_a_logarithmic_axis_is_geometric():
    runs = [([1, 2], [1e-8, 1.0]), ([1, 2], [1e-2, 4.0])]
    assert mean_line("a", "none", 0, runs, geometric=True).y == pytest.approx([1e-5, 2.0])
    assert mean_line("a", "none", 0, [([1], [0.0]), ([1], [2.0])], geometric=True).y == [
        1.0
    ]  # 0 has no logarithm


def test_one_run_has_no_range():
    line = mean_line("a", "none", 0, [([1, 2], [1.0, 5.0])])
    assert (line.y, line.band) == ([1.0, 5.0], None)


def test_other_points_are_interpolated_over_what_all_cover():
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
def test_runs_without_a_common_range_give_one_point(runs, x, band):
    line = mean_line("a", "layer", 0, runs)
    assert (line.x, line.y, line.band) == (
        [x],
        [pytest.approx(np.mean(band if len(runs) < 3 else [1, 2, 6]))],
        band,
    )


def test_long_lines_are_thinned_and_names_are_kept():
    long = list(range(10_000))
    assert len(mean_line("a", "none", 0, [(long, [float(x) for x in long])]).x) == MOST_POINTS
    assert mean_line("a", "none", 0, [(["b", "a"], [1.0, 2.0])] * 2).x == ["b", "a"]
    assert mean_line("a", "none", 0, [([], [])]).x == []


def test_names_that_not_all_runs_have_are_left_out_and_others_found_by_name():
    line = mean_line("a", "none", 0, [(["p", "q", "r"], [1.0, 2.0, 3.0]), (["r", "p"], [5.0, 3.0])])
    assert (line.x, line.y) == (["p", "r"], [2.0, 4.0])


def test_where_one_run_has_no_number_the_mean_has_none():
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
def test_a_logarithmic_axis_is_offered_where_nothing_would_vanish_from_it(y, low, positive):
    lines = [Line("a", "none", 0, [1, 2], y, (low, [3.0, 3.0]))]
    assert panel(lines).positive_x
    assert panel(lines).positive_y is positive
    assert panel(lines, log_y=True).positive_y


def test_positive_numbers_suit_a_logarithmic_axis_and_names_do_not():
    found = [
        panel([Line("a", "none", 0, x, [1.0, 2.0])]).positive_x
        for x in ([1, 2], [0, 2], ["p", "q"])
    ]
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("y", "plain"), [([0.4, 7.0], True), ([0.0, 90.0], True), ([1e-30, 1.0], False), ([0.0], False)]
)
def test_values_that_are_easily_read_need_no_powers_of_ten(y, plain):
    found = panel([Line("a", "none", 0, list(range(len(y))), y)], log_y=True)
    assert found.plain_y is plain
