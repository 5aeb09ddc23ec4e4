"""What a run reports: log entries, the progress bar, and a line at its start and end."""

import math
from typing import Any

import torch
from torch import nn

from ..data.dataset import Prepared
from ..model import count_parameters
from ..runs.entries import perplexity
from ..runs.folder import Run
from ..runs.logbook import Logbook
from ..shown import counted, escaped
from .state import Interval, TrainingState

REASONS = {
    "empty": "empty",
    "too_long": "too long",
    "ratio": "with a length ratio out of range",
    "duplicates": "repeated",
}
"""Why a training pair is left out, by its key in the manifest of a prepared corpus."""


def gradient_norms(model: nn.Module, whole: float, clip_norm: float) -> dict[str, float]:
    """Return the norm of the whole gradient and of each top-level module's, before clipping.

    The gradients are clipped by now: those of a `whole` norm above `clip_norm` are multiplied by
    clip_norm / whole. A clip_norm of 0 clips nothing. Where `whole` is not finite, the others may
    be nan.
    """
    scale = max(1.0, whole / clip_norm) if clip_norm and math.isfinite(whole) else 1.0
    found = {"gradient_norm/all": whole}
    for name, module in model.named_children():
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        found[f"gradient_norm/{name}"] = scale * nn.utils.get_total_norm(gradients).item()
    return found


def log_interval(state: TrainingState, logbook: Logbook, rate: float, gradient_norm: float) -> None:
    """Log the means over the updates since the last entry, and start a new interval.

    `rate` is the learning rate and `gradient_norm` that of the last of these updates.
    """
    interval, clip_norm = state.interval, state.config.optimizer.clip_norm
    nll = interval.mean(interval.nll)
    values = {
        "loss": interval.mean(interval.loss),
        "nll": nll,
        "perplexity": perplexity(nll),
        "lr": rate,
        "tokens_per_second": interval.tokens / interval.seconds,
        **gradient_norms(state.model, gradient_norm, clip_norm),
        "skipped": state.progress.skipped,
    }
    logbook.log("train", state.position(), values)
    state.interval = Interval()


def show_progress(state: TrainingState, logbook: Logbook) -> None:
    """Move the progress bar to the present update, with the interval's loss and speed.

    They stay as they are while updates are unread.
    """
    interval = state.interval
    shown = {
        "loss": f"{interval.mean(interval.loss):.3f}",
        "tokens/s": f"{interval.tokens / interval.seconds:,.0f}",
    }
    now = None if state.unread else shown
    logbook.show(state.progress.update, state.total_updates(), now)


def heading(state: TrainingState) -> str:
    """Return one line about model, device, processes and data."""
    return (
        f"{escaped(str(state.run.folder))}: {count_parameters([state.model]):,} parameters, "
        f"{state.device}, {state.processes.size} x {counted(torch.get_num_threads(), 'thread')}, "
        f"{training_pairs(state.prepared)}"
    )


def training_pairs(prepared: Prepared) -> str:
    """Return the number of training pairs, and of those left out by reason."""
    counts = prepared.manifest.splits["train"]
    dropped = counts.dropped
    left_out = ", ".join(f"{dropped[key]:,} {why}" for key, why in REASONS.items() if dropped[key])
    return counted(counts.kept, "training pair") + (f" (left out: {left_out})" if left_out else "")


def shown_score(scores: dict[str, Any]) -> str:
    """Return BLEU in words; chrF too where BLEU says nothing."""
    bleu = f"BLEU {scores['bleu']:.2f}"
    return f"{bleu} (chrF {scores['chrf']:.2f})" if bleu == "BLEU 0.00" else bleu


def summary(run: Run, results: dict[str, Any]) -> str:
    """Return one line about a finished run: scores, best update, speed and time."""
    scores = "  ".join(
        f"{split} {shown_score(results[split])}" for split in ("valid", "test") if split in results
    )
    return (
        f"{escaped(str(run.folder))}: {scores}  "
        f"best at update {results['best_update'] or '?'} of {results['update']}, "
        f"{results['tokens_per_second']:,.0f} target tokens/s, "
        f"{results['wall_seconds'] / 60:.1f} minutes"
    )
