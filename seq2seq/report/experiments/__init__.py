"""The experiments: one file a claim. Their order in a report is that of the list below."""

from collections.abc import Sequence

from ...runs.records import RunRecord
from ..charts import Chart, Table
from ..groups import Group
from ..groups import groups as grouped
from . import (
    batch_norm,
    batch_size,
    convergence,
    gradient_flow,
    invariance,
    length,
    robustness,
    train_eval_gap,
)
from .base import Experiment
from .verdict import Verdict

__all__ = [
    "EXPERIMENTS",
    "Verdict",
    "charts",
    "groups",
    "tables",
    "verdicts",
]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        gradient_flow,
        robustness,
        convergence,
        length,
        batch_size,
        batch_norm,
        train_eval_gap,
        invariance,
    )
}


def groups(runs: Sequence[RunRecord]) -> list[Group]:
    """Return the runs by experiment, size and corpus, in the order of the experiments."""
    return grouped(runs, {name: experiment.design for name, experiment in EXPERIMENTS.items()})


def verdicts(group: Group) -> list[Verdict]:
    """Return what a group's runs say of its claims; nothing without a known experiment."""
    experiment = EXPERIMENTS.get(group.experiment or "")
    return experiment.verdicts(group) if experiment else []


def charts(group: Group) -> list[Chart]:
    """Return an experiment's charts; for other runs their curves."""
    return EXPERIMENTS.get(group.experiment or "", convergence.EXPERIMENT).charts(group)


def tables(group: Group) -> list[Table]:
    """Return an experiment's tables besides its verdicts."""
    experiment = EXPERIMENTS.get(group.experiment or "")
    return experiment.tables(group) if experiment else []
