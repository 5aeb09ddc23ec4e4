from typing import Any

import pytest

from seq2seq.config import OptimizerConfig, Schedule
from seq2seq.training.optimizer import learning_rate


def config(schedule: Schedule, **changes: Any) -> OptimizerConfig:
    return OptimizerConfig(lr=0.5, schedule=schedule, warmup_updates=10, **changes)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_warm_up_is_linear(schedule: Schedule) -> None:
    assert learning_rate(config(schedule), 1, 0.0) == pytest.approx(0.05)
    assert learning_rate(config(schedule), 5, 0.0) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("schedule", "update", "done", "expected"),
    [
        (Schedule.constant, 10, 0.2, 0.5),
        (Schedule.constant, 1000, 1.0, 0.5),
        (Schedule.inverse_sqrt, 10, 0.1, 0.5),
        (Schedule.inverse_sqrt, 40, 0.1, 0.25),
        (Schedule.cosine, 50, 0.5, 0.25),
        (Schedule.cosine, 100, 1.0, 0.0),
        (Schedule.plateau, 50, 0.5, 0.5),
    ],
)
def test_the_rate_after_warm_up(
    schedule: Schedule, update: int, done: float, expected: float
) -> None:
    assert learning_rate(config(schedule), update, done) == pytest.approx(expected)


def test_the_rate_never_falls_below_its_floor() -> None:
    assert learning_rate(config(Schedule.cosine, min_lr_ratio=0.1), 100, 1.0) == pytest.approx(0.05)
    floored = learning_rate(
        config(Schedule.plateau, min_lr_ratio=0.1), 100, 0.5, plateau_scale=0.01
    )
    assert floored == pytest.approx(0.05)
    assert learning_rate(config(Schedule.plateau), 100, 0.5, plateau_scale=0.25) == pytest.approx(
        0.125
    )


def test_the_rate_without_warm_up() -> None:
    assert (
        learning_rate(
            OptimizerConfig(lr=1.0, schedule=Schedule.inverse_sqrt, warmup_updates=0), 1, 0.0
        )
        == 1.0
    )
