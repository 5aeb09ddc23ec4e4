"""Which changes to weights and data leave a layer's output alone, against the papers' tables."""

import numpy as np

from ...runs.entries import Invariance
from ...runs.records import RunRecord
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
Transformations = dict[str, tuple[bool, list[float]]]
"""transformation -> (whether the papers say that nothing changes, the change in each run)"""


def verdicts(group: Group) -> list[Verdict]:
    """Compare every change with the tables, for every norm and run."""
    findings = [_finding(norm, measured(group.where({"norm": norm}))) for norm in group.norms]
    return [Verdict(STATEMENT.claim, findings, absent(group, ("batch", "layer", "rms")))]


def _finding(norm: str, found: Transformations) -> Finding:
    """Return whether all runs of a norm agree with the tables."""
    if not found:
        statement = f"{norm}: changes to weights and data do what the table says"
        return Finding(statement, detail="no run of it has probe.kinds=[invariance]")
    wrong = [  # also where a change is not a number
        name
        for name, (claimed, changes) in found.items()
        if not all(c <= UNCHANGED if claimed else c >= CHANGED for c in changes)
    ]
    kept = [np.max(changes) for claimed, changes in found.values() if claimed]
    moved = [np.min(changes) for claimed, changes in found.values() if not claimed]
    details = []
    if kept:
        details.append(
            f"the {len(kept)} that should leave the output alone change it by at most"
            f" {np.max(kept):.2g} times its size"
        )
    if moved:
        details.append(
            f"the {len(moved)} that should change the output do so by at least"
            f" {np.min(moved):.2g} times its size"
        )
    if wrong:
        details.append(f"not as the table says: {', '.join(wrong)}")
    return Finding(
        f"{norm}: all {len(found)} changes to weights and data do what the table says",
        exact=Outcome.refuted if wrong else Outcome.supported,
        detail="; ".join(details),
    )


def tables(group: Group) -> list[Table]:
    """Return for each change and norm what the papers say, and how much the output changed."""
    by_norm = {norm: measured(group.where({"norm": norm})) for norm in group.norms}
    known = {norm: found for norm, found in by_norm.items() if found}
    rows = [
        {"change": f"{name}: {what}", **{norm: _cell(found, name) for norm, found in known.items()}}
        for name, what in CHANGES.items()
    ]
    caption = (
        "same: the papers' tables say that the output stays the same; in brackets the largest"
        " change over seeds, relative to the outputs' size. changes: they say that it changes; in"
        " brackets the smallest change."
    )
    title = "What the tables say, and the change that was measured"
    return [Table(title, rows, caption)] if known else []


def _cell(found: Transformations, name: str) -> str:
    """Return a cell such as "same (8e-10)"."""
    if name not in found:
        return "–"
    claimed, changes = found[name]
    return f"same ({np.max(changes):.1g})" if claimed else f"changes ({np.min(changes):.2g})"


def measured(runs: list[RunRecord]) -> Transformations:
    """Return what the probes of these runs have measured."""
    found: Transformations = {}
    for p in (p for run in runs for p in run.probed(Invariance)):
        found.setdefault(p.transformation, (p.claimed, []))[1].append(p.change)
    return found


def charts(group: Group) -> list[Chart]:
    """Return the largest change by transformation and norm."""
    lines = []
    for norm in group.norms:
        found = measured(group.where({"norm": norm}))
        largest = [float(np.max(changes)) for _, changes in found.values()]
        lines.append(Line(norm, group.kind(norm), group.variant(norm), list(found), largest))
    label = "largest change / outputs' size"
    return [
        Chart(
            "invariance",
            "Change of the output",
            "Largest over seeds, relative to the outputs' size; double precision, eps = 1e-12.",
            [Panel("change", "transformation", label, lines, log_y=True)],
        )
    ]


EXPERIMENT = Experiment(
    "invariance",
    STATEMENT,
    Design(("norm.",)),
    (),  # it judges the norms that are there, and names the others
    verdicts,
    charts,
    tables,
)
