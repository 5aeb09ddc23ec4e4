"""A fixture that acts in the middle of a training."""

from collections.abc import Callable
from typing import Any

import pytest
from fixture_types import AtUpdate

from seq2seq.training import loop
from seq2seq.training.step import train_step


@pytest.fixture
def at_update(monkeypatch: pytest.MonkeyPatch) -> AtUpdate:
    """Return a function that plans an action before the n-th update from now on.

    A second plan replaces the first; a plan for update 0 never acts.
    """

    def plan(number: int, act: Callable[[], object]) -> None:
        count = 0

        def stepping(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                act()
            return train_step(*arguments)

        monkeypatch.setattr(loop, "train_step", stepping)

    return plan
