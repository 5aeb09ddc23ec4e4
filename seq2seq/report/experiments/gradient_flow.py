"""Whether summed inputs and gradients grow or shrink from step to step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from ...runs.entries import GradientFlow
from ...runs.records import RunRecord
from ..charts import Chart, Panel
from ..groups import Design, Group, Quantity
from .base import Experiment, Statement
from .lines import Series, norm_lines
from .verdict import Finding, Verdict, higher, needs

SPAN = 200
"""Steps over which growth is given."""
NOTICEABLE = 1.0
"""Doublings or halvings over this span; less counts as none."""
TINY = 1e-300
"""Replaces a gradient that has vanished to 0."""
BEFORE, AFTER = "at initialisation", "after training"
STAGES = {BEFORE: min, AFTER: max}
"""Stage -> which update it is."""
CLAIMS = {
    "raw": (
        "summed inputs",
        "Without a norm the summed inputs grow or shrink from step to step, more than with layer"
        " norm.",
    ),
    "gradient": (
        "gradients",
        "Without a norm the gradients grow or shrink from step to step, more than with layer norm.",
    ),
}
GAIN = (
    "With an initial gain of 1 the gradients of a batch-normalised tanh network vanish; with 0.1"
    " they do not."
)
CELL = "cell.kind"
TANH_NETWORK = "rnn"
"""The cell of the claim about the gain; for other cells it is reported only."""
CELLS = ("lstm", TANH_NETWORK)
"""The cells of the other claims."""
STATEMENT = Statement(
    "Without a norm the summed inputs grow or shrink from step to step, and the gradients with"
    " them.",
    "Ba, Kiros & Hinton 2016, section 3.1; on the initial gain of batch norm: Cooijmans et al."
    " 2016, section 4.",
    "Before training, in the LSTM or in the plain cell, the summed inputs (or the gradients: each"
    " gets its verdict) do not double or halve over 200 steps at least once more without a norm"
    " than with layer norm. On the gain: in the plain cell the gradients do not halve on the"
    " backward pass with 1, or do with 0.1.",
)


# -- growth of one run ---


def longest(run: RunRecord) -> list[GradientFlow]:
    """Return what was measured at the longest length, through training."""
    found = run.probed(GradientFlow)
    length = max((p.length for p in found), default=0)
    return [p for p in found if p.length == length]


def at_stage(probes: list[GradientFlow], stage: str) -> list[GradientFlow]:
    """Return what was measured before or after training."""
    update = STAGES[stage]((p.update for p in probes), default=0)
    return [p for p in probes if p.update == update]


def by_step(probe: GradientFlow, key: str) -> Series:
    """Return (steps, sizes); the first step's sum is left out, as it has no recurrent term."""
    first = 1 if key == "raw" else 0
    values = getattr(probe, key)
    return list(range(first, len(values))), values[first:]


def sizes(run: RunRecord, key: str, stage: str) -> Series:
    """Return (steps, sizes) at the longest length."""
    found = at_stage(longest(run), stage)
    return by_step(found[0], key) if found else ([], [])


def slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """Return the growth over 200 steps in doublings: the slope of a line through log2 of the sizes.

    It is negative where sizes shrink, and nan where one is not finite.
    """
    if not np.isfinite(values).all():
        return math.nan
    return SPAN * float(np.polyfit(steps, [math.log2(max(value, TINY)) for value in values], 1)[0])


def growth(key: str, stage: str) -> Quantity:
    """Return the function that gives a run's growth at the longest length."""

    def of(run: RunRecord) -> float | None:
        steps, values = sizes(run, key, stage)
        return slope(steps, values) if len(steps) > 1 else None

    return of


def by_update(run: RunRecord, key: str) -> Series:
    """Return (updates, growth) at the longest length."""
    found = {p.update: slope(*by_step(p, key)) for p in longest(run)}
    return list(found), list(found.values())


def part_left(run: RunRecord, stage: str) -> Series:
    """Return (lengths, the gradient at the first step over that at the last)."""
    found = at_stage(run.probed(GradientFlow), stage)
    return [p.length for p in found], [p.gradient[0] / p.gradient[-1] for p in found]


# -- verdicts ---


def verdicts(group: Group) -> list[Verdict]:
    """Judge the sums, the gradients, and batch norm's initial gain, before training."""
    found = [
        Verdict(claim, _steadier(group, key, what), _without(group, CELLS))
        for key, (what, claim) in CLAIMS.items()
    ]
    small, large = (group.variants("batch", {"norm.gain": gain}) for gain in (0.1, 1.0))
    if not small or not large:
        return [*found, Verdict(GAIN, missing=needs(["norm=batch", "norm=batch_gain_1"]))]
    vanishing = _vanishing(group, large[0], small[0])
    return [*found, Verdict(GAIN, vanishing, _without(group, [TANH_NETWORK]))]


def _without(group: Group, cells: Sequence[str]) -> str:
    """Return which of these cells no run of the group has, as text."""
    return needs([f"cell={cell}" for cell in cells if cell not in group.values(CELL)])


def _places(group: Group) -> list[tuple[str, str]]:
    """Return every cell at every stage."""
    return list(product(group.values(CELL), STAGES))


def _steadier(group: Group, key: str, what: str) -> list[Finding]:
    """Compare the size of the growth without a norm and with layer norm."""
    none, layer = group.usual("none", "layer")
    findings = []
    for cell, stage in _places(group):
        found = group.by_norm(growth(key, stage), {CELL: cell})
        size = {norm: {seed: abs(v) for seed, v in found[norm].items()} for norm in (none, layer)}
        statement = (
            f"{cell}, {stage}: over {SPAN} steps {what} double or halve with {none} at least once"
            f" more than with {layer}"
        )
        more = higher(
            statement, "doublings or halvings more", size[none], size[layer], stage == BEFORE
        )
        findings.append(replace(more, above=NOTICEABLE))
    return findings


def _vanishing(group: Group, large: str, small: str) -> list[Finding]:
    """Return whether gradients halve on the backward pass with the large gain but not the small."""
    findings = []
    unit = f"halvings in {SPAN} steps, backwards (below 0: they double)"
    for cell, stage in _places(group):
        found = group.by_norm(growth("gradient", stage), {CELL: cell})
        of_large, of_small = (list(found[norm].values()) for norm in (large, small))
        what, decides = f"{cell}, {stage}: gradients", stage == BEFORE and cell == TANH_NETWORK
        halve, keep = f"halve at least once with {large}", f"do not halve even once with {small}"
        more = f"{what} halve more often with {large} than with {small}"
        findings += [
            Finding(f"{what} {halve}", unit, of_large, above=NOTICEABLE, decides=decides),
            Finding(f"{what} {keep}", unit, of_small, below=NOTICEABLE, decides=decides),
            higher(more, unit, found[large], found[small]),
        ]
    return findings


# -- charts ---


def charts(group: Group) -> list[Chart]:
    """Return gradients and sums by step and stage; their growth through training and by length."""
    at_longest = "At the longest length; {} over seeds and their range."
    return [
        Chart(
            "gradients_by_step",
            "Gradients by step",
            at_longest.format("geometric mean"),
            _by_stage(group, partial(sizes, key="gradient"), "time step", "|d loss / d h_t|", True),
        ),
        Chart(
            "sums_by_step",
            "Summed inputs by step, before any norm",
            at_longest.format("mean"),
            _by_stage(group, partial(sizes, key="raw"), "time step", "root mean square of u + z"),
        ),
        Chart(
            "growth_in_training",
            "Growth from step to step, through training",
            at_longest.format("mean") + " 0: sizes stay the same. Above 0: they grow in the"
            " direction of time, so that gradients shrink on the backward pass.",
            [
                Panel(
                    f"{cell}, {what}",
                    "update",
                    f"doublings in {SPAN} steps",
                    norm_lines(group, partial(by_update, key=key), {CELL: cell}),
                )
                for cell, (key, (what, _)) in product(group.values(CELL), CLAIMS.items())
            ],
        ),
        Chart(
            "gradients_by_length",
            "Share of the gradient that reaches the first step, by length",
            "|d loss / d h_t| at the first step divided by that at the last; geometric mean over"
            " seeds and their range.",
            _by_stage(
                group, part_left, "length (time steps)", "gradient at first step / at last", True
            ),
        ),
    ]


def _by_stage(
    group: Group, series: Callable[..., Series], x_label: str, y_label: str, log_y: bool = False
) -> list[Panel]:
    """Return a panel for each cell at each stage, with a line for each norm."""
    panels = []
    for cell, stage in _places(group):
        lines = norm_lines(group, partial(series, stage=stage), {CELL: cell}, geometric=log_y)
        panels.append(Panel(f"{cell}, {stage}", x_label, y_label, lines, log_y=log_y))
    return panels


EXPERIMENT = Experiment(
    "gradient_flow",
    STATEMENT,
    Design(("norm.", CELL)),
    ("none", "layer"),
    verdicts,
    charts,
)
