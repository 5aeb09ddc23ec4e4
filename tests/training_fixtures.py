"""Fixtures over `training_states`: a state of the toy corpus, validations with given scores.

Test files use them with pytest_plugins = ["training_fixtures"].
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import training_states
from conftest import TrainHere
from training_states import Fitted, NewState, Scripted

from seq2seq.runs.folder import Run
from seq2seq.training import validation
from seq2seq.training.state import TrainingState, initial_state
from seq2seq.translation.scores import Scores


@pytest.fixture
def new_state(train_here: TrainHere, tmp_path: Path) -> NewState:
    """Return a function that makes a state of the toy corpus before its first update."""
    return lambda *overrides: initial_state(train_here.config(*overrides), Run(tmp_path / "run"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Return a function that makes validation return given scores and losses in turn."""

    def script(bleus: Sequence[float] = (1.0,), losses: Sequence[float] = (1.0,)) -> None:
        bleus, losses = list(bleus), list(losses)
        monkeypatch.setattr(
            validation,
            "validation_bleu",
            lambda *_: (Scores(bleus.pop(0) if len(bleus) > 1 else bleus[0], 0.0, "", ""), ["a"]),
        )
        monkeypatch.setattr(
            validation,
            "teacher_forced_loss",
            lambda *_: losses.pop(0) if len(losses) > 1 else losses[0],
        )
        monkeypatch.setattr(validation, "write_samples", lambda *_: None)

    return script


@pytest.fixture
def fitted(new_state: NewState, scripted: Scripted) -> Fitted:
    """Return a function that runs the loop with given scores and losses of its validations."""

    def run(
        *overrides: str, bleus: Sequence[float] = (1.0,), losses: Sequence[float] = (1.0,)
    ) -> TrainingState:
        scripted(bleus, losses)
        state = new_state(*overrides)
        training_states.fit_quietly(state)
        return state

    return run
