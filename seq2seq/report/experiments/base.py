"""What an experiment is: a claim, where it comes from, what refutes it, and what is shown of it."""

from collections.abc import Callable
from dataclasses import dataclass

from ..charts import Chart, Table
from ..groups import Design, Group
from .verdict import Verdict, absent


@dataclass(frozen=True)
class Statement:
    """What an experiment tests."""

    claim: str
    source: str
    """Where the claim is made."""
    refuted_if: str


@dataclass(frozen=True)
class Experiment:
    """One claim and how a report judges and shows it; configs/experiment/NAME.yaml runs it."""

    name: str
    statement: Statement
    design: Design
    needs: tuple[str, ...]
    """Kinds of norm without which it cannot be judged."""
    judge: Callable[[Group], list[Verdict]]
    """Returns what a group that has these norms says of the claim."""
    charts: Callable[[Group], list[Chart]]
    tables: Callable[[Group], list[Table]] = lambda _: []

    def verdicts(self, group: Group) -> list[Verdict]:
        """Return what the runs of a group say of the claim."""
        if missing := absent(group, self.needs):
            return [Verdict(self.statement.claim, missing=missing)]
        return self.judge(group)
