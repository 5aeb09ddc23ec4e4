"""A training step that acts before a certain update."""

from collections.abc import Callable
from typing import Any

from seq2seq.training.step import train_step


def acting_at(number: int, act: Callable[[], object]) -> Callable[..., Any]:
    """Return a `train_step` that acts before the n-th update from now on; never for 0."""
    count = 0

    def stepping(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            act()
        return train_step(*arguments)

    return stepping
