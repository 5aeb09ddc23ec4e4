"""Which changes to weights and data leave a layer's output alone, against the papers' tables."""

from dataclasses import dataclass, field

import numpy as np

from ...runs.entries import Invariance
from ..charts import Chart, Line, Panel, Table
from ..groups import Design, Group
from ..statistics import Outcome
from .base import Experiment, Statement
from .verdict import Finding, Verdict, absent

UNCHANGED, CHANGED = 1e-6, 1e-2
"""Relative to the size of the outputs: at most the first is no change, at least the second one."""
CHANGES = {
    "matrix re-scaling": "all weights times a number",
    "matrix re-centring": "one vector added to the weights of every unit",
    "vector re-scaling": "the weights of one unit times a number",
    "data re-scaling": "all data times a number",
    "data re-centring": "one vector added to all data",
    "case re-scaling": "one sentence's data times a number",
}
"""The paper's name of a change, as in the chart -> what is done."""
STATEMENT = Statement(
    "The changes to weights and data that leave a normalised layer's output alone are those of the"
    " papers' tables.",
    "Ba, Kiros & Hinton 2016, table 1 (section 5.1); Zhang & Sennrich 2019, table 1 (rms).",
    "A change that should leave the output alone changes it by more than a millionth; or one that"
    " should change the output does so by less than a hundredth.",
)


@dataclass
class Change:
    """What one change to weights or data does to the output of a norm."""

    same: bool
    """Whether the papers say that the output stays the same."""
    sizes: list[float] = field(default_factory=list)
    """One a run, relative to the size of the outputs."""

    @property
    def worst(self) -> float:
        """The size that agrees least with the papers; nan if one is not a number."""
        return float(np.max(self.sizes) if self.same else np.min(self.sizes))

    @property
    def as_claimed(self) -> bool:
        """Whether all runs agree with the papers."""
        return self.worst <= UNCHANGED if self.same else self.worst >= CHANGED


def measured(group: Group) -> dict[str, dict[str, Change]]:
    """Return the changes that the probes have measured, by norm and by the paper's name."""
    found: dict[str, dict[str, Change]] = {}
    for norm in group.norms:
        changes = found.setdefault(norm, {})
        for p in (p for run in group.where({"norm": norm}) for p in run.probed(Invariance)):
            changes.setdefault(p.transformation, Change(p.claimed)).sizes.append(p.change)
    return found


def verdicts(group: Group) -> list[Verdict]:
    """Compare every change with the tables, for every norm and run."""
    findings = [_finding(norm, changes) for norm, changes in measured(group).items()]
    return [Verdict(STATEMENT.claim, findings, absent(group, ("batch", "layer", "rms")))]


def _finding(norm: str, changes: dict[str, Change]) -> Finding:
    """Return whether all runs of a norm agree with the tables."""
    if not changes:
        statement = f"{norm}: changes to weights and data do what the table says"
        return Finding(statement, detail="no run of it has probe.kinds=[invariance]")
    details = []
    for same, what, worst in (
        (True, "should leave the output alone change it by at most", np.max),
        (False, "should change the output do so by at least", np.min),
    ):
        if found := [change.worst for change in changes.values() if change.same is same]:
            details.append(f"the {len(found)} that {what} {worst(found):.2g} times its size")
    if wrong := [name for name, change in changes.items() if not change.as_claimed]:
        details.append(f"not as the table says: {', '.join(wrong)}")
    return Finding(
        f"{norm}: all {len(changes)} changes to weights and data do what the table says",
        exact=Outcome.refuted if wrong else Outcome.supported,
        detail="; ".join(details),
    )


def tables(group: Group) -> list[Table]:
    """Return for each change and norm what the papers say, and how much the output changed."""
    known = {norm: changes for norm, changes in measured(group).items() if changes}
    rows = [
        {"change": f"{name}: {what}"} | {n: _cell(known[n].get(name)) for n in known}
        for name, what in CHANGES.items()
    ]
    caption = (
        "same: the papers' tables say that the output stays the same; in brackets the largest"
        " change over seeds, relative to the outputs' size. changes: they say that it changes; in"
        " brackets the smallest change."
    )
    title = "What the tables say, and the change that was measured"
    return [Table(title, rows, caption)] if known else []


def _cell(change: Change | None) -> str:
    """Return a cell such as "same (8e-10)"."""
    if change is None:
        return "–"
    return f"same ({change.worst:.1g})" if change.same else f"changes ({change.worst:.2g})"


def charts(group: Group) -> list[Chart]:
    """Return the largest change by transformation and norm."""
    lines = [
        Line(
            norm,
            group.kind(norm),
            group.variant(norm),
            list(changes),
            [float(np.max(c.sizes)) for c in changes.values()],
        )
        for norm, changes in measured(group).items()
    ]
    label = "largest change / outputs' size"
    caption = "Largest over seeds, relative to the outputs' size; double precision, eps = 1e-12."
    panel = Panel("change", "transformation", label, lines, log_y=True)
    return [Chart("invariance", "Change of the output", caption, [panel])]


EXPERIMENT = Experiment(
    "invariance",
    STATEMENT,
    Design(("norm.",)),
    (),  # it judges the norms that are there, and names the others
    verdicts,
    charts,
    tables,
)
