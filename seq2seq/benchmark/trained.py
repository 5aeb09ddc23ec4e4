"""Translators that have learnt enough for translations of ordinary lengths, kept in run folders."""

from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..config import Config
from ..data.dataset import Prepared
from ..runs.checkpoint import prefixed, save_checkpoint
from ..runs.folder import Run, RunError
from .contestants import Contestant
from .training import new_update
from .workload import first_batches

FOLDER = Path("outputs/benchmark")
"""Where the runs are, one for each norm and corpus."""


def run_of(config: Config, norm: str, updates: int) -> Run:
    """Return the folder of a run of so many updates."""
    feeding = "-feeding" * config.model.input_feeding
    return Run(FOLDER / config.data.name / f"{norm}{feeding}-{updates}")


def trained_run(contestant: Contestant, prepared: Prepared, updates: int) -> Run:
    """Return a run of a contestant's norm and settings; train it unless that was done before.

    The rival takes the weights of norm=none.
    """
    ours = replace(contestant, norm=contestant.norm or "none")
    run = run_of(ours.config, ours.norm or "none", updates)
    if not is_of(run, ours.config):
        train_run(ours, run, prepared, updates)
    return run


def is_of(run: Run, config: Config) -> bool:
    """Return whether a run has been trained with these settings, by this version's reading."""
    try:
        return run.has_begun() and run.config() == config
    except RunError:  # written by another version
        return False


def train_run(contestant: Contestant, run: Run, prepared: Prepared, updates: int) -> None:
    """Train a new translator and write what translation needs of a run's folder.

    In the meantime there is no configuration: what an interruption leaves is no run.
    """
    run.config_file.unlink(missing_ok=True)
    config, dataset = contestant.config, prepared.split("train")
    model, update = new_update(contestant, prepared.tokenizers)
    batches = first_batches(dataset, config, updates)
    bar = tqdm(batches, f"training {run.folder}", unit="update", leave=False, disable=None)
    for indices in bar:
        update(dataset.batch(indices))
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    prepared.tokenizers.save(run.folder)
    save_checkpoint(run.checkpoint("best"), prefixed(model.state_dict(), "model"), {})
    run.save_config(config)
