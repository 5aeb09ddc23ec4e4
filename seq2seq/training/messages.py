"""Lines that a run prints: what is trained, and what came of it."""

from typing import Any

import torch

from ..data.dataset import Prepared
from ..model import count_parameters
from ..runs.folder import Run
from .state import TrainingState

REASONS = {
    "empty": "empty",
    "too_long": "too long",
    "ratio": "with a length ratio out of range",
    "duplicates": "repeated",
}
"""Why a training pair is left out, by its key in the manifest of a prepared corpus."""


def heading(state: TrainingState) -> str:
    """Return one line about model, device, processes and data."""
    return (
        f"{state.run.folder}: {count_parameters([state.model]):,} parameters, {state.device}, "
        f"{state.processes.size} x {torch.get_num_threads()} threads, "
        f"{training_pairs(state.prepared)}"
    )


def training_pairs(prepared: Prepared) -> str:
    """Return the number of training pairs, and of those left out by reason."""
    counts = prepared.manifest["splits"]["train"]
    left_out = ", ".join(f"{counts[key]:,} {why}" for key, why in REASONS.items() if counts[key])
    return f"{counts['kept']:,} training pairs" + (f" (left out: {left_out})" if left_out else "")


def summary(run: Run, results: dict[str, Any]) -> str:
    """Return one line about a finished run: scores, best update, speed and time."""
    scores = "  ".join(
        f"{split} BLEU {results[split]['bleu']:.2f}"
        for split in ("valid", "test")
        if split in results
    )
    return (
        f"{run.folder}: {scores}  best at update {results['best_update']} of {results['update']}, "
        f"{results['tokens_per_second']:,.0f} target tokens/s, "
        f"{results['wall_seconds'] / 60:.1f} minutes"
    )


def already_finished(run: Run, results: dict[str, Any]) -> str:
    """Return the line for a run that needs no more training."""
    return f"finished already (overwrite=true trains it again): {summary(run, results)}"
