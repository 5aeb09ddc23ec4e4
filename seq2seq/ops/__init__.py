"""The recurrences: `recurrence` runs them on the backend asked for, all of them with `reference`'s signature.

reference   the equations in plain torch: every cell, norm and placement, every device and type
fused       kernels (cpu.py): the placements they cover, several times as fast
auto        fused where it covers the case and can be had, else reference; it says once which and why
"""

import logging

import torch
from torch import Tensor

from . import cpu, reference
from .normalization import BatchStatistics, Pool, Term
from .reference import CellParameters, State

__all__ = ["BatchStatistics", "CellParameters", "Pool", "State", "Term", "check_backend", "check_fused", "recurrence"]

LOG = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "fused")
SAID: set[str] = set()
"""Messages that were logged."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is none."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected 'auto', 'reference' or 'fused'")


def check_fused(cell: str, p: CellParameters) -> None:
    """Raise RuntimeError where the fused kernels are asked for by name and cannot be had."""
    if beyond := cpu.unsupported(cell, p):
        raise RuntimeError(f"backend='fused': the fused kernels do not cover {beyond}; expected backend='auto'")
    if cause := cpu.failure():
        raise RuntimeError(f"backend='fused': {cause}")


def recurrence(
    backend: str, cell: str, x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters,
    first_step: int = 0,
) -> tuple[Tensor, State]:
    """`reference.recurrence` on a backend; raises as `check_fused` does."""
    if backend == "fused":
        check_fused(cell, p)
    run = cpu.recurrence if backend != "reference" and fused_serves(cell, p) else reference.recurrence
    return run(cell, x, batch_sizes, state, p, first_step)


def fused_serves(cell: str, p: CellParameters) -> bool:
    """Whether the fused kernels cover this and can be had; what was found is said once."""
    if beyond := cpu.unsupported(cell, p):
        say(logging.INFO, f"recurrent layers with {beyond} run in plain torch (backend=reference)")
    elif cause := cpu.failure():
        say(logging.WARNING, f"recurrent layers run in plain torch (backend=reference), slower: {cause}")
    else:
        say(logging.INFO, "recurrent layers run in fused CPU kernels (backend=fused)")
        return True
    return False


def say(level: int, message: str) -> None:
    """Log it, the first time."""
    if not torch.compiler.is_compiling() and message not in SAID:
        SAID.add(message)
        LOG.log(level, message)
