"""The commands that train the runs of a report again, from the overrides that each run stores."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..config.settings import CONFIGS
from ..programs import program
from .records import RunRecord

FIRST = ("experiment=", "size=")
"""Overrides at the head of a command: the other overrides change what these set."""
Sweep = dict[str, tuple[str, ...]]
"""Head of an override, as in "seed=", -> its values: a job for each combination."""


def training_commands(runs: Sequence[RunRecord]) -> list[str]:
    """Return commands that train these runs and no others.

    Runs that differ in one override share a command. For runs without stored overrides: the
    command of their experiment, and a comment.
    """
    stored = [(run, run.run.overrides()) for run in runs]
    sweeps = merged([job(overrides) for _, overrides in stored if overrides is not None])
    found = [as_command(sweep) for sweep in sweeps]
    others = [run for run, overrides in stored if overrides is None]
    found += dict.fromkeys(
        as_command(job(known_overrides(run)), "-m") for run in others if run.config.experiment
    )
    remark = (
        f"# {len(others)} of the runs have not stored what else they were started with; config.yaml"
        " in the folder of each has all its settings"
    )
    return found + [remark] * bool(others)


def known_overrides(run: RunRecord) -> list[str]:
    """Return the overrides that the configuration shows."""
    known = {"experiment": run.config.experiment, "size": run.config.size}
    return [f"{key}={value}" for key, value in known.items() if value is not None]


def job(overrides: Sequence[str]) -> Sweep:
    """Return a single run's overrides; the last of several of one setting counts."""
    parts = (override.partition("=") for override in overrides)
    return {head + sign: (value,) for head, sign, value in parts}


def merged(sweeps: list[Sweep]) -> list[Sweep]:
    """Merge sweeps that differ in the values of one override, for each override in turn.

    An empty value, as in data.mirror= or ~probe, is not merged: a sweep cannot hold it.
    """
    for head in dict.fromkeys(head for sweep in sweeps for head in sweep):
        alike: dict[object, Sweep] = {}
        for sweep in sweeps:
            rest = frozenset((other, values) for other, values in sweep.items() if other != head)
            empty = sweep[head] if sweep.get(head) == ("",) else None
            first = alike.setdefault((rest, head in sweep, empty), sweep)
            if head in sweep:
                first[head] = tuple(dict.fromkeys(first[head] + sweep[head]))
        sweeps = list(alike.values())
    return sweeps


def as_command(sweep: Sweep, option: str = "") -> str:
    """Return a sweep as a shell command."""
    several = any(len(values) > 1 for values in sweep.values())
    heads = sorted(sweep, key=lambda head: head not in FIRST)
    words = [head + ",".join(in_order(sweep[head])) for head in heads]
    if several and not swept_by_experiment(sweep) <= {head.rstrip("=") for head in sweep}:
        words.append("hydra.sweeper.params=null")  # else -m would sweep these too
    options = [option or "-m"] if option or several else []
    return shlex.join([*program("train"), *options, *words])


def in_order(values: Sequence[str]) -> Sequence[str]:
    """Return numbers from the smallest on, other values as they are."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return values


def swept_by_experiment(sweep: Sweep) -> set[str]:
    """Return the settings that a sweep's experiment sweeps by itself.

    There are none for several experiments: Hydra then uses the values of none of them.
    """
    experiments = sweep.get("experiment=", ())
    if len(experiments) != 1:
        return set()
    files = [
        CONFIGS / "experiment" / f"{experiments[0]}.yaml",
        *(CONFIGS / "experiment" / "size").glob(f"{experiments[0]}_*.yaml"),
    ]
    return {key for file in files if file.is_file() for key in _sweeper_params(file)}


def _sweeper_params(file: Path) -> dict[str, str]:
    found = yaml.safe_load(file.read_text(encoding="utf-8")).get("hydra", {})
    return dict(found.get("sweeper", {}).get("params", {}))
