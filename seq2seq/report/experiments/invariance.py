"""What may be done to weights and data without changing a layer's output: measured beside the
papers' tables.
"""

import numpy as np

from ...runs.records import Group, RunRecord
from ..charts import Chart, Line, Panel, Table
from ..statistics import Outcome
from .verdict import Finding, Verdict, needs

UNCHANGED, CHANGED = 1e-6, 1e-2
"""Of the outputs' size: at most the first counts as no change, at least the second as one."""
CHANGES = {
    "matrix re-scaling": "all weights times a number",
    "matrix re-centring": "one vector added to the weights of every unit",
    "vector re-scaling": "the weights of one unit times a number",
    "data re-scaling": "all data times a number",
    "data re-centring": "one vector added to all data",
    "case re-scaling": "one sentence's data times a number",
}
"""The paper's name of a change, as in the chart -> what is done."""
Transformations = dict[str, tuple[bool, list[float]]]
"""transformation -> whether nothing is said to change, and how much did in each run."""


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Every norm and transformation has to be as the tables say, in every run; and every norm has
    to be there.
    """
    findings = [_finding(norm, measured(group.of(norm=norm))) for norm in group.norms]
    return [Verdict(claim, findings, needs(group, "batch", "layer", "rms"))]


def _finding(norm: str, found: Transformations) -> Finding:
    """All that one norm's runs have to say."""
    if not found:
        return Finding(
            f"{norm}: changes to weights and data do what the table says",
            "",
            [],
            detail="no run of it has probe.kinds=[invariance]",
        )
    wrong = [
        name
        for name, (claimed, changes) in found.items()
        if not all(  # nor where a change is not a number
            change <= UNCHANGED if claimed else change >= CHANGED for change in changes
        )
    ]
    kept = [np.max(changes) for claimed, changes in found.values() if claimed]
    moved = [np.min(changes) for claimed, changes in found.values() if not claimed]
    said = []
    if kept:
        said.append(
            f"the {len(kept)} that are to change nothing change the output by at most"
            f" {np.max(kept):.2g} times its size"
        )
    if moved:
        said.append(
            f"the {len(moved)} that are to change the output do so by at least {np.min(moved):.2g}"
            " times its size"
        )
    if wrong:
        said.append(f"not as the table says: {', '.join(wrong)}")
    return Finding(
        f"{norm}: all {len(found)} changes to weights and data do what the table says",
        "",
        [],
        exact=Outcome.refuted if wrong else Outcome.supported,
        detail="; ".join(said),
    )


def tables(group: Group) -> list[Table]:
    """What each change is, and for each norm what the papers say of it and how much the output
    changed.
    """
    found = {norm: changes for norm in group.norms if (changes := measured(group.of(norm=norm)))}
    if not found:
        return []
    rows = [
        {
            "change": f"{name}: {said}",
            **{
                norm: _told(*changes[name]) if name in changes else "–"
                for norm, changes in found.items()
            },
        }
        for name, said in CHANGES.items()
    ]
    return [
        Table(
            "What the tables say, and the change that was measured",
            rows,
            "same: the papers' tables say that the output stays the same; in brackets the largest"
            " change over seeds, of the outputs' size. changes: that it does not; in brackets the"
            " smallest.",
        )
    ]


def _told(claimed: bool, changes: list[float]) -> str:
    """same (8e-10)."""
    return f"same ({np.max(changes):.1g})" if claimed else f"changes ({np.min(changes):.2g})"


def measured(runs: list[RunRecord]) -> Transformations:
    """What the probes of these runs have found."""
    found: Transformations = {}
    for probe in (p for run in runs for p in run.probed("invariance")):
        found.setdefault(probe["transformation"], (probe["claimed"], []))[1].append(probe["change"])
    return found


def charts(group: Group) -> list[Chart]:
    """The largest change by transformation and norm."""
    lines = []
    for norm in group.norms:
        found = measured(group.of(norm=norm))
        lines.append(
            Line(
                norm,
                group.kind(norm),
                group.variant(norm),
                list(found),
                [float(np.max(changes)) for _, changes in found.values()],
            )
        )
    return [
        Chart(
            "invariance",
            "Change of the output",
            "Largest over seeds, of the outputs' size, in double precision with eps = 1e-12.",
            [
                Panel(
                    "change", "transformation", "largest change / outputs' size", lines, log_y=True
                )
            ],
        )
    ]
