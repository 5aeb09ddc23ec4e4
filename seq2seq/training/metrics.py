"""Figures of the training under way: log entries and the progress bar."""

import math

from torch import nn

from ..runs.logbook import Logbook
from .state import Interval, TrainingState

LARGEST_EXPONENT = 100
"""Bound on a loss in nats whose perplexity is computed: exp() stays finite."""


def perplexity(nll: float) -> float:
    """Return exp(nll), nll being the mean negative log-likelihood of a token in nats."""
    return math.exp(min(nll, LARGEST_EXPONENT))


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the Euclidean norm of the present gradient of each top-level module."""
    return {
        f"gradient_norm/{name}": nn.utils.get_total_norm(
            [p.grad for p in module.parameters() if p.grad is not None]
        ).item()
        for name, module in model.named_children()
    }


def log_interval(state: TrainingState, logbook: Logbook, rate: float, norm: float) -> None:
    """Log the means over the updates since the last entry, and start a new interval.

    `rate` is the learning rate and `norm` the gradient norm of the last of these updates.
    """
    interval = state.interval
    nll = interval.nll / interval.tokens
    values = {
        "loss": interval.loss / interval.tokens,
        "nll": nll,
        "perplexity": perplexity(nll),
        "lr": rate,
        "tokens_per_second": interval.tokens / interval.seconds,
        "gradient_norm/all": norm,
        **gradient_norms(state.model),
    }
    logbook.log("train", state.position(), values)
    state.interval = Interval()


def show_progress(state: TrainingState, logbook: Logbook) -> None:
    """Move the progress bar to the present update, with the interval's loss and speed."""
    interval = state.interval
    shown = {
        "loss": f"{interval.loss / interval.tokens:.3f}",
        "tokens/s": f"{interval.tokens / interval.seconds:,.0f}",
    }
    logbook.show(state.progress.update, state.total_updates(), **shown)
