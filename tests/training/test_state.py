"""The settings that an initial state refuses, and those that it applies."""

from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from training_states import NewState, weights

from seq2seq.runs.folder import Run
from seq2seq.training.processes import Processes
from seq2seq.training.state import initial_state

pytest_plugins = ["training_fixtures"]


def test_the_configured_threads_are_used(new_state: NewState) -> None:
    before = torch.get_num_threads()
    try:
        new_state("trainer.threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_seed_decides_the_first_weights(new_state: NewState) -> None:
    first, same, other = (weights(new_state(f"seed={seed}").model) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_processes_have_the_same_first_weights_and_other_random_numbers(
    train_here: TrainHere, tmp_path: Path
) -> None:
    found, states = [], []
    for rank in range(3):
        state = initial_state(train_here.config(), Run(tmp_path), Processes(rank, 3))
        found.append(weights(state.model))
        states.append(torch.get_rng_state())
    first, *others = found
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    assert len({state.numpy().tobytes() for state in states}) == 3


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("trainer.log_every=0", "at least 1"),
        ("trainer.max_epochs=0", "at least 1"),
        ("trainer.validate_every=-1", "at least 1"),
        ("optimizer.accumulate=0", "at least 1"),
        ("trainer.patience=0", "at least 1"),
        ("optimizer.lr=-0.1", "at least 0"),
        ("optimizer.clip_norm=-1.0", "at least 0"),
        ("trainer.label_smoothing=1.0", "at least 0 and less than 1"),
        ("model.dropout=1.5", "at least 0 and less than 1"),
        ("trainer.threads=0", "at least 1"),
        ("decode.beam_size=0", "at least 1"),
    ],
)
def test_a_number_out_of_range_is_named_before_training(
    setting: str, expected: str, new_state: NewState
) -> None:
    with pytest.raises(ValueError, match=f"{setting}: expected {expected}"):
        new_state(setting)
