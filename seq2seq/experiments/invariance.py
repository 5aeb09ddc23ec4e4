"""What may be done to weights and data without changing a layer's output: measured beside the papers' tables."""

from ..charts import Chart, Line, Panel
from ..records import Group, RunRecord
from ..statistics import Outcome
from .verdict import Finding, Verdict

UNCHANGED, CHANGED = 1e-6, 1e-2
"""Of the outputs' size: at most the first counts as no change, at least the second as one."""


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Every norm and transformation has to be as the tables say, in every run."""
    findings = []
    for norm in group.norms:
        for transformation, (claimed, changes) in measured(group.of(norm=norm)).items():
            as_said = max(changes) <= UNCHANGED if claimed else min(changes) >= CHANGED
            findings.append(Finding(
                f"{norm}: {transformation} {'leaves the output as it is' if claimed else 'changes the output'}", "", [],
                exact=Outcome.supported if as_said else Outcome.refuted,
                detail=f"changes of {min(changes):.1g} to {max(changes):.1g} of the outputs' size"))
    return [Verdict(claim, findings, missing="" if findings else "needs runs with probe.kinds=[invariance]")]


def measured(runs: list[RunRecord]) -> dict[str, tuple[bool, list[float]]]:
    """transformation -> whether nothing is said to change, and how much did in each run."""
    found: dict[str, tuple[bool, list[float]]] = {}
    for probe in (p for run in runs for p in run.probed("invariance")):
        found.setdefault(probe["transformation"], (probe["claimed"], []))[1].append(probe["change"])
    return found


def charts(group: Group) -> list[Chart]:
    """The largest change by transformation and norm."""
    lines = []
    for norm in group.norms:
        found = measured(group.of(norm=norm))
        lines.append(Line(norm, group.kind(norm), group.variant(norm), list(found),
                          [max(changes) for _, changes in found.values()]))
    return [Chart("invariance", "Change of the output", "Largest over seeds, of the outputs' size, in double precision "
                  "with eps = 1e-12.", [Panel("change", "transformation", "largest change / outputs' size", lines,
                                              log_y=True, points_only=True)])]
