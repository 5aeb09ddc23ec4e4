"""The settings that an initial state refuses, and those that it applies."""

from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from training_states import NewState, fit_quietly, weights

from seq2seq.runs.folder import Run
from seq2seq.training.processes import Processes
from seq2seq.training.state import TrainingState, initial_state

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


def longest(state: TrainingState) -> int:
    return int(max(state.train_set.src_lengths.max(), state.train_set.tgt_lengths.max()))


@pytest.mark.parametrize("statistics", ["per_step", "sequence_input"])
def test_batch_norm_needs_statistics_for_the_longest_sentence(
    statistics: str, new_state: NewState
) -> None:
    settings = ("norm=batch", "norm.min_rows=2", f"norm.statistics={statistics}")
    steps = longest(new_state())
    fit_quietly(new_state(*settings, f"norm.max_steps={steps}"))
    with pytest.raises(ValueError, match=f"^norm.max_steps={steps - 1}: expected at least {steps}"):
        new_state(*settings, f"norm.max_steps={steps - 1}")
    pieces = ("tokenizer=bpe", "tokenizer.vocab_size=40", "tokenizer.bpe_dropout=0.5")
    new_state(*settings, *pieces, "norm.max_steps=21", "data.max_length=20")
    with pytest.raises(ValueError, match=r"^norm.max_steps=20: expected at least 21, the steps"):
        new_state(*settings, *pieces, "norm.max_steps=20", "data.max_length=20")


def test_shared_statistics_are_for_sentences_of_any_length(new_state: NewState) -> None:
    new_state("norm=batch", "norm.statistics=shared", "norm.max_steps=2")
    new_state("norm=layer")


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
