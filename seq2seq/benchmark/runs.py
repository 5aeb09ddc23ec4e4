"""Runs that were trained at different times: the speeds of their models, side by side."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from ..config import Config
from ..config.settings import OF_PLACES, differences, settings
from ..device import processor
from ..runs.folder import Run
from ..runs.speed import MeasuredSpeed
from .contestants import Contestant
from .timing import Speed, interleaved_speeds
from .training import CPU, updates
from .workload import workload

MODEL = (
    *("norm.", "cell.", "model.", "backend", "optimizer.kind"),
    *("trainer.precision", "trainer.r_drop"),
)
"""Settings that the time of an update depends on, by how their names begin."""
SAME = ("data.", "tokenizer.", "trainer.label_smoothing", "optimizer.accumulate")
"""Settings that all runs must have in common, so that their updates have the same text."""


def model_of(config: Config) -> tuple[Any, ...]:
    """Return what two runs have in common whose updates take the same time."""
    return tuple(str(value) for key, value in settings(config).items() if key.startswith(MODEL))


def check_same(configs: dict[str, Config]) -> None:
    """Raise ValueError for runs of different text or batches."""
    (first, reference), *others = configs.items()
    for name, config in others:
        for key, (expected, value) in differences(reference, config).items():
            if key.startswith(SAME) and key not in OF_PLACES:
                raise ValueError(
                    f"{name}: {key}={value}, and {expected} in {first}; expected runs of the same"
                    " text and batches"
                )


def training_speeds_of(folders: Sequence[str], count: int, rounds: int) -> dict[str, list[Speed]]:
    """Measure the training of runs' models in turn, and write each run's speed.json.

    Runs whose models differ in nothing but the weights are measured once. Returns the table, by
    its title. ValueError for a folder without a run, and for runs of different text.
    """
    runs = {folder: Run.open(folder) for folder in folders}
    configs = {folder: run.config() for folder, run in runs.items()}
    check_same(configs)
    models: dict[tuple[Any, ...], list[str]] = {}
    for folder, config in configs.items():
        models.setdefault(model_of(config), []).append(folder)
    work = workload(next(iter(configs.values())), count, 0)
    contestants = {
        own[0]: updates(work, Contestant(configs[own[0]], configs[own[0]].norm.kind.value))
        for own in models.values()
    }
    speeds = interleaved_speeds(contestants, work.tokens, rounds)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    for own, speed in zip(models.values(), speeds, strict=True):
        for folder in own:
            MeasuredSpeed(
                tokens_per_second=speed.per_second,
                measurement=when,
                beside=len(models),
                rounds=rounds,
                processor=processor(CPU),
                threads=torch.get_num_threads(),
            ).write(runs[folder].speed_file)
    title = f"training, {len(runs)} runs, {count} updates a turn, {work.tokens} target tokens"
    return {title: speeds}
