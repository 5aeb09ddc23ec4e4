"""Over how wide a range of learning rates, first weights and depths each norm trains well."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from ...runs.records import RunRecord
from ..charts import Chart, HeatMap, Line, Panel, Table
from ..groups import RATE, Design, Group, Values, valid_loss
from .base import Experiment, Statement
from .cases import Case, usual
from .cases import cases as cases_of
from .convergence import LOSS_LABEL
from .lines import mean_and_range
from .verdict import Finding, Verdict, higher, lower

TOLERANCE = 0.05
"""A loss of at most 5% above the norm's own best one counts as good."""
BESIDE_ALL = 0.10
"""A loss of at most 10% above the best one of all norms counts as good beside them."""
SCALE, LAYERS, CLIP = "model.init_scale", "model.encoder_layers", "optimizer.clip_norm"
AXES = (SCALE, LAYERS, CLIP)
"""The settings of which a case changes one."""
Losses = dict[float, float]
"""A number -> the loss with it; infinite where the run diverged."""
STATEMENT = Statement(
    "Normalised cells train well over a wider range of learning rates, scales of the first weights,"
    " and depths.",
    "Ba, Kiros & Hinton 2016, section 5 (a norm's invariances limit the effect of the weights'"
    " scale on learning); as practical advice for recurrent translators: Chen et al. 2018,"
    " arXiv:1804.09849.",
    "The range of learning rates, or of scales, in which the validation loss stays within 5% of the"
    " norm's own best is not wider with layer norm than without a norm; or the loss of a deeper"
    " model rises more. Each case is judged at every learning rate.",
)


# -- cases ---


def name_of(axis: str, value: Any) -> str:
    """Return a case in words."""
    if axis == SCALE:
        return f"first weights {value:g}"
    if axis == LAYERS:
        return f"{value} layers"
    return "no clipping" if value == 0 else f"clipping at {value:g}"


def cases(group: Group) -> list[Case]:
    """Return the usual case and those that differ from it in one setting and have runs."""
    return cases_of(group.runs, AXES, name_of)


def along(group: Group, axis: str) -> dict[Any, Case]:
    """Return the cases by their value of an axis, in order; the other axes have usual values."""
    found = {case.wanted[axis]: case for case in cases(group) if case.changed in (None, axis)}
    return dict(sorted(found.items()))


# -- losses ---


def guessing(run: RunRecord) -> float:
    """Return the loss (nats a piece) of taking every piece of the vocabulary for equally likely."""
    return math.log(run.settings["tokenizer.vocab_size"])


def loss_of(run: RunRecord) -> float:
    """Return a run's validation loss; infinite if it diverged: stopped, or worse than guessing."""
    loss = valid_loss(run)
    held = loss is not None and math.isfinite(loss) and loss <= guessing(run)
    return float(loss) if held and loss is not None else math.inf


def by_rate(group: Group, norm: str, case: Case) -> dict[int, Losses]:
    """Return by seed the loss at each learning rate."""
    found: dict[int, Losses] = {}
    for run in group.where({**case.wanted, "norm": norm}):
        found.setdefault(run.seed, {})[run.settings[RATE]] = loss_of(run)
    return {seed: dict(sorted(losses.items())) for seed, losses in found.items()}


def best(losses: Losses) -> float:
    """Return the lowest loss."""
    return min(losses.values())


def width(losses: Losses, limit: float | None = None) -> float:
    """Return the range around the best loss in which losses are below a limit, in doublings.

    Without a limit it is 5% above this best loss. Between two numbers log(loss) is a line over
    their logarithms; it ends before a run that diverged, and with the numbers that were tried. 0
    if all diverged, or the best loss is above the limit.
    """
    points = [(math.log2(x), loss) for x, loss in sorted(losses.items())]
    least = best(losses)
    limit = (1 + TOLERANCE) * least if limit is None else limit
    if not math.isfinite(least) or least > limit:
        return 0.0
    middle = next(i for i, (_, loss) in enumerate(points) if loss == least)
    return _reach(points[middle:], limit) + _reach(points[middle::-1], limit)


def _reach(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Return how far one can go from the first of these points until the loss exceeds a limit."""
    end = points[0][0]
    for (x, loss), (next_x, next_loss) in pairwise(points):
        if next_loss > limit:
            if math.isfinite(next_loss):
                end += (next_x - x) * math.log(limit / loss) / math.log(next_loss / loss)
            break
        end = next_x
    return abs(end - points[0][0])


def widths(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the range of good learning rates, in doublings."""
    return {seed: width(losses) for seed, losses in by_rate(group, norm, case).items()}


def widths_beside_all(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the range of rates that are good beside the best of all norms, in doublings.

    What has learnt nothing at any rate has a wide range around its own best loss; here it has none.
    """
    by_norm = {name: by_rate(group, name, case) for name in group.norms}
    return {
        seed: width(losses, (1 + BESIDE_ALL) * _least(by_norm, seed))
        for seed, losses in by_norm[norm].items()
    }


def _least(by_norm: Mapping[str, Mapping[int, Losses]], seed: int) -> float:
    """Return the lowest loss of a seed's runs of all norms."""
    return min(best(found[seed]) for found in by_norm.values() if seed in found)


def best_losses(group: Group, norm: str, case: Case) -> Values:
    """Return by seed the loss at the best learning rate, where not all diverged."""
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

    A seed whose runs of one of these depths all diverged has none.
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
            "Layer norm trains well from a wider range of scales of the first weights.",
            _compared(group, _of_scales),
            "" if len(along(group, SCALE)) > 1 else f"needs runs with several {SCALE}",
        ),
        Verdict(
            "With layer norm the loss of a deeper model rises less.",
            _compared(group, _of_depths),
            "" if len(along(group, LAYERS)) > 1 else f"needs runs with several {LAYERS}",
        ),
    ]


def _compared(group: Group, findings: Any) -> list[Finding]:
    """Return the findings of each norm beside no norm."""
    none, layer = group.usual("none", "layer")
    return [
        finding
        for norm in group.norms
        if norm != none
        for finding in findings(group, norm, none, norm == layer)
    ]


def _of_rates(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    """Compare ranges, and report two more things: the range of what has not learnt means little."""
    ranges = [
        higher(
            f"{case.name}: {norm} has a wider range of good learning rates than {none}",
            "doublings of the rate more",
            widths(group, norm, case),
            widths(group, none, case),
            decides,
        )
        for case in cases(group)
    ]
    beside_all = [
        higher(
            f"{case.name}: {norm} has a wider range of rates within {BESIDE_ALL:.0%} of the best"
            f" loss of all norms than {none}",
            "doublings of the rate more",
            widths_beside_all(group, norm, case),
            widths_beside_all(group, none, case),
        )
        for case in cases(group)
    ]
    losses = [
        lower(
            f"{case.name}: {norm} has a lower loss than {none}, each at its best learning rate",
            "nats a token",
            best_losses(group, norm, case),
            best_losses(group, none, case),
        )
        for case in cases(group)
    ]
    return ranges + beside_all + losses


def _of_scales(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    own, other = (
        {seed: width(losses) for seed, losses in best_along(group, name, SCALE).items()}
        for name in (norm, none)
    )
    what = f"{norm} has a wider range of good scales than {none}, each at its best learning rate"
    return [higher(what, "doublings of the scale more", own, other, decides)]


def _of_depths(group: Group, norm: str, none: str, decides: bool) -> list[Finding]:
    base = usual(group.runs, AXES)[LAYERS]
    return [
        lower(
            f"with {layers} layers instead of {base} the loss of {norm} rises less than that of"
            f" {none}, each at its best learning rate",
            "doublings of the loss",
            rises(group, norm, layers),
            rises(group, none, layers),
            decides,
        )
        for layers in along(group, LAYERS)
        if layers > base
    ]


# -- tables and charts ---


def tables(group: Group) -> list[Table]:
    """Return for each norm and case the best loss, the range of good rates, and diverged runs."""
    rows = [
        {"norm": norm, **{case.name: _summary(group, norm, case) for case in cases(group)}}
        for norm in group.norms
    ]
    caption = (
        "Mean over seeds of the lowest validation loss (nats a token) of all learning rates, the"
        " range of rates within 5% of it as a factor, in brackets the range within 10% of the best"
        " loss of all norms (×1: at most one rate), and how many runs diverged: they were stopped,"
        " or ended worse than guessing."
    )
    return [Table("The best loss, and the range of good learning rates", rows, caption)]


def _summary(group: Group, norm: str, case: Case) -> str:
    found = by_rate(group, norm, case).values()
    every = [loss for losses in found for loss in losses.values()]
    if not every:
        return "–"
    lowest, diverged = [best(losses) for losses in found], sum(map(math.isinf, every))
    ended = f"; {diverged} of {len(every)} diverged" if diverged else ""
    own, beside = (
        2 ** fmean(of.values())
        for of in (widths(group, norm, case), widths_beside_all(group, norm, case))
    )
    return f"{fmean(lowest):.3g}, ×{own:.3g} (×{beside:.3g}){ended}"


def charts(group: Group) -> list[Chart]:
    """Return the loss by learning rate in each case: as a map, and as curves."""
    found = cases(group)
    return [
        Chart(
            "map_of_losses",
            "Validation loss by learning rate, beside the best of all norms",
            "Geometric mean over seeds of the loss over the lowest that any norm and rate of the"
            " case reach. – : a run diverged.",
            [_map(group, case) for case in found],
        ),
        Chart(
            "loss_by_rate",
            "Validation loss by learning rate",
            "Mean over seeds and their range. A rate at which a run diverged has no point.",
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
