"""Whether sums and gradients grow or shrink from step to step: a map by cell and radius."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import fmean

from ..charts import Chart, HeatMap, Panel, Table
from ..groups import Design, Group, Quantity, Values
from .base import Experiment, Statement
from .growth import (
    BEFORE,
    SPAN,
    STAGES,
    by_update,
    first_rise,
    growth,
    leaves_float32,
    part_left,
    per_step,
    sizes,
    stretch,
)
from .lines import norm_lines
from .verdict import Finding, Verdict, higher, needs

NOTICEABLE = 1.0
"""Doublings or halvings over 200 steps; less counts as none."""
CLAIMS = {"raw": "summed inputs", "gradient": "gradients"}
CLAIM = (
    "{cell}: without a norm the {what} grow or shrink from step to step, more than with layer norm."
)
GAIN = (
    "With an initial gain of 1 the gradients of a batch-normalised tanh network vanish; with 0.1"
    " they do not."
)
CELL, RADIUS = "cell", "model.spectral_radius"
TANH_NETWORK, RELU_NETWORK = "rnn", "rnn_relu"
"""The first is the cell of the claim about the gain; for other cells it is reported only."""
PLAIN_CELLS = (TANH_NETWORK, RELU_NETWORK)
"""The cells of Pascanu et al. 2013."""
OWN, BELOW, AT, ABOVE = "initial scale", "radius below 1", "radius 1", "radius above 1"
"""Regimes: the spectral radius of W_hh at the start; the first: runs that do not set it."""
STATEMENT = Statement(
    "Without a norm the summed inputs grow or shrink from step to step, and the gradients with"
    " them; with layer norm they do not. It depends on the cell and on the initial weights.",
    "Ba, Kiros & Hinton 2016, section 3.1; on the spectral radius of W_hh: Pascanu, Mikolov &"
    " Bengio 2013, section 2; on the initial gain of batch norm: Cooijmans et al. 2016, section 4.",
    "Before training, the summed inputs (or the gradients: each gets its verdict) do not double or"
    " halve over 200 steps at least once more without a norm than with layer norm, by the slope of"
    " a line through the logarithms of the sizes at all steps. Each cell and each regime of the"
    " spectral radius is judged. On the gain: in the plain cell, from a radius"
    " of 1 as in the paper's orthogonal matrices, the gradients do not halve on the backward pass"
    " with 1, or do with 0.1.",
)


# -- regimes ---


def regime_of(radius: float | None) -> str:
    """Return the regime of a spectral radius of W_hh."""
    if radius is None:
        return OWN
    return AT if radius == 1 else BELOW if radius < 1 else ABOVE


def radii(group: Group) -> list[float | None]:
    """Return the spectral radii of the group's runs in order; None: not set."""
    return sorted(group.values(RADIUS), key=lambda radius: -1 if radius is None else radius)


def regimes(group: Group) -> dict[str, list[float | None]]:
    """Return the radii by regime."""
    found: dict[str, list[float | None]] = {}
    for radius in radii(group):
        found.setdefault(regime_of(radius), []).append(radius)
    return found


def usual_radius(group: Group) -> float | None:
    """Return the radius whose curves are shown: the one nearest to 1."""
    return min(radii(group), key=lambda radius: abs(math.log(radius or 1)), default=None)


def in_regime(
    group: Group, quantity: Quantity, cell: str, of: Sequence[float | None]
) -> dict[str, Values]:
    """Return the mean of a quantity over these radii, by norm and seed, of complete seeds."""
    parts = [group.by_norm(quantity, {CELL: cell, RADIUS: radius}) for radius in of]
    return {
        norm: {
            seed: fmean(part[norm][seed] for part in parts)
            for seed in sorted(set.intersection(*(set(part[norm]) for part in parts)))
        }
        for norm in group.norms
    }


# -- verdicts ---


def verdicts(group: Group) -> list[Verdict]:
    """Judge sums and gradients of each cell in each regime, and batch norm's initial gain."""
    found = [
        Verdict(CLAIM.format(cell=cell, what=what), _steadier(group, cell, key, what), regimes=True)
        for cell, (key, what) in product(group.values(CELL), CLAIMS.items())
    ]
    small, large = (group.variants("batch", {"norm.gain": gain}) for gain in (0.1, 1.0))
    if not small or not large:
        return [*found, Verdict(GAIN, missing=needs(["norm=batch_gain_01", "norm=batch_gain_1"]))]
    without = [] if TANH_NETWORK in group.values(CELL) else [f"cell={TANH_NETWORK}"]
    return [*found, Verdict(GAIN, _vanishing(group, large[0], small[0]), needs(without))]


def _steadier(group: Group, cell: str, key: str, what: str) -> list[Finding]:
    """Compare no norm with layer norm in each regime: by the growth, which decides before training.

    What the sums grow by until they keep their size is reported too.
    """
    none, layer = group.usual("none", "layer")
    over_all = (
        lambda stage: _size_of(growth(key, stage)),
        f"over {SPAN} steps {what} double or halve with {none} at least once more than with"
        f" {layer}",
        "doublings or halvings more",
    )
    early = (
        first_rise,
        f"from the first step with a recurrent term to the {SPAN}th after it {what} double at least"
        f" once more with {none} than with {layer}",
        "doublings more",
    )
    findings = []
    measures = [over_all, early] if key == "raw" else [over_all]
    for measure, stage, (regime, of) in product(measures, STAGES, regimes(group).items()):
        quantity_of, statement, unit = measure
        found = in_regime(group, quantity_of(stage), cell, of)
        decides = measure is over_all and stage == BEFORE
        statement = f"{cell}, {regime}, {stage}: {statement}"
        more = higher(statement, unit, found[none], found[layer], decides)
        findings.append(replace(more, above=NOTICEABLE))
    return findings


def _size_of(quantity: Quantity) -> Quantity:
    """Return the function that gives the absolute value of a quantity."""
    return lambda run: None if (found := quantity(run)) is None else abs(found)


def _vanishing(group: Group, large: str, small: str) -> list[Finding]:
    """Return whether gradients halve on the backward pass with the large gain but not the small."""
    findings = []
    unit = f"halvings in {SPAN} steps, backwards (below 0: they double)"
    for cell, stage, (regime, of) in product(group.values(CELL), STAGES, regimes(group).items()):
        found = in_regime(group, growth("gradient", stage), cell, of)
        of_large, of_small = (list(found[norm].values()) for norm in (large, small))
        what = f"{cell}, {regime}, {stage}: gradients"
        decides = stage == BEFORE and cell == TANH_NETWORK and regime in (AT, OWN)
        halve, keep = f"halve at least once with {large}", f"do not halve even once with {small}"
        more = f"{what} halve more often with {large} than with {small}"
        findings += [
            Finding(f"{what} {halve}", unit, of_large, above=NOTICEABLE, decides=decides),
            Finding(f"{what} {keep}", unit, of_small, below=NOTICEABLE, decides=decides),
            higher(more, "halvings more", found[large], found[small]),
        ]
    return findings


# -- the map ---


def heat_maps(group: Group) -> list[Chart]:
    """Return the maps of sums and gradients by radius and norm, before and after training."""
    if len(radii(group)) < 2:
        return []
    found = []
    for stage, (key, what) in product(STAGES, CLAIMS.items()):
        way = "backwards" if key == "gradient" else "forwards"
        found.append(
            Chart(
                f"map_of_{what.replace(' ', '_')}_{stage.replace(' ', '_')}",
                f"{what.capitalize()}, {stage}: the factor from step to step",
                f"{way.capitalize()} in time; geometric mean over seeds, at the longest length."
                " Above 1 (red) they explode, below 1 (blue) they vanish; colours end at 0.5 and 2."
                " rnn: the plain cell with tanh. The broken line: from this radius on the largest"
                " singular value of W_hh is above 1; below it the gradient of a plain cell without"
                " a norm must vanish (Pascanu et al. 2013).",
                [_heat_map(group, cell, key, stage, what) for cell in group.values(CELL)],
            )
        )
    return found


def _heat_map(group: Group, cell: str, key: str, stage: str, what: str) -> HeatMap:
    """Return the map of one cell."""
    rows: dict[str, dict[float, float]] = {norm: {} for norm in group.norms}
    for radius in filter(None, radii(group)):
        for norm, values in group.by_norm(
            per_step(key, stage), {CELL: cell, RADIUS: radius}
        ).items():
            rows[norm][radius] = fmean(values.values()) if values else math.nan
    stretched = list(
        group.by_norm(stretch, {CELL: cell, RADIUS: usual_radius(group)})[group.norms[0]].values()
    )
    line = (
        {"largest singular value 1": 1 / fmean(stretched)}
        if stretched and cell in PLAIN_CELLS
        else {}
    )
    return HeatMap(
        cell, "spectral radius of W_hh at the start", rows, f"factor of {what} a step", line
    )


def tables(group: Group) -> list[Table]:
    """Return which runs have sizes that float32 cannot hold, if there are any."""
    rows = []
    for cell, norm in product(group.values(CELL), group.norms):
        row = {"cell, norm": f"{cell}, {norm}"}
        for radius in radii(group):
            wanted = {CELL: cell, RADIUS: radius, "norm": norm}
            row[_radius_name(radius)] = ", ".join(_out_of_range(group, wanted)) or "–"
        if set(row.values()) - {row["cell, norm"], "–"}:
            rows.append(row)
    caption = (
        "Runs whose summed inputs, or gradients, are too large for float32 (above 3.4e38) at some"
        " step before training, or whose gradients are too small for it (below 1.2e-38)."
    )
    return [Table("Sizes that float32 cannot hold, before training", rows, caption)] if rows else []


def _radius_name(radius: float | None) -> str:
    return OWN if radius is None else f"radius {radius:g}"


def _out_of_range(group: Group, wanted: dict[str, object]) -> list[str]:
    """Return for sums and gradients how many of the runs leave float32's range, where any do."""
    parts = []
    for key, what in CLAIMS.items():
        found = group.by_seed(leaves_float32(key, BEFORE), wanted).values()
        if any(found):
            parts.append(f"{what}: {sum(found):.0f} of {len(found)}")
    return parts


# -- charts ---


def charts(group: Group) -> list[Chart]:
    """Return the maps; sums and gradients by step, growth in training, gradients by length."""
    radius = usual_radius(group)
    start = "" if radius is None else f" W_hh with a spectral radius of {radius:g} at the start."
    at_longest = "At the longest length; {} over seeds and their range." + start
    by_stage, log_y = partial(_by_stage, group, radius), partial(Panel, "", lines=[], log_y=True)
    return [
        *heat_maps(group),
        Chart(
            "gradients_by_step",
            "Gradients by step",
            at_longest.format("geometric mean"),
            by_stage(partial(sizes, key="gradient"), log_y("time step", "|d loss / d h_t|")),
        ),
        Chart(
            "sums_by_step",
            "Summed inputs by step, before any norm",
            at_longest.format("mean"),
            by_stage(
                partial(sizes, key="raw"), Panel("", "time step", "root mean square of u + z", [])
            ),
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
                    norm_lines(group, partial(by_update, key=key), {CELL: cell, RADIUS: radius}),
                )
                for cell, (key, what) in product(group.values(CELL), CLAIMS.items())
            ],
        ),
        Chart(
            "gradients_by_length",
            "Share of the gradient that reaches the first step, by length",
            "|d loss / d h_t| at the first step divided by that at the last; geometric mean over"
            " seeds and their range." + start,
            by_stage(part_left, log_y("length (time steps)", "gradient at first step / at last")),
        ),
    ]


def _by_stage(
    group: Group,
    radius: float | None,
    series: Callable[..., tuple[Sequence[float], Sequence[float]]],
    axes: Panel,
) -> list[Panel]:
    """Return a panel with these axes for each cell at each stage, with a line for each norm."""
    panels = []
    for cell, stage in product(group.values(CELL), STAGES):
        wanted = {CELL: cell, RADIUS: radius}
        lines = norm_lines(group, partial(series, stage=stage), wanted, geometric=axes.log_y)
        panels.append(replace(axes, title=f"{cell}, {stage}", lines=lines))
    return panels


EXPERIMENT = Experiment(
    "gradient_flow",
    STATEMENT,
    Design(("norm.", "cell.", RADIUS), counts_diverged=True),
    ("none", "layer"),
    verdicts,
    charts,
    tables,
)
