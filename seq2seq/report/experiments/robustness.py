"""Over how wide a range of learning rates, initial weights and depths each norm trains well."""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from ...shown import counted
from ..charts import Chart, HeatMap, Line, Panel, Table
from ..groups import RATE, Design, Group, Values
from .base import Experiment, Statement
from .cases import Case, usual
from .cases import cases as cases_of
from .convergence import LOSS_LABEL
from .lines import mean_and_range
from .ranges import Losses, best, loss_of, width
from .verdict import Finding, Verdict, higher, lower

TOLERANCE = 0.10
"""A loss of at most 10% above the best one of all norms counts as good."""
BESIDE_OWN = 0.05
"""A loss of at most 5% above the norm's own best one counts as good compared with that."""
SCALE, LAYERS, CLIP = "model.init_scale", "model.encoder_layers", "optimizer.clip_norm"
AXES = (SCALE, LAYERS, CLIP)
"""The settings of which a case changes one."""
STATEMENT = Statement(
    "Normalised cells train well over a wider range of learning rates, scales of the initial"
    " weights, and depths.",
    "Ba, Kiros & Hinton 2016, section 5 (a norm's invariances limit the effect of the weights'"
    " scale on learning); as practical advice for recurrent translators: Chen et al. 2018,"
    " arXiv:1804.09849.",
    "The range of learning rates, or of scales, in which the validation loss stays within 10% of"
    " the best of all norms is not wider with layer norm than without a norm; or the loss of a"
    " deeper model is not lower. Each case is judged at every learning rate.",
)


# -- cases ---


def name_of(axis: str, value: Any) -> str:
    """Return a case in words."""
    if axis == SCALE:
        return f"initial weights {value:g}"
    if axis == LAYERS:
        return counted(value, "layer")
    return "no clipping" if value == 0 else f"clipping at {value:g}"


def cases(group: Group) -> list[Case]:
    """Return the usual case and those that differ from it in one setting and have runs."""
    return cases_of(group.runs, AXES, name_of)


def along(group: Group, axis: str) -> dict[Any, Case]:
    """Return the cases by their value of an axis, in order; the other axes have usual values."""
    found = {case.wanted[axis]: case for case in cases(group) if case.changed in (None, axis)}
    return dict(sorted(found.items()))


# -- losses ---


def by_rate(group: Group, norm: str, case: Case) -> dict[int, Losses]:
    """Return by seed the loss at each learning rate that all norms have run with this seed.

    A rate that one norm lacks would make its range narrower, and its best loss worse, by chance. A
    rate of 0, which trains nothing, is at no distance from others.
    """
    runs = [run for run in group.where(case.wanted) if run.settings[RATE] > 0]
    rates: dict[int, dict[str, set[float]]] = {}
    for run in runs:
        rates.setdefault(run.seed, {}).setdefault(run.norm, set()).add(run.settings[RATE])
    common = {seed: set.intersection(*of_norms.values()) for seed, of_norms in rates.items()}
    found: dict[int, Losses] = {}
    for run in sorted(runs, key=lambda run: float(run.settings[RATE])):
        if run.norm == norm and run.settings[RATE] in common[run.seed]:
            found.setdefault(run.seed, {})[run.settings[RATE]] = loss_of(run)
    return dict(sorted(found.items()))


def limits(by_norm: Mapping[str, Mapping[int, Losses]]) -> dict[int, float]:
    """Return by seed the highest loss that is good: 10% above the best of all norms."""
    lowest: dict[int, float] = {}
    for found in by_norm.values():
        for seed, losses in found.items():
            lowest[seed] = min(best(losses), lowest.get(seed, math.inf))
    return {seed: (1 + TOLERANCE) * loss for seed, loss in lowest.items()}


def widths(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the range of learning rates that are good, in doublings."""
    return _good({name: by_rate(group, name, case) for name in group.norms}, norm)


def own_widths(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the range of rates within 5% of the norm's own best loss, in doublings.

    The worse this loss, the wider the range: it says nothing where nothing has been learnt.
    """
    found = by_rate(group, norm, case)
    return {seed: width(losses, (1 + BESIDE_OWN) * best(losses)) for seed, losses in found.items()}


def widths_of_scales(group: Group, norm: str) -> Values:
    """Return by seed the range of good scales of the initial weights, in doublings."""
    return _good({name: best_along(group, name, SCALE) for name in group.norms}, norm)


def _good(by_norm: Mapping[str, Mapping[int, Losses]], norm: str) -> Values:
    """Return by seed the range in which a norm's losses are good compared with all norms'."""
    good = limits(by_norm)
    return {seed: width(losses, good[seed]) for seed, losses in by_norm[norm].items()}


def best_losses(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the loss at the best learning rate, where one learnt."""
    found = {seed: best(losses) for seed, losses in by_rate(group, norm, case).items()}
    return {seed: loss for seed, loss in found.items() if math.isfinite(loss)}


def best_along(group: Group, norm: str, axis: str) -> dict[int, Losses]:
    """Return by seed, if complete, the loss at the best learning rate for each value of an axis."""
    by_case = {value: by_rate(group, norm, case) for value, case in along(group, axis).items()}
    seeds = set.intersection(*(set(found) for found in by_case.values()))
    return {
        seed: {value: best(found[seed]) for value, found in by_case.items()}
        for seed in sorted(seeds)
    }


def rises(group: Group, norm: str, value: int) -> Values:
    """Return by seed log2 of the best loss with so many layers over that of the usual depth.

    A seed of which no run of one of these depths learnt has none.
    """
    found, base = best_along(group, norm, LAYERS), usual(group.runs, AXES)[LAYERS]
    return {
        seed: math.log2(losses[value] / losses[base])
        for seed, losses in found.items()
        if math.isfinite(losses[base]) and math.isfinite(losses.get(value, math.inf))
    }


# -- verdicts ---


def verdicts(group: Group) -> list[Verdict]:
    """Compare each norm with no norm: rates in each case, scales, depths; layer norm decides."""
    return [
        Verdict(
            "Layer norm trains well over a wider range of learning rates than no norm.",
            _compared(group, _of_rates),
            regimes=True,
        ),
        Verdict(
            "Layer norm trains well from a wider range of scales of the initial weights.",
            _compared(group, _of_scales),
            "" if len(along(group, SCALE)) > 1 else f"needs runs with several {SCALE}",
        ),
        Verdict(
            "With layer norm a deeper model ends with a lower loss.",
            _compared(group, _of_depths),
            "" if len(along(group, LAYERS)) > 1 else f"needs runs with several {LAYERS}",
        ),
    ]


def _compared(group: Group, findings: Any) -> list[Finding]:
    """Return the findings of each norm compared with no norm."""
    none, layer = group.usual("none", "layer")
    return [
        finding
        for norm in group.norms
        if norm != none
        for finding in findings(group, norm, none, norm == layer)
    ]


def _of_rates(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    """Compare ranges; report the best losses, and the ranges around the norms' own best ones."""
    findings = []
    for case in cases(group):
        unit, best_rates = "doublings of the rate more", "each at its best learning rate"
        own, other = (widths(group, name, case) for name in (norm, none))
        wider = f"{case.name}: {norm} has a wider range of good learning rates than {none}"
        findings.append(higher(wider, unit, own, other, decides))
        own, other = (own_widths(group, name, case) for name in (norm, none))
        wider = f"{case.name}: {norm} stays within {BESIDE_OWN:.0%} of its own best loss for more"
        findings.append(higher(f"{wider} learning rates than {none} of its own", unit, own, other))
        own, other = (best_losses(group, name, case) for name in (norm, none))
        ends = f"{case.name}: {norm} has a lower loss than {none}, {best_rates}"
        findings.append(lower(ends, "nats a token", own, other))
    return findings


def _of_scales(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    own, other = (widths_of_scales(group, name) for name in (norm, none))
    what = f"{norm} has a wider range of good scales than {none}, each at its best learning rate"
    return [higher(what, "doublings of the scale more", own, other, decides)]


def _of_depths(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    """Compare the losses of deeper models; report how much more they are than the usual depth's."""
    base = usual(group.runs, AXES)[LAYERS]
    findings = []
    for layers, case in along(group, LAYERS).items():
        if layers <= base:
            continue
        best_ones = "each at its best learning rate"
        findings += [
            lower(
                f"with {layers} layers {norm} has a lower loss than {none}, {best_ones}",
                "nats a token",
                best_losses(group, norm, case),
                best_losses(group, none, case),
                decides,
            ),
            lower(
                f"with {layers} layers instead of {base} the loss of {norm} rises less than that"
                f" of {none}, {best_ones}",
                "doublings of the loss",
                rises(group, norm, layers),
                rises(group, none, layers),
            ),
        ]
    return findings


# -- tables and charts ---


def tables(group: Group) -> list[Table]:
    """Return for each norm and case the best loss, the range of good rates, and diverged runs."""
    rows = [
        {"norm": norm, **{case.name: _summary(group, norm, case) for case in cases(group)}}
        for norm in group.norms
    ]
    caption = (
        "Mean over seeds of the lowest validation loss (nats a token) of all learning rates; the"
        " range of good rates as a factor, within 10% of the best loss of all norms (×1: at most"
        " one rate), and in brackets within 5% of the norm's own best; how many runs did not learn:"
        " they were stopped because loss or probabilities were not finite, or ended worse than"
        " guessing. Of each seed only those rates count at which every norm has a run."
    )
    return [Table("The best loss, and the range of good learning rates", rows, caption)]


def _summary(group: Group, norm: str, case: Case) -> str:
    found = by_rate(group, norm, case).values()
    every = [loss for losses in found for loss in losses.values()]
    if not every:
        return "–"
    lowest, unlearnt = [best(losses) for losses in found], sum(map(math.isinf, every))
    ended = f"; {unlearnt} of {len(every)} did not learn" if unlearnt else ""
    good, own = (2 ** fmean(of(group, norm, case).values()) for of in (widths, own_widths))
    return f"{fmean(lowest):.3g}, ×{good:.3g} (×{own:.3g}){ended}"


def charts(group: Group) -> list[Chart]:
    """Return the loss by learning rate in each case: as a map, and as curves."""
    found = cases(group)
    return [
        Chart(
            "map_of_losses",
            "Validation loss by learning rate, compared with the best of all norms",
            "Geometric mean over seeds of the loss over the lowest that any norm and rate of the"
            " case reach, so a colour means another loss in each panel. – : at least one run did"
            " not learn.",
            [_map(group, case) for case in found],
        ),
        Chart(
            "loss_by_rate",
            "Validation loss by learning rate",
            "Mean over seeds and their range. A rate at which a run did not learn has no point.",
            [
                Panel(case.name, "learning rate", LOSS_LABEL, _lines(group, case), log_x=True)
                for case in found
            ],
        ),
    ]


def _means(group: Group, norm: str, case: Case) -> dict[float, list[float]]:
    """Return the losses of all seeds by rate."""
    found: dict[float, list[float]] = {}
    for losses in by_rate(group, norm, case).values():
        for rate, loss in losses.items():
            found.setdefault(rate, []).append(loss)
    return found


def _map(group: Group, case: Case) -> HeatMap:
    """Return the map of one case."""
    logs = {
        norm: {
            rate: fmean(map(math.log2, losses))
            for rate, losses in _means(group, norm, case).items()
        }
        for norm in group.norms
    }
    least = min((v for row in logs.values() for v in row.values()), default=math.inf)
    rows = {
        norm: {
            rate: value - least if math.isfinite(value) else math.nan for rate, value in row.items()
        }
        for norm, row in logs.items()
    }
    return HeatMap(case.name, "learning rate", rows, "loss over the best")


def _lines(group: Group, case: Case) -> list[Line]:
    lines = []
    for norm in group.norms:
        known = {
            rate: losses
            for rate, losses in sorted(_means(group, norm, case).items())
            if all(map(math.isfinite, losses))
        }
        lines.append(mean_and_range(norm, group.kind(norm), group.variant(norm), known))
    return [line for line in lines if line.x]


EXPERIMENT = Experiment(
    "robustness",
    STATEMENT,
    Design(
        ("norm.", RATE, *AXES), ("model.decoder_layers", "model.residual"), counts_diverged=True
    ),
    ("none", "layer"),
    verdicts,
    charts,
    tables,
)
