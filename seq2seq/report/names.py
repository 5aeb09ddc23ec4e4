"""Names of norms and runs, which tell them apart in a few words."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import yaml

from ..config.settings import CHANGEABLE, CONFIGS, OF_PLACES, plain
from ..rnn import NormConfig
from ..runs.records import RunRecord

NO_SETTINGS = ("seed", "experiment", "size", *OF_PLACES, *CHANGEABLE)
"""Settings that may differ between runs that repeat each other."""
MOST_IN_LABELS = 3
"""Labels name so many settings or fewer."""
WORDS = {
    ("norm.statistics", "per_step"): "per step, the input too",
    ("norm.statistics", "sequence_input"): "per step",
    ("norm.statistics", "shared"): "shared",
    ("norm.cell", "none"): "no cell norm",
    ("norm.cell", "output"): "cell norm",
}
"""(setting, value) -> how a norm's name puts it; otherwise it gives the setting and the value."""


def other_settings(run: RunRecord, free: tuple[str, ...]) -> dict[str, str]:
    """Return a run's settings but for those whose names begin with these."""
    return {
        key: str(value)
        for key, value in run.settings.items()
        if not key.startswith(free) and key not in NO_SETTINGS
    }


def norm_name(run: RunRecord, among: Sequence[RunRecord], settings: tuple[str, ...]) -> str:
    """Return "batch", or "batch (shared)" if runs of this kind differ in such a setting."""
    kin = [r for r in among if r.kind == run.kind]
    differing = [
        key
        for key in run.settings
        if key.startswith(settings)
        and key not in NO_SETTINGS
        and len({str(r.settings.get(key)) for r in kin}) > 1
    ]
    own = {key: str(run.settings[key]) for key in differing}
    parts = [
        WORDS.get((key, value)) or f"{key.removeprefix('norm.').replace('_', ' ')} {value}"
        for key, value in own.items()
    ]
    return run.kind + (f" ({', '.join(parts)})" if parts else "")


def departures(run: RunRecord) -> int:
    """Return in how many settings a run's norm differs from norm=KIND."""
    return sum(run.settings[f"norm.{k}"] != v for k, v in _usual_norm(run.kind).items())


@cache
def _usual_norm(kind: str) -> dict[str, Any]:
    """Return the settings of configs/norm/KIND.yaml."""
    own = yaml.safe_load((CONFIGS / "norm" / f"{kind}.yaml").read_text(encoding="utf-8"))
    return {key: own.get(key, value) for key, value in plain(NormConfig()).items()}


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return a short name for each run: its norm, and what else is needed to tell it apart.

    That is experiment, corpus and size where they differ, then the seed, then a few other settings
    that differ; or the folder's name.
    """
    places = [(r.config.experiment, r.config.data.name, r.config.size) for r in runs]
    differ = [len(set(parts)) > 1 for parts in zip(*places, strict=True)]
    norms = [
        ", ".join(
            [r.norm, *(part for part, show in zip(place, differ, strict=True) if show and part)]
        )
        for r, place in zip(runs, places, strict=True)
    ]
    seeds = [f"{norm}, seed {r.seed}" for norm, r in zip(norms, runs, strict=True)]
    folders = [r.name for r in runs]
    settings = _differing(runs)
    both = [
        [", ".join([name, *own]) for name, own in zip(names, settings, strict=True)]
        for names in (norms, seeds)
    ]
    candidates = [norms, seeds, *both, folders]
    return next(names for names in candidates if len(set(names)) == len(names))


def _differing(runs: Sequence[RunRecord]) -> list[list[str]]:
    """Return of each run the settings in which these runs differ, in words, if they are few."""
    known = [other_settings(r, ("norm.", "data.name")) for r in runs]
    keys = [key for key in known[0] if len({own.get(key) for own in known}) > 1]
    if len(keys) > MOST_IN_LABELS:
        return [[] for _ in runs]
    short = {key: key.removesuffix(".kind").rpartition(".")[2] for key in keys}
    return [[f"{word} {own.get(key)}" for key, word in short.items()] for own in known]
