"""How sums and gradients of one run grow from step to step."""

import math
from collections.abc import Sequence

import numpy as np

from ...runs.entries import GradientFlow
from ...runs.records import RunRecord
from ..groups import Quantity
from .lines import Series

SPAN = 200
"""Steps over which growth is given in words."""
BEFORE, AFTER = "at initialisation", "after training"
STAGES = (BEFORE, AFTER)
SMALLEST = 5e-324
"""The smallest positive double."""
FLOAT32_MOST = float(np.finfo(np.float32).max)
FLOAT32_LEAST = float(np.finfo(np.float32).tiny)


def longest(run: RunRecord) -> list[GradientFlow]:
    """Return what was measured at the longest length, through training."""
    found = run.probed(GradientFlow)
    length = max((p.length for p in found), default=0)
    return [p for p in found if p.length == length]


def at_stage(probes: list[GradientFlow], stage: str) -> list[GradientFlow]:
    """Return what was measured before or after training; nothing where it has not begun."""
    if stage == BEFORE:
        return [p for p in probes if p.update == 0]
    last = max((p.update for p in probes), default=0)
    return [p for p in probes if p.update == last > 0]


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

    It is negative where sizes shrink. Sizes that are 0 or not finite, as a double holds no smaller
    and no larger ones, are left out. Where only one other size is left, a 0 counts as the smallest
    double; nan if there is no 0 either.
    """
    finite = [(t, v) for t, v in zip(steps, values, strict=True) if math.isfinite(v)]
    held = [(t, v) for t, v in finite if v > 0]
    if len(held) < 2:
        held = [(t, max(v, SMALLEST)) for t, v in finite]
    if len(held) < 2:
        return math.nan
    at, of = zip(*held, strict=True)
    return SPAN * float(np.polyfit(at, np.log2(of), 1)[0])


def growth(key: str, stage: str) -> Quantity:
    """Return the function that gives a run's growth at the longest length."""

    def of(run: RunRecord) -> float | None:
        steps, values = sizes(run, key, stage)
        return slope(steps, values) if len(steps) > 1 else None

    return of


def first_rise(stage: str) -> Quantity:
    """Return the function that gives log2 of the sums' growth in the first 200 steps with h.

    A rise that is soon over counts here, and hardly in the growth over all steps.
    """

    def of(run: RunRecord) -> float | None:
        _, values = sizes(run, "raw", stage)
        if len(values) <= SPAN or not all(0 < v < math.inf for v in (values[0], values[SPAN])):
            return None
        return math.log2(values[SPAN] / values[0])

    return of


def per_step(key: str, stage: str) -> Quantity:
    """Return the function that gives log2 of the factor a step, in the direction of the signal.

    Sums go forwards, gradients backwards: above 0 the signal explodes, below 0 it vanishes.
    """
    whole, sign = growth(key, stage), -1 if key == "gradient" else 1

    def of(run: RunRecord) -> float | None:
        found = whole(run)
        return None if found is None else sign * found / SPAN

    return of


def by_update(run: RunRecord, key: str) -> Series:
    """Return (updates, growth) at the longest length."""
    found = {p.update: slope(*by_step(p, key)) for p in longest(run)}
    return list(found), list(found.values())


def part_left(run: RunRecord, stage: str) -> Series:
    """Return (lengths, the gradient at the first step over that at the last)."""
    found = at_stage(run.probed(GradientFlow), stage)
    return [p.length for p in found], [p.gradient[0] / p.gradient[-1] for p in found]


def leaves_float32(key: str, stage: str) -> Quantity:
    """Return the function that gives 1 for a run with a size that float32 cannot hold, else 0.

    That is one that is too large, or a gradient that is too small to be held in full precision.
    """

    def of(run: RunRecord) -> float | None:
        _, values = sizes(run, key, stage)
        least = FLOAT32_LEAST if key == "gradient" else 0.0
        return float(not all(least <= v <= FLOAT32_MOST for v in values)) if values else None

    return of


def stretch(run: RunRecord) -> float | None:
    """Return the largest singular value of W_hh at the start over its spectral radius, if set."""
    radius, found = run.settings["model.spectral_radius"], at_stage(longest(run), BEFORE)
    if radius is None or not found or found[0].singular_value is None:
        return None
    return float(found[0].singular_value / radius)
