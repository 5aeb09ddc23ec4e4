"""Observation of a recurrence: what enters the gates at each time step.

The equations in `reference.py` are run as they are. Their nonlinearities are watched by a
`TorchFunctionMode`, so that what is observed is what is computed, to the last digit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import reference
from .precision import product
from .reference import CellParameters, State

NONLINEARITIES = (torch.sigmoid, torch.tanh, torch.relu)


@dataclass
class Step:
    """One time step of a cell, for its active rows."""

    raw: Tensor
    """u + z (rows, G * H): the summed inputs before any norm."""
    summed: Tensor
    """The gates' pre-activations (rows, G * H), in the order of the gates."""
    state: State
    """The state after the step; each (rows, H)."""


class NonlinearityInputs(TorchFunctionMode):
    """Records the argument of every nonlinearity that is called while the mode is active."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and record its argument if it is a nonlinearity."""
        if func in NONLINEARITIES:
            self.seen.append(args[0])
        return func(*args, **(kwargs or {}))


def steps(
    x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters, first_step: int = 0
) -> Iterator[Step]:
    """Yield every step of a recurrence; arguments are those of `reference.recurrence`.

    A cell calls the nonlinearities of its gates first, in the order of the gates.
    """
    gates = p.weight_hh.size(0) // p.weight_hh.size(1)
    states = reference.unroll(x, batch_sizes, state, p, first_step)
    for u in product(x, p.weight_ih).split(batch_sizes):
        with NonlinearityInputs() as inputs:
            after = next(states)
        raw = u if state is None else u + product(state[0][: u.size(0)], p.weight_hh)
        yield Step(raw, torch.cat(inputs.seen[:gates], dim=1), after)
        state = after
