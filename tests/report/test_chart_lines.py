"""The lines of charts: whose runs they are the mean of, and where they begin and end."""

import pytest
from synthetic import SEEDS, curve, group, record

from seq2seq.report.experiments import charts
from seq2seq.report.experiments.lines import mean_by, norm_lines
from seq2seq.report.groups import valid_loss
from seq2seq.runs.records import RunRecord


def two_rates() -> list[RunRecord]:
    """Return runs at two learning rates, the lower of which is the better one."""
    return [
        record(
            "none",
            seed,
            "batch_size",
            batch=4,
            lr=rate,
            metrics=[{"kind": "valid", "update": 5, "loss": loss + 0.25 * seed}],
            results={"valid_loss": loss + 0.25 * seed},
        )
        for seed in SEEDS
        for rate, loss in ((0.01, 1.0), (0.02, 2.0))
    ]


def test_a_line_is_the_mean_at_the_best_rate_between_the_extreme_seeds() -> None:
    found = group(two_rates())
    (line,) = norm_lines(found, lambda run: run.series("valid", "loss"))
    assert (line.x, line.y, line.band) == ([5], [1.5], ([1.25], [1.75]))
    (line,) = mean_by(found, "data.batch_sentences", valid_loss)
    assert (line.x, line.y, line.band) == ([4], [1.5], ([1.25], [1.75]))


def test_sizes_that_differ_by_factors_have_a_geometric_mean() -> None:
    found = group(record(seed=seed) for seed in (1, 2))
    sizes = {1: 1.0, 2: 100.0}
    for geometric, mean in ((True, 10.0), (False, 50.5)):
        (line,) = norm_lines(found, lambda run: ([0], [sizes[run.seed]]), geometric=geometric)
        assert line.y == pytest.approx([mean])


def test_times_to_losses_go_from_the_lowest_first_loss_to_the_lowest_of_all() -> None:
    runs = [
        record(norm, seed, metrics=curve(0.5, floor=floor))
        for norm, floor in (("none", 1.0), ("layer", 0.5))
        for seed in SEEDS
    ]
    panel = next(c for c in charts(group(runs)) if c.name == "time_to_loss").curves[0]
    none, layer = panel.lines
    assert none.x[0] == pytest.approx(1.0)
    assert layer.x[0] == pytest.approx(0.5)
    assert sum(0.5 < x < 1.0 for x in layer.x) > 5  # also where none has no time
    assert max(none.x[-1], layer.x[-1]) == pytest.approx(3.5)  # layer norm's first loss


def test_only_what_is_measured_on_single_batches_can_be_smoothed() -> None:
    found = {c.name: c for c in charts(group(record(metrics=curve(0.1), seed=s) for s in SEEDS))}
    assert [
        {panel.smooths for panel in found[name].curves}
        for name in ("training_loss", "validation_loss", "validation_bleu")
    ] == [{True}, {False}, {False}]
