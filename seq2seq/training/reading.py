"""When the results of updates are read, and what follows where updates were skipped."""

from typing import NoReturn

from ..device import is_read_freely
from ..runs.logbook import Logbook
from .state import TrainingState
from .step import StepResult
from .validation import is_due, validation_due

MOST_UNREAD = 100
"""Number of updates after which a GPU is waited for, whatever is logged."""


def reading_due(state: TrainingState) -> bool:
    """Return whether to read the results of the last updates now: a GPU has to be waited for.

    On a CPU that costs nothing. On a GPU it is done before they are logged or saved.
    """
    trainer, update = state.config.trainer, state.progress.update
    return (
        is_read_freely(state.device)
        or len(state.unread) >= MOST_UNREAD
        or is_due(trainer.log_every, update)
        or is_due(trainer.checkpoint_every, update)
        or validation_due(state)
    )


def read_results(state: TrainingState, logbook: Logbook) -> float:
    """Add the results of the last updates to the state; return the last gradient norm.

    A line names each update that was skipped. Raises Diverged after more than
    `trainer.max_skipped` of them in a row.
    """
    gradient_norm = 0.0
    for update, result in state.read():
        gradient_norm = result.gradient_norm
        if result.skipped:
            logbook.say(f"update {update:>6}  skipped, as it is not finite: {shown(result)}")
        if state.progress.skipped_in_row > state.config.trainer.max_skipped:
            give_up(state, update, result)
    return gradient_norm


def shown(result: StepResult) -> str:
    """Return loss and gradient norm in words."""
    return f"loss {result.loss / result.tokens:.3g}, gradient norm {result.gradient_norm:.3g}"


def give_up(state: TrainingState, update: int, result: StepResult) -> NoReturn:
    """Raise Diverged, which names the last update, the checkpoint to use, and what to lower."""
    skipped = f"{shown(result)}: not finite, {state.progress.skipped_in_row} in a row"
    raise state.diverged(update, skipped)
