"""A fixture that acts in the middle of a training."""

from collections.abc import Callable

import pytest
from fixture_types import AtUpdate
from update_actions import acting_at

from seq2seq.training import loop


@pytest.fixture
def at_update(monkeypatch: pytest.MonkeyPatch) -> AtUpdate:
    """Return a function that plans an action before the n-th update from now on.

    A second plan replaces the first; a plan for update 0 never acts.
    """

    def plan(number: int, act: Callable[[], object]) -> None:
        monkeypatch.setattr(loop, "train_step", acting_at(number, act))

    return plan
