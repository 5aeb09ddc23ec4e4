"""The commands that train the runs of a report again, from the overrides that each run stores."""

import shlex
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

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
    stored = [(run, run.overrides) for run in runs]
    jobs = [job(overrides) for _, overrides in stored if overrides is not None]
    found = []
    for alike in by_experiment(jobs):
        whole = with_all_cases(alike)
        if whole is not None:
            found.append(as_command(whole, "-m", keeps_cases=True))
        else:
            found += [as_command(sweep) for sweep in merged(alike)]
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


def by_experiment(jobs: list[Sweep]) -> list[list[Sweep]]:
    """Return the jobs of each experiment with cases and each size together, and the others."""
    found: dict[object, list[Sweep]] = {}
    for one in jobs:
        key = tuple(one.get(head) for head in FIRST) if sweepers(one, "cases") else None
        found.setdefault(key, []).append(one)
    return list(found.values())


def with_all_cases(jobs: list[Sweep]) -> Sweep | None:
    """Return the settings, besides those of its cases, of an experiment's sweep over all cases.

    None if the jobs are not exactly the jobs of such a sweep.
    """
    if not (cases := [case for sweeper in sweepers(jobs[0], "cases")[-1:] for case in sweeper]):
        return None
    of_cases = [
        {head + "=": tuple(values.split(",")) for head, _, values in parts}
        for parts in ([word.partition("=") for word in case.split()] for case in cases)
    ]
    inside = {head for case in of_cases for head in case}
    outside: Sweep = {}
    for one in jobs:
        for head, values in one.items():
            if head not in inside:
                outside[head] = tuple(dict.fromkeys(outside.get(head, ()) + values))
    expected = {one for case in of_cases for one in combinations(outside | case)}
    return outside if {one for sweep in jobs for one in combinations(sweep)} == expected else None


def combinations(sweep: Sweep) -> set[frozenset[tuple[str, str]]]:
    """Return a sweep's jobs, each as its overrides; true and True are one value."""
    values = (
        [(head, v.lower() if v.lower() in ("true", "false") else v) for v in sweep[head]]
        for head in sweep
    )
    return set(map(frozenset, product(*values)))


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


def as_command(sweep: Sweep, option: str = "", keeps_cases: bool = False) -> str:
    """Return a sweep as a shell command.

    keeps_cases: Whether the sweep is over the cases of its experiment, too.
    """
    several = any(len(values) > 1 for values in sweep.values())
    heads = sorted(sweep, key=lambda head: head not in FIRST)
    words = [head + ",".join(in_order(sweep[head])) for head in heads]
    if several or keeps_cases:  # else -m would sweep these too
        if not swept_by_experiment(sweep) <= {head.rstrip("=") for head in sweep}:
            words.append("hydra.sweeper.params=null")
        if not keeps_cases and sweepers(sweep, "cases"):
            words.append("hydra.sweeper.cases=null")
    options = [option or "-m"] if option or several else []
    return shlex.join([*program("train"), *options, *words])


def in_order(values: Sequence[str]) -> Sequence[str]:
    """Return numbers from the smallest on, other values as they are."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return values


def swept_by_experiment(sweep: Sweep) -> set[str]:
    """Return the settings that a sweep's experiment sweeps by itself, besides its cases."""
    return {key for params in sweepers(sweep, "params") for key in params}


def sweepers(sweep: Sweep, key: str) -> list[Any]:
    """Return what the files of a sweep's experiment and sizes hold in hydra.sweeper, of one key.

    That of the sweep's one size is the last, as it replaces the cases of the experiment. There is
    nothing for several experiments: Hydra then uses the values of none of them.
    """
    experiments = sweep.get("experiment=", ())
    own = CONFIGS / "experiment" / f"{experiments[0] if experiments else None}.yaml"
    if len(experiments) != 1 or not own.is_file():
        return []
    parts = (part for part in _content(own).get("defaults", ()) if isinstance(part, dict))
    default = tuple(part["override /size"] for part in parts if "override /size" in part)
    chosen = [f"{own.stem}_{size}" for size in sweep.get("size=", default)]
    sizes = sorted((own.parent / "size").glob(f"{own.stem}_*.yaml"), key=lambda f: f.stem in chosen)
    found = [_content(file).get("hydra", {}).get("sweeper", {}).get(key) for file in (own, *sizes)]
    return [values for values in found if values]


@cache
def _content(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))
