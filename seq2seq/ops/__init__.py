"""The recurrences: `recurrence` runs them on the backend asked for, all of them with `reference`'s signature.

reference   the equations in plain torch: every cell, norm and placement, every device and type
fused       kernels (cpu.py): the placements they cover, several times as fast
auto        fused where it covers the case and can be had, else reference; it says once which and why
"""

import logging

import torch
from torch import Tensor

from . import cpu, operators, reference
from .normalization import BatchStatistics, Pool, Term
from .reference import CellParameters, State

__all__ = ["BatchStatistics", "CellParameters", "Pool", "State", "Term", "check_backend", "fused_serves", "recurrence"]

LOG = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "fused")
SAID: set[str] = set()
"""Messages that were logged."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is none."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected 'auto', 'reference' or 'fused'")


def recurrence(
    backend: str, cell: str, x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters,
    first_step: int = 0,
) -> tuple[Tensor, State]:
    """`reference.recurrence` on a backend; raises as `fused_serves` does."""
    fused = backend != "reference" and fused_serves(cell, p, required=backend == "fused")
    return (cpu.recurrence if fused else reference.recurrence)(cell, x, batch_sizes, state, p, first_step)


def fused_serves(cell: str, p: CellParameters, required: bool = False) -> bool:
    """Whether the fused kernels cover this and can be had; what was found is said once.

    Raises RuntimeError where they are required and do not.
    """
    beyond = cpu.unsupported(cell, p)
    if required and beyond:
        raise RuntimeError(f"backend='fused': the fused kernels do not cover {beyond}; expected backend='auto'")
    cause = None if beyond else operators.failure()
    if required and cause:
        raise RuntimeError(f"backend='fused': {cause}")
    if beyond:
        say(logging.INFO, f"recurrent layers with {beyond} run in plain torch (backend=reference)")
    elif cause:
        say(logging.WARNING, f"recurrent layers run in plain torch (backend=reference), slower: {cause}")
    else:
        say(logging.INFO, "recurrent layers run in fused CPU kernels (backend=fused)")
    return not beyond and not cause


def say(level: int, message: str) -> None:
    """Log it, the first time."""
    if not torch.compiler.is_compiling() and message not in SAID:
        SAID.add(message)
        LOG.log(level, message)
