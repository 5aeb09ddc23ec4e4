"""A chart drawn both ways: what was given is what is shown, and everything can be read."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from seq2seq.figures import LINE_STYLES, MARKERS, NORM_COLOURS
from seq2seq.report.charts import (
    MOST_POINTS,
    SYMBOLS,
    Chart,
    Line,
    Panel,
    interactive_figure,
    mean_line,
    static_figure,
)


def chart(*panels):
    return Chart("name", "title", "caption", list(panels))


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
def test_runs_that_cover_nothing_together_are_one_point_that_is_seen(runs, x, band):
    line = mean_line("a", "layer", 0, runs)
    assert (line.x, line.y, line.band) == (
        [x],
        [pytest.approx(np.mean(band if len(runs) < 3 else [1, 2, 6]))],
        band,
    )
    assert static_figure(chart(panel([line]))).axes[0].lines[0].get_marker() == "o"
    assert interactive_figure(chart(panel([line]))).data[-1].mode == "lines+markers"


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


# -- on paper ---


def test_lines_have_their_colours_bands_and_labels():
    lines = [
        Line("none", "none", 0, [1, 2], [3.0, 4.0], ([2.0, 3.0], [4.0, 5.0])),
        Line("rms", "rms", 1, [1, 5], [2.0, 1]),
    ]
    figure = static_figure(chart(panel(lines), panel(lines[:1], log_y=True, marks={"here": 1.5})))
    first, second = figure.axes
    assert (first.get_xlabel(), first.get_ylabel(), first.get_title()) == (
        "x (units)",
        "y (units)",
        "panel",
    )
    none, rms = first.lines
    assert [list(values) for values in rms.get_data()] == [[1, 5], [2.0, 1]]
    assert [to_hex(line.get_color()).upper() for line in (none, rms)] == ["#000000", "#009E73"]
    assert [line.get_linestyle() for line in (none, rms)] == ["-", "--"]
    assert len(first.collections) == 1  # the band
    assert (first.get_yscale(), second.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in second.texts] == ["here"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["none", "rms"]


def test_variants_of_a_norm_look_different():
    count, long = len(LINE_STYLES) * len(MARKERS), list(range(100))
    figure = static_figure(
        chart(panel([Line(str(i), "layer", i, long, long) for i in range(count)]))
    )
    assert (
        len({(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}) == count
    )
    traces = interactive_figure(
        chart(panel([Line(str(i), "layer", i, long, long) for i in range(count)]))
    ).data
    assert len({(trace.line.dash, trace.marker.symbol) for trace in traces}) == count


def test_short_lines_of_variants_of_a_norm_have_marks_of_their_own():
    lines = [Line(str(i), "layer", i, [1, 2], [1.0, 2.0]) for i in range(len(SYMBOLS))]
    assert [line.get_marker() for line in static_figure(chart(panel(lines))).axes[0].lines] == list(
        SYMBOLS
    )
    assert [trace.marker.symbol for trace in interactive_figure(chart(panel(lines))).data] == list(
        SYMBOLS.values()
    )


def test_many_names_are_slanted_so_that_each_ends_at_its_tick():
    for names, slanted in ((["p", "q", "r"], False), (["p", "q", "r", "s"], True)):
        axis = interactive_figure(
            chart(panel([Line("a", "none", 0, names, [1.0] * len(names))]))
        ).layout.xaxis
        assert (axis.tickangle == -45) == slanted


def test_points_of_variants_of_a_norm_look_different():
    lines = [Line(str(i), "layer", i, ["p"], [1.0]) for i in range(len(SYMBOLS))]
    assert len(
        {line.get_marker() for line in static_figure(chart(panel(lines))).axes[0].lines}
    ) == len(lines)
    assert len(
        {trace.marker.symbol for trace in interactive_figure(chart(panel(lines))).data}
    ) == len(lines)


def test_a_single_point_is_seen():
    line = static_figure(chart(panel([Line("a", "none", 0, [7], [1.0])]))).axes[0].lines[0]
    assert line.get_marker() not in ("", "None", None)


def named(*labels):
    """A panel of a point at each of p and q for every label, the first with a range."""
    lines = [Line(label, "layer", i, ["p", "q"], [2.0, 5.0]) for i, label in enumerate(labels)]
    lines[0].band = [1.0, 5.0], [4.0, 6.0]
    return panel(lines)


def test_points_at_names_stand_side_by_side():
    axes = static_figure(chart(named("a", "b", "c"))).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["p", "q"]
    places = [list(line.get_xdata()) for line in axes.lines]
    assert len({x for line in places for x in line}) == 6
    assert all(abs(first) < 0.5 and abs(second - 1) < 0.5 for first, second in places)
    assert [line.get_linestyle() for line in axes.lines] == ["None"] * 3
    (bars,) = axes.collections
    assert [tuple(bar[:, 1]) for bar in bars.get_segments()] == [(1.0, 4.0), (5.0, 6.0)]


@pytest.mark.parametrize(
    ("y", "ticks"), [([0.2, 3.0], ["0.2", "0.5", "1", "2"]), ([1e-9, 1.0], [])]
)
def test_a_logarithmic_axis_has_plain_numbers_where_it_spans_few_powers(y, ticks):
    figure = static_figure(chart(panel([Line("a", "none", 0, [1, 2], y)], log_y=True)))
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    shown = {text.get_text() for text in axis.get_ticklabels() + axis.get_ticklabels(minor=True)}
    assert set(ticks) <= shown
    assert any("10^" in text for text in shown) == (not ticks)


def test_few_values_of_a_logarithmic_axis_are_its_ticks():
    sizes = Panel(
        "panel", "x", "y", [Line("a", "none", 0, [4, 16, 256], [1.0, 2.0, 3.0])], log_x=True
    )
    figure = static_figure(chart(sizes))
    figure.draw_without_rendering()
    axis = figure.axes[0].xaxis
    assert [text.get_text() for text in axis.get_ticklabels()] == ["4", "16", "256"]
    assert not any(text.get_text() for text in axis.get_ticklabels(minor=True))
    assert list(interactive_figure(chart(sizes)).layout.xaxis.tickvals) == [4, 16, 256]
    assert interactive_figure(chart(panel(sizes.lines))).layout.xaxis.tickvals is None


@pytest.mark.parametrize("panels", [1, 3, 4])
def test_the_legend_stands_below_and_in_the_picture(panels, tmp_path):
    names = [f"layer (statistics per_step, gain {i}), $x$" for i in range(9)]
    lines = [Line(name, "layer", i, [1, 2], [1.0, 2.0]) for i, name in enumerate(names)]
    figure = static_figure(chart(*[panel(lines)] * panels))
    figure.savefig(tmp_path / "a.png", dpi=50)
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    for axes in figure.axes[:panels]:
        assert axes.get_tightbbox().y0 >= box.y1
        assert axes.get_window_extent().height > 100
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names


# -- on the page ---


def test_the_page_shows_the_same_lines_in_the_same_colours():
    lines = [
        Line("none", "none", 0, [1, 2], [3.0, 4.0], ([2.0, 3.0], [4.0, 5.0])),
        Line("rms", "rms", 1, [1, 5], [2.0, 1]),
    ]
    figure = interactive_figure(chart(panel(lines, smooths=True)))
    band, none, rms = figure.data
    assert (band.meta, band.mode, none.meta) == ("band", "lines", "smooth")
    assert (list(band.x), list(band.y)) == ([1, 2, 2, 1], [4.0, 5.0, 3.0, 2.0])
    assert (list(rms.x), list(rms.y), rms.name) == ([1, 5], [2.0, 1.0], "rms")
    assert [trace.line.color for trace in (none, rms)] == [
        NORM_COLOURS["none"],
        NORM_COLOURS["rms"],
    ]
    assert [trace.line.dash for trace in (none, rms)] == ["solid", "dash"]
    assert band.legendgroup == none.legendgroup != rms.legendgroup
    assert figure.layout.xaxis.title.text == "x (units)"


def test_the_page_is_told_of_each_panel_what_it_shows():
    line = Line("none", "none", 0, [1, 2], [3.0, 4.0])
    figure = interactive_figure(
        chart(panel([line]), panel([line, line], log_y=True, marks={"here": 1.5}))
    )
    assert [trace.visible for trace in figure.data] == [True, False, False]
    assert figure.layout.yaxis.type == "linear"
    first, second = figure.layout.meta
    assert (first["visible"], second["visible"]) == ([True, False, False], [False, True, True])
    assert second["layout"]["yaxis"]["type"] == "log"
    assert second["layout"]["yaxis"]["exponentformat"] == "power"  # not 10f for 1e-14
    assert (first["layout"]["shapes"], second["layout"]["shapes"][0]["x0"]) == ([], 1.5)


@pytest.mark.parametrize(
    ("y", "plain"), [([0.4, 7.0], True), ([0.0, 90.0], True), ([1e-30, 1.0], False), ([0.0], False)]
)
def test_figures_that_are_easily_read_are_written_out_on_a_logarithmic_axis_too(y, plain):
    found = panel([Line("a", "none", 0, list(range(len(y))), y)], log_y=True)
    assert interactive_figure(chart(found)).layout.yaxis.tickformat == ("~g" if plain else "")


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
    found = interactive_figure(chart(panel(lines), panel(lines, log_y=True))).layout.meta
    assert [part["positive"] for part in found] == [
        {"x": True, "y": positive},
        {"x": True, "y": True},
    ]


def test_numbers_above_0_can_stand_on_a_logarithmic_axis():
    found = [
        panel([Line("a", "none", 0, x, [1.0, 2.0])]).positive_x
        for x in ([1, 2], [0, 2], ["p", "q"])
    ]
    assert found == [True, False, False]


def test_a_long_label_is_told_in_lines_that_a_phone_shows():
    label = "batch (statistics sequence_input), the batch's own statistics"
    (trace,) = interactive_figure(chart(panel([Line(label, "batch", 0, [1, 2], [3.0, 4.0])]))).data
    assert trace.name.replace("<br>", " ") == trace.legendgroup == label
    assert max(map(len, trace.name.split("<br>"))) <= 32


def test_what_is_no_number_leaves_a_gap_and_names_are_categories():
    figure = interactive_figure(
        chart(panel([Line("a", "none", 0, ["p", "q"], [float("nan"), 1.23456789])]))
    )
    assert list(figure.data[0].y) == [None, 1.2346]
    assert figure.layout.xaxis.type == "category"


def test_points_at_names_are_grouped_and_have_bars():
    figure = interactive_figure(chart(named("a", "b")))
    first, second = figure.data
    assert (first.mode, figure.layout.scattermode) == ("markers", "group")
    assert (
        interactive_figure(
            chart(panel([Line("a", "none", 0, [1, 2], [1.0, 2.0])]))
        ).layout.scattermode
        == "overlay"
    )
    assert first.offsetgroup != second.offsetgroup
    assert (list(first.error_y.array), list(first.error_y.arrayminus)) == ([2.0, 1.0], [1.0, 0.0])
    assert second.error_y.array is None
