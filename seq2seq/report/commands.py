"""The commands that train runs again, from what each run's folder keeps of its own."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..config.settings import CONFIGS
from ..runs.records import RunRecord

FIRST = ("experiment=", "size=")
"""Overrides that stand at the head of a command: the others are on top of what these set."""
Sweep = dict[str, tuple[str, ...]]
"""Head of an override, as in "seed=", -> its values: a job for each combination."""


def training_commands(runs: Sequence[RunRecord]) -> list[str]:
    """As few as merging runs that differ in one override makes; they train these runs and no
    others.

    Where runs have not kept their overrides, their experiment's own command, and a remark.
    """
    kept = [(run, run.run.overrides()) for run in runs]
    found = [
        told(sweep)
        for sweep in merged([job(overrides) for _, overrides in kept if overrides is not None])
    ]
    others = [run for run, overrides in kept if overrides is None]
    found += dict.fromkeys(
        told(job(experiment_of(run)), "-m") for run in others if run.config.experiment
    )
    remark = (
        "what else they were started with; config.yaml in each one's folder has all its settings"
    )
    return found + [f"# not kept by {len(others)} of the runs: {remark}"] * bool(others)


def experiment_of(run: RunRecord) -> list[str]:
    """Overrides that are known without having been kept."""
    known = {"experiment": run.config.experiment, "size": run.config.size}
    return [f"{key}={value}" for key, value in known.items() if value is not None]


def job(overrides: Sequence[str]) -> Sweep:
    """A single run's: of two overrides of one setting the later one counts."""
    return {
        head + sign: (value,)
        for head, sign, value in (override.partition("=") for override in overrides)
    }


def merged(sweeps: list[Sweep]) -> list[Sweep]:
    """Sweeps that differ in the values of one override as one, tried for each override in turn.

    Not where a value is empty, as in data.mirror= or ~probe: that is none between two commas.
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


def told(sweep: Sweep, *options: str) -> str:
    """A sweep as it is typed at a shell."""
    several = any(len(values) > 1 for values in sweep.values())
    words = [
        head + ",".join(sweep[head]) for head in sorted(sweep, key=lambda head: head not in FIRST)
    ]
    if several and not swept_by_experiment(sweep) <= {head.rstrip("=") for head in sweep}:
        words.append("hydra.sweeper.params=null")  # else -m would sweep these too
    return shlex.join(["python", "train.py", *(options or ["-m"] * several), *words])


def swept_by_experiment(sweep: Sweep) -> set[str]:
    """The settings for which a sweep's one experiment has values of its own; with several, Hydra
    asks none of them.
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
