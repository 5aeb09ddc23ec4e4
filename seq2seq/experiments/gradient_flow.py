"""Whether summed inputs and gradients grow or shrink from step to step."""

import math
from collections.abc import Callable

import numpy as np

from ..charts import Chart, Panel
from ..records import Group, RunRecord
from .lines import Series, norm_lines
from .verdict import Figures, Finding, Verdict, difference, needs, norm_of

SPAN = 200
"""Steps that growth is told over."""
NOTICEABLE = 1.0
"""Doublings, or halvings, over so many steps: what is less counts as none."""
TINY = 1e-300
"""Stands for a gradient that has vanished altogether."""
BEFORE = "at initialisation"
STAGES = {BEFORE: 0, "after training": -1}
CLAIMS = {"raw": ("summed inputs", "Without a norm the summed inputs grow or shrink with every step."),
          "gradient": ("gradients", "Without a norm the gradients grow or shrink with every step.")}
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


def growth(key: str, stage: str) -> Callable[[RunRecord], float | None]:
    """How much a size grows in 200 steps, in doublings: the slope of its log2 over the steps. Below 0: it shrinks."""

    def of(run: RunRecord) -> float | None:
        steps, values = sizes(run, key, stage)
        if len(steps) < 2:
            return None
        return SPAN * float(np.polyfit(steps, [math.log2(max(value, TINY)) for value in values], 1)[0])

    return of


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Of the sums, of the gradients, and of batch norm's initial gain: each before training, in each cell.

    The part about batch norm's gain takes runs with both gains.
    """
    layer = norm_of(group, "layer")
    missing = needs(group, "none") or ("" if layer else "needs runs with norm=layer")
    if missing or layer is None:
        return [Verdict(claim, missing=missing)]
    found = [Verdict(part, _steadier(group, key, what, layer)) for key, (what, part) in CLAIMS.items()]
    small, large = norm_of(group, "batch", gain=0.1), norm_of(group, "batch", gain=1.0)
    if small and large:
        found.append(Verdict(GAIN, _vanishing(group, large, small)))
    return found


def _steadier(group: Group, key: str, what: str, norm: str) -> list[Finding]:
    """In each cell and stage: no norm's growth has to be noticeably more than a norm's, both without their signs."""
    findings = []
    for cell, stage in _places(group):
        none, normed = (group.paired(growth(key, stage), norm=n, cell__kind=cell) for n in ("none", norm))
        more = difference(_unsigned(none), _unsigned(normed))
        findings.append(Finding(f"{cell}, {stage}: over {SPAN} steps {what} double or halve with none at least once "
                                f"more than with {norm}", "doublings or halvings beyond that",
                                [value - NOTICEABLE for value in more], decides=stage == BEFORE))
    return findings


def _vanishing(group: Group, large: str, small: str) -> list[Finding]:
    """In each cell and stage: gradients have to shrink on their way back with the large gain, and more than with the
    small one."""
    findings = []
    for cell, stage in _places(group):
        shrinks = {n: group.paired(growth("gradient", stage), norm=n, cell__kind=cell) for n in (large, small)}
        where, unit, decides = f"{cell}, {stage}", f"halvings in {SPAN} steps, backwards", stage == BEFORE
        findings += [
            Finding(f"{where}: gradients shrink with {large}", unit, list(shrinks[large].values()), decides=decides),
            Finding(f"{where}: gradients shrink more with {large} than with {small}", unit,
                    difference(shrinks[large], shrinks[small]), decides=decides)]
    return findings


def _places(group: Group) -> list[tuple[str, str]]:
    """Every cell at every stage."""
    return [(cell, stage) for cell in group.values("cell.kind") for stage in STAGES]


def _unsigned(figures: Figures) -> dict[int, float]:
    return {seed: abs(value) for seed, value in figures.items()}


def charts(group: Group) -> list[Chart]:
    """Gradients and sums by step, before and after training, in each cell."""
    caption = "At the longest length; mean over seeds (geometric on a logarithmic axis) and their range."
    return [Chart(name, title, caption, [
        Panel(f"{cell}, {stage}", "time step", label,
              norm_lines(group, lambda run, key=key, stage=stage: sizes(run, key, stage),  # type: ignore[misc]
                         geometric=log_y, cell__kind=cell), log_y=log_y)
        for cell, stage in _places(group)])
        for name, key, title, label, log_y in (
            ("gradients_by_step", "gradient", "Gradients by step", "|d loss / d h_t|", True),
            ("sums_by_step", "raw", "Summed inputs by step, before any norm", "root mean square of u + z", False))]
