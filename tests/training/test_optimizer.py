import subprocess
import sys
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from seq2seq.config import OptimizerConfig, OptimizerKind, Schedule
from seq2seq.training.optimizer import begin_momentum, learning_rate, make_optimizer

USE = """
import sys
import torch
from seq2seq.config import OptimizerConfig, OptimizerKind
from seq2seq.training.optimizer import make_optimizer

layer = torch.nn.Linear(2, 2)
for kind in OptimizerKind:
    optimizer = make_optimizer(layer, OptimizerConfig(kind))
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(3, 2)).sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
print(*sys.modules)
"""


def test_optimizers_do_not_import_the_compiler() -> None:
    command = [sys.executable, "-c", USE]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "torch.optim.adam" in found
    assert "torch._dynamo" not in found


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_updates_are_those_of_torch(kind: OptimizerKind, decay: float) -> None:
    momentum = 0.9 if kind is OptimizerKind.sgd else 0.0
    c = OptimizerConfig(
        kind, lr=0.1, momentum=momentum, weight_decay=decay, decay_vectors=decay > 0
    )
    rules: dict[OptimizerKind, Any] = {
        OptimizerKind.sgd: partial(torch.optim.SGD, momentum=momentum),
        OptimizerKind.adam: torch.optim.Adam,
        OptimizerKind.adamw: torch.optim.AdamW,
    }
    ours, theirs = nn.Linear(3, 4), nn.Linear(3, 4)
    theirs.load_state_dict(ours.state_dict())
    optimizer: Any = make_optimizer(ours, c)
    other = rules[kind](theirs.parameters(), lr=0.1, weight_decay=decay, fused=True)
    if kind is OptimizerKind.sgd:
        other.register_step_pre_hook(begin_momentum)
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        optimizer.zero_grad()
        assert all(p.grad is None for p in ours.parameters())
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        for each in (optimizer, other):
            each.found_inf = torch.tensor(1.0) if number == 2 else None
            each.step()
        if number == 3:
            optimizer.load_state_dict(deepcopy(other.state_dict()))
        assert torch.is_grad_enabled()
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), other.state_dict(), rtol=0, atol=0)


def config(schedule: Schedule, **changes: Any) -> OptimizerConfig:
    return OptimizerConfig(lr=0.5, schedule=schedule, warmup_updates=10, **changes)


def test_the_cosine_has_the_first_update_after_the_warm_up() -> None:
    """It falls over the whole training: that update is where it then is."""
    assert learning_rate(config(Schedule.cosine), 9, 0.5) == pytest.approx(0.45)
    assert learning_rate(config(Schedule.cosine), 10, 0.5) == pytest.approx(0.25)


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


@pytest.mark.parametrize(("done", "expected"), [(0.0, 0.5), (0.5, 0.275), (1.0, 0.05)])
def test_a_cosine_falls_from_the_rate_to_its_floor(done: float, expected: float) -> None:
    floored = config(Schedule.cosine, min_lr_ratio=0.1)
    assert learning_rate(floored, 100, done) == pytest.approx(expected)


def test_the_rate_never_falls_below_its_floor() -> None:
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
