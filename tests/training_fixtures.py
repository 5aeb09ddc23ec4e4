"""Fixtures over `training_states`: a state of the toy corpus, a validation that follows a script.

Test files take them by pytest_plugins = ["training_fixtures"].
"""

import pytest
import training_states

from seq2seq.runs.folder import Run
from seq2seq.training import validation
from seq2seq.training.state import initial_state
from seq2seq.translation.scores import Scores


@pytest.fixture
def new_state(train_here, tmp_path):
    """Makes a state of the toy corpus before its first update."""
    return lambda *overrides: initial_state(train_here.config(*overrides), Run(tmp_path / "run"))


@pytest.fixture
def scripted(monkeypatch):
    """Lets validation find these scores and losses in turn, and then the last one."""

    def script(bleus=(1.0,), losses=(1.0,)):
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
def fitted(new_state, scripted):
    """Runs the loop alone; its validations find these scores and losses."""

    def run(*overrides, bleus=(1.0,), losses=(1.0,)):
        scripted(bleus, losses)
        state = new_state(*overrides)
        training_states.fit_quietly(state)
        return state

    return run
