"""The range of a setting in which runs learn well."""

import math
from collections.abc import Sequence
from itertools import pairwise

from ...runs.records import RunRecord
from ..groups import valid_loss

Losses = dict[float, float]
"""A number -> the loss with it; infinite where the run did not learn."""


def guessing(run: RunRecord) -> float:
    """Return the loss (nats a piece) of taking every piece of the vocabulary for equally likely.

    Older runs, and those that diverged, say no more than how many pieces were asked for.
    """
    size = run.results.target_pieces if run.results else None
    return math.log(size or run.settings["tokenizer.vocab_size"])


def loss_of(run: RunRecord) -> float:
    """Return a run's validation loss; infinite if it did not learn.

    That is a run that was stopped because loss or probabilities were not finite, or that ended
    worse than guessing.
    """
    loss = valid_loss(run)
    held = loss is not None and math.isfinite(loss) and loss <= guessing(run)
    return float(loss) if held and loss is not None else math.inf


def best(losses: Losses) -> float:
    """Return the lowest loss."""
    return min(losses.values())


def width(losses: Losses, limit: float) -> float:
    """Return the range around the best loss in which losses are below a limit, in doublings.

    Between two numbers log(loss) is a line over their logarithms; it ends before a run that did
    not learn, and with the numbers that were tried. 0 if the best loss is above the limit, or none
    learnt.
    """
    points = [(math.log2(x), loss) for x, loss in sorted(losses.items())]
    least = best(losses)
    if not math.isfinite(least) or least > limit:
        return 0.0
    middle = next(i for i, (_, loss) in enumerate(points) if loss == least)
    return _reach(points[middle:], limit) + _reach(points[middle::-1], limit)


def _reach(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Return how far one can go from the first of these points until the loss exceeds a limit."""
    end = points[0][0]
    for (x, loss), (next_x, next_loss) in pairwise(points):
        if next_loss > limit:
            if math.isfinite(next_loss):
                end += (next_x - x) * math.log(limit / loss) / math.log(next_loss / loss)
            break
        end = next_x
    return abs(end - points[0][0])
