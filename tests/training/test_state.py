"""The settings that an initial state refuses, and those that it applies."""

import pytest
import torch
from training_states import NewState

pytest_plugins = ["training_fixtures"]


def test_the_configured_threads_are_used(new_state: NewState) -> None:
    before = torch.get_num_threads()
    try:
        new_state("trainer.threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
