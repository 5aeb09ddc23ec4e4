"""The experiments of configs/experiment: what their runs say of their claims, and the charts that
show it.
"""

import re
from dataclasses import dataclass

from ...config.settings import CONFIGS
from ...runs.records import Group
from ..charts import Chart, Table
from . import batch_size, convergence, gradient_flow, invariance, length, train_eval_gap
from .verdict import RULE, Finding, Verdict

__all__ = [
    "EXPERIMENTS",
    "RULE",
    "Finding",
    "Statement",
    "Verdict",
    "charts",
    "statement",
    "tables",
    "verdicts",
]

EXPERIMENTS = {
    module.__name__.rpartition(".")[2]: module
    for module in (convergence, length, batch_size, train_eval_gap, gradient_flow, invariance)
}


@dataclass
class Statement:
    """The head of an experiment's file."""

    claim: str
    source: str
    refuted_if: str


def statement(experiment: str) -> Statement:
    """What an experiment tests, from the comment at the head of its file in configs/experiment."""
    file = CONFIGS / "experiment" / f"{experiment}.yaml"
    head = file.read_text(encoding="utf-8").partition("\n#\n")[0]
    text = re.sub(
        r"\n# +",
        " ",
        "\n".join(
            line
            for line in head.split("\n")
            if line.startswith("# ") and not line.startswith("# @")
        ).replace("# Claim", "\n# Claim"),
    )
    parts = re.search(r"Claim: (.*) Source: (.*) Refuted if: (.*)", text)
    if parts is None:
        raise ValueError(f"{file}: expected a head with Claim:, Source: and Refuted if:")
    return Statement(*(part.strip() for part in parts.groups()))


def verdicts(group: Group) -> list[Verdict]:
    """What a group of runs says; nothing where it belongs to no experiment that we know."""
    module = EXPERIMENTS.get(group.experiment or "")
    return module.verdicts(group, statement(group.experiment or "").claim) if module else []


def tables(group: Group) -> list[Table]:
    """What is told beside its verdicts and charts."""
    return invariance.tables(group) if group.experiment == "invariance" else []


def charts(group: Group) -> list[Chart]:
    """What shows it; for runs without an experiment their curves."""
    found: list[Chart] = EXPERIMENTS.get(group.experiment or "", convergence).charts(group)
    return found
