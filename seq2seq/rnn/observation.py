"""Observation of a recurrence: what enters the gates at each time step.

The equations in `reference.py` are run as they are: what is observed is what is computed, to the
last digit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import reference
from .packing import Layout, Steps
from .precision import product
from .reference import CellParameters, State


@dataclass
class Step:
    """One time step of a cell, for its active rows."""

    raw: Tensor
    """u + z (rows, G * H): the summed inputs before any norm."""
    summed: Tensor
    """The gates' pre-activations (rows, G * H), in the order of the gates."""
    state: State
    """The state after the step; each (rows, H)."""


def steps(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> Iterator[Step]:
    """Yield every step of a recurrence; arguments are those of `reference.recurrence`."""
    inputs = p.u(x).split(layout.sizes())
    unrolled = reference.unroll(x, layout, state, p, first_step)
    for u, (sums, after) in zip(inputs, unrolled, strict=True):
        raw = u if state is None else u + product(state[0][: u.size(0)], p.weight_hh)
        yield Step(raw, torch.cat(sums, dim=1), after)
        state = after
