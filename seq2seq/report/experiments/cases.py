"""Cases of an experiment: runs that differ from the usual ones in one setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...runs.records import RunRecord

NameOf = Callable[[str, Any], str]
"""(setting, value) -> the case in words"""


@dataclass(frozen=True)
class Case:
    """Runs that differ from the usual ones in one setting."""

    name: str
    wanted: Mapping[str, Any]
    """The values of all settings of which a case changes one."""
    changed: str | None = None
    """The setting that has another value; None in the usual case."""


def usual(runs: Sequence[RunRecord], axes: Sequence[str]) -> dict[str, Any]:
    """Return for each of these settings the value of most runs."""
    values = {axis: [run.settings[axis] for run in runs] for axis in axes}
    return {axis: max(found, key=found.count) for axis, found in values.items()}


def cases(runs: Sequence[RunRecord], axes: Sequence[str], name_of: NameOf) -> list[Case]:
    """Return the usual case and those that differ from it in one of these settings.

    They are in the order of the settings, then of their values.
    """
    if not runs:
        return []
    base = usual(runs, axes)
    known = {tuple(run.settings[axis] for axis in axes) for run in runs}
    found = [Case("usual", base)]
    for axis in axes:
        values = {run.settings[axis] for run in runs} - {base[axis]}
        for value in sorted(values, key=lambda value: (value is not None, value)):
            case = Case(name_of(axis, value), base | {axis: value}, axis)
            if tuple(case.wanted.values()) in known:
                found.append(case)
    return found
