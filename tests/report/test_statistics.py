"""Statistics of differences over seeds, compared with known values and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from seq2seq.report.statistics import (
    Outcome,
    both,
    by_regime,
    detectable_effect,
    holm,
    interval,
    outcome,
    p_value,
)


def test_the_interval_is_students_t_interval() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high == pytest.approx(
        2 + 4.302653 / math.sqrt(3), abs=1e-5
    )  # t(0.975, 2) = 4.302653
    assert found.half == pytest.approx(found.high - 2.0)
    assert found.low == pytest.approx(4.0 - found.high)


def test_the_interval_contains_the_mean_in_95_percent_of_samples() -> None:
    chance = np.random.default_rng(0)
    samples = chance.normal(0.3, 1.7, size=(2000, 4))
    held = [found.low <= 0.3 <= found.high for found in map(interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_one_seed_decides_nothing() -> None:
    assert interval([5.0]).low == -math.inf
    assert outcome([5.0]) is Outcome.undecided
    assert detectable_effect([5.0]) == math.inf


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.1, 0.9], Outcome.supported),
        ([-1.0, -1.1, -0.9], Outcome.refuted),
        ([1.0, -1.1, 0.2], Outcome.undecided),
        ([0.1, 2.0, 4.0], Outcome.undecided),
        ([2.0, 2.0, 2.0], Outcome.supported),
        ([0.0, 0.0], Outcome.undecided),
    ],
)
def test_the_rule_gives_the_expected_outcomes(values: list[float], expected: Outcome) -> None:
    assert outcome(values) is expected


def test_the_rule_is_wrong_in_5_percent_of_samples_without_effect() -> None:
    samples = np.random.default_rng(1).normal(size=(2000, 3))
    assert np.mean([outcome(s) is not Outcome.undecided for s in samples]) == pytest.approx(
        0.05, abs=0.02
    )


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_detectable_effect_is_found_with_80_percent_power(seeds: int) -> None:
    """The effect is in units of the standard deviation."""
    unit: list[float] = stats.zscore(np.arange(seeds), ddof=1).tolist()  # with standard deviation 1
    effect = detectable_effect(unit)
    assert detectable_effect([10 * value for value in unit]) == pytest.approx(10 * effect)
    samples = np.random.default_rng(2).normal(effect, 1.0, size=(3000, seeds))
    shown = [outcome(s) is Outcome.supported for s in samples]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.03)


def test_more_seeds_detect_smaller_effects() -> None:
    found = [detectable_effect(stats.zscore(np.arange(n), ddof=1).tolist()) for n in (2, 3, 5, 10)]
    assert found == sorted(found, reverse=True)


def test_a_claim_with_parts_needs_all_of_them() -> None:
    yes, no, open_ = Outcome.supported, Outcome.refuted, Outcome.undecided
    assert both([yes, yes]) is yes
    assert both([yes, open_]) is open_
    assert both([open_, no, yes]) is no


# -- several claims at once ---


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_p_is_that_of_students_t_test(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(0.5, 1.0, seeds).tolist()
    assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_p_agrees_with_the_interval() -> None:
    for sample in np.random.default_rng(2).normal(1.0, 1.0, size=(200, 4)):
        assert (p_value(sample) < 0.05) == (outcome(sample) is not Outcome.undecided)


def test_p_of_values_without_spread_and_of_single_values() -> None:
    assert (p_value([2.0, 2.0]), p_value([0.0, 0.0])) == (0.0, 1.0)
    assert math.isnan(p_value([5.0]))
    assert math.isnan(p_value([]))


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        # sorted: 0.005 x 4, 0.01 x 3, then 0.03 x 2 = 0.06, and 0.04 x 1 may not be smaller
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.4, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(given: list[float], corrected: list[float]) -> None:
    assert holm(given) == pytest.approx(corrected)


def test_holms_correction_is_wrong_at_all_in_5_percent_of_reports() -> None:
    chance = np.random.default_rng(3)
    reports = [[p_value(s) for s in chance.normal(size=(20, 5))] for _ in range(500)]
    assert np.mean([min(ps) < 0.05 for ps in reports]) > 0.5
    assert np.mean([min(holm(ps)) < 0.05 for ps in reports]) < 0.08


S, R, U = Outcome.supported, Outcome.refuted, Outcome.undecided


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([S, S], S),
        ([R, R, R], R),
        ([S, R], Outcome.depends),
        ([S, U, R], Outcome.depends),
        ([S, U], U),
        ([R, U], U),
        ([U], U),
    ],
)
def test_a_claim_by_regime(outcomes: list[Outcome], expected: Outcome) -> None:
    assert by_regime(outcomes) is expected
