"""Whether summed inputs and gradients grow or shrink from step to step."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...runs.records import Group, RunRecord
from ..charts import Chart, Panel
from .lines import Series, norm_lines
from .verdict import Figures, Finding, Verdict, difference, needs

SPAN = 200
"""Steps that growth is told over."""
NOTICEABLE = 1.0
"""Doublings, or halvings, over so many steps: what is less counts as none."""
TINY = 1e-300
"""Stands for a gradient that has vanished altogether."""
BEFORE, AFTER = "at initialisation", "after training"
STAGES = {BEFORE: min, AFTER: max}
"""Which update's probes are looked at."""
CLAIMS = {
    "raw": (
        "summed inputs",
        (
            "Without a norm the summed inputs grow or shrink from step to step, more than with"
            " layer norm."
        ),
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
TANH_NETWORK = "rnn"
"""The cell that the claim about the gain is about; the others are told beside it."""
CELLS = ("lstm", TANH_NETWORK)
"""The cells that the other claims are about."""


def sizes(run: RunRecord, key: str, stage: str) -> Series:
    """(steps, sizes) at the longest length, before training or at its end. raw sums start with the
    second step.
    """
    found = at_stage(longest(run), stage)
    return _by_step(found[0], key) if found else ([], [])


def at_stage(probes: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """What was found before training, or at its end."""
    update = STAGES[stage]((p["update"] for p in probes), default=0)
    return [p for p in probes if p["update"] == update]


def longest(run: RunRecord) -> list[dict[str, Any]]:
    """What was found at the longest length, through training."""
    found = run.probed("gradient_flow")
    length = max((p["length"] for p in found), default=0)
    return [p for p in found if p["length"] == length]


def _by_step(probe: dict[str, Any], key: str) -> Series:
    first = 1 if key == "raw" else 0  # the first step's sum has no recurrent term
    return list(range(first, len(probe[key]))), probe[key][first:]


def slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """How much sizes grow in 200 steps, in doublings: the slope of their log2 over the steps. Below
    0: they shrink.

    nan where a size is not finite.
    """
    if not np.isfinite(values).all():
        return math.nan
    return SPAN * float(np.polyfit(steps, [math.log2(max(value, TINY)) for value in values], 1)[0])


def growth(key: str, stage: str) -> Callable[[RunRecord], float | None]:
    """A run's slope at the longest length."""

    def of(run: RunRecord) -> float | None:
        steps, values = sizes(run, key, stage)
        return slope(steps, values) if len(steps) > 1 else None

    return of


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Of the sums, of the gradients, and of batch norm's initial gain: before training, in each
    cell.
    """
    missing = needs(group, "none", "layer")
    if missing:
        return [Verdict(claim, missing=missing)]
    found = [
        Verdict(part, _steadier(group, key, what), _without(group, *CELLS))
        for key, (what, part) in CLAIMS.items()
    ]
    small, large = group.variants("batch", gain=0.1), group.variants("batch", gain=1.0)
    if not small or not large:
        return [*found, Verdict(GAIN, missing="needs runs with norm=batch and norm=batch_gain_1")]
    return [
        *found,
        Verdict(GAIN, _vanishing(group, large[0], small[0]), _without(group, TANH_NETWORK)),
    ]


def _without(group: Group, *cells: str) -> str:
    """Which of these cells no run of the group has."""
    absent = [cell for cell in cells if cell not in group.values("cell.kind")]
    return f"needs runs with {' and '.join(f'cell={cell}' for cell in absent)}" if absent else ""


def _steadier(group: Group, key: str, what: str) -> list[Finding]:
    """In each cell and stage: no norm's growth has to be noticeably more than layer norm's, without
    their signs.
    """
    none, layer = group.variants("none")[0], group.variants("layer")[0]
    findings = []
    for cell, stage in _places(group):
        without, normed = (
            _unsigned(group.paired(growth(key, stage), norm=n, cell__kind=cell))
            for n in (none, layer)
        )
        findings.append(
            Finding(
                f"{cell}, {stage}: over {SPAN} steps {what} double or halve with {none} at least"
                f" once more than with {layer}",
                "doublings or halvings more",
                difference(without, normed),
                above=NOTICEABLE,
                decides=stage == BEFORE,
            )
        )
    return findings


def _vanishing(group: Group, large: str, small: str) -> list[Finding]:
    """In each cell and stage: gradients have to halve on their way back with the large gain, and
    not with the small.
    """
    findings = []
    unit = f"halvings in {SPAN} steps, backwards (below 0: they double)"
    for cell, stage in _places(group):
        halvings = {
            n: group.paired(growth("gradient", stage), norm=n, cell__kind=cell)
            for n in (large, small)
        }
        where, decides = f"{cell}, {stage}", stage == BEFORE and cell == TANH_NETWORK
        findings += [
            Finding(
                f"{where}: gradients halve at least once with {large}",
                unit,
                list(halvings[large].values()),
                above=NOTICEABLE,
                decides=decides,
            ),
            Finding(
                f"{where}: gradients do not halve even once with {small}",
                unit,
                list(halvings[small].values()),
                below=NOTICEABLE,
                decides=decides,
            ),
            Finding(
                f"{where}: gradients halve more often with {large} than with {small}",
                unit,
                difference(halvings[large], halvings[small]),
                decides=False,
            ),
        ]
    return findings


def _places(group: Group) -> list[tuple[str, str]]:
    """Every cell at every stage."""
    return [(cell, stage) for cell in group.values("cell.kind") for stage in STAGES]


def _unsigned(figures: Figures) -> dict[int, float]:
    return {seed: abs(value) for seed, value in figures.items()}


def charts(group: Group) -> list[Chart]:
    """Gradients and sums by step, before and after training, in each cell; their growth through
    training, by length.
    """
    at_longest = "At the longest length; {} over seeds and their range."
    by_step = [
        Chart(
            name,
            title,
            at_longest.format("geometric mean" if log_y else "mean"),
            [
                _panel(
                    group,
                    cell,
                    stage,
                    "time step",
                    label,
                    partial(sizes, key=key, stage=stage),
                    log_y,
                )
                for cell, stage in _places(group)
            ],
        )
        for name, key, title, label, log_y in (
            ("gradients_by_step", "gradient", "Gradients by step", "|d loss / d h_t|", True),
            (
                "sums_by_step",
                "raw",
                "Summed inputs by step, before any norm",
                "root mean square of u + z",
                False,
            ),
        )
    ]
    through_training = Chart(
        "growth_in_training",
        "Growth from step to step, through training",
        at_longest.format("mean")
        + " 0: they keep their size; above 0 they grow in the direction of time, so that gradients"
        " shrink on their way back.",
        [
            _panel(
                group,
                cell,
                what,
                "update",
                f"doublings in {SPAN} steps",
                partial(by_update, key=key),
            )
            for cell in group.values("cell.kind")
            for key, (what, _) in CLAIMS.items()
        ],
    )
    by_length = Chart(
        "gradients_by_length",
        "What comes back of the gradient, by length",
        "|d loss / d h_t| at the "
        "first step as a part of that at the last one; geometric mean over seeds and their range.",
        [
            _panel(
                group,
                cell,
                stage,
                "length (time steps)",
                "gradient at first step / at last",
                partial(part_left, stage=stage),
                True,
            )
            for cell, stage in _places(group)
        ],
    )
    return [*by_step, through_training, by_length]


def _panel(
    group: Group,
    cell: str,
    what: str,
    x_label: str,
    y_label: str,
    series: Callable[[RunRecord], Series],
    log_y: bool = False,
) -> Panel:
    """A line a norm, of one cell."""
    return Panel(
        f"{cell}, {what}",
        x_label,
        y_label,
        norm_lines(group, series, geometric=log_y, cell__kind=cell),
        log_y=log_y,
    )


def by_update(run: RunRecord, key: str) -> Series:
    """(updates, growth) at the longest length."""
    found = {p["update"]: _by_step(p, key) for p in longest(run)}
    return list(found), [slope(*series) for series in found.values()]


def part_left(run: RunRecord, stage: str) -> Series:
    """(lengths, the gradient at the first step over that at the last)."""
    found = at_stage(run.probed("gradient_flow"), stage)
    return [p["length"] for p in found], [p["gradient"][0] / p["gradient"][-1] for p in found]
