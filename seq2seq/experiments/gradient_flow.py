"""Whether summed inputs and gradients grow or shrink from step to step."""

import math
from collections.abc import Callable

import numpy as np

from ..charts import Chart, Panel
from ..records import Group, RunRecord
from .lines import Series, norm_lines
from .verdict import Finding, Verdict, difference, needs, norm_of

TINY = 1e-300
"""Stands for a gradient that has vanished altogether."""
STAGES = {"at initialisation": 0, "after training": -1}
GAIN = "With an initial gain of 1 batch norm's gradients vanish; with 0.1 they do not."


def sizes(run: RunRecord, key: str, stage: str) -> Series:
    """(steps, sizes) at the longest length, before training or at its end. raw sums start with the second step."""
    found = run.probed("gradient_flow")
    if not found:
        return [], []
    length = max(p["length"] for p in found)
    values = [p for p in found if p["length"] == length][STAGES[stage]][key]
    first = 1 if key == "raw" else 0  # the first step's sum has no recurrent term
    return list(range(first, len(values))), values[first:]


def change(key: str, stage: str) -> Callable[[RunRecord], float | None]:
    """How much a size changes a step, in doublings or halvings: the slope of its log2 over the steps, without sign."""

    def of(run: RunRecord) -> float | None:
        steps, values = sizes(run, key, stage)
        if len(steps) < 2:
            return None
        logs = [math.log2(max(value, TINY)) for value in values]
        return abs(float(np.polyfit(steps, logs, 1)[0]))

    return of


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Of the sums, of the gradients, and of batch norm's initial gain: each before training, in each cell."""
    layer = norm_of(group, "layer")
    missing = needs(group, "none") or ("" if layer else "needs runs with norm=layer")
    if missing or layer is None:
        return [Verdict(claim, missing=missing)]
    found = [Verdict(claim, [*_findings(group, "raw", "summed inputs", "none", layer),
                             *_findings(group, "gradient", "gradients", "none", layer)])]
    small, large = norm_of(group, "batch", gain=None), norm_of(group, "batch", gain=1.0)
    if small and large:
        found.append(Verdict(GAIN, _findings(group, "gradient", "gradients", large, small)))
    return found


def _findings(group: Group, key: str, what: str, more: str, less: str) -> list[Finding]:
    """In each cell and stage; the one before training decides."""
    return [Finding(f"{cell}, {stage}: {what} change more from step to step with {more} than with {less}",
                    "doublings a step",
                    difference(group.paired(change(key, stage), norm=more, cell__kind=cell),
                               group.paired(change(key, stage), norm=less, cell__kind=cell)),
                    decides=stage == "at initialisation")
            for cell in group.values("cell.kind") for stage in STAGES]


def charts(group: Group) -> list[Chart]:
    """Gradients and sums by step, before and after training, in each cell."""
    caption = "At the longest length; geometric mean over seeds and their range."
    return [Chart(name, title, caption, [
        Panel(f"{cell}, {stage}", "time step", label,
              norm_lines(group, lambda run, key=key, stage=stage: sizes(run, key, stage),  # type: ignore[misc]
                         geometric=True, cell__kind=cell), log_y=True)
        for cell in group.values("cell.kind") for stage in STAGES])
        for name, key, title, label in (
            ("gradients_by_step", "gradient", "Gradients by step", "|d loss / d h_t|"),
            ("sums_by_step", "raw", "Summed inputs by step, before any norm", "root mean square of u + z"))]
