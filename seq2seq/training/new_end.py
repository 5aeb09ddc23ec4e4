"""Another end for a training that has begun: what that does to the learning rate."""

from ..config import Config, Schedule
from ..config.settings import EXTENDABLE, settings
from ..runs.folder import RunError
from ..shown import counted
from .optimizer import learning_rate
from .state import TrainingState


def check_new_end(state: TrainingState, before: Config) -> list[str]:
    """Return a line about the learning rate if another end of the training changes it, else none.

    `before` are the settings of the training so far. The cosine falls towards the end. Raise
    RunError if it has reached its end: with a later one the rate would rise from its lowest value
    again. Raise it too for an end that the training has passed: no settings would describe that. So
    for a training that has used up its patience, which no other end changes.
    """
    new, old = settings(state.config), settings(before)
    changed = [key for key in EXTENDABLE if new[key] != old[key]]
    asked = ", ".join(f"{key}={new[key]}" for key in changed)
    if changed and state.part_done() > 1:
        raise RunError(
            f"{asked}: expected an end after what {state.run.folder} has trained:"
            f" {counted(state.sampler.epoch, 'whole epoch')},"
            f" {counted(state.progress.update, 'update')}"
        )
    if changed and state.is_impatient():
        raise RunError(
            f"{asked}: trainer.patience={state.config.trainer.patience} has ended the training"
            f" before; init_from={state.run.folder} trains its weights on"
        )
    if not changed or state.config.optimizer.schedule is not Schedule.cosine:
        return []
    done = state.fraction_done(before.trainer), state.fraction_done()
    was, now = (
        learning_rate(state.config.optimizer, state.progress.update + 1, part) for part in done
    )
    if was == now:  # still in the warm-up, which has no end to fall to
        return []
    if done[0] >= 1 > done[1]:
        raise RunError(
            f"{asked}: the run's cosine has ended, and its learning rate would rise from {was:.3g}"
            f" to {now:.3g}; init_from={state.run.folder} starts a new schedule"
        )
    said = (
        f"{asked}: the cosine falls to another end; the learning rate after update"
        f" {state.progress.update} is about {now:.2g} instead of {was:.2g}"
    )
    return [said]
