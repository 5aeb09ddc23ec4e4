"""The recurrences: `recurrence` runs them on the backend asked for, all of them with `reference`'s
signature.

reference   the equations in plain torch: every cell, norm and placement, every device and type
fused       kernels (fused.py): the placements they cover, as fast as torch.nn's
auto        fused where it covers the case and can be had, but for GPUs; else reference; it says
            once which and why
"""

import logging

import torch
from torch import Tensor

from . import fused, reference
from .cpu import operators
from .normalization import BatchStatistics, Pool, Term
from .reference import CellParameters, State

__all__ = [
    "BatchStatistics",
    "CellParameters",
    "Pool",
    "State",
    "Term",
    "check_backend",
    "fused_serves",
    "recurrence",
]

LOG = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "fused")
SAID: set[str] = set()
"""Messages that were logged."""


def check_backend(backend: str) -> None:
    """Raise ValueError for a name that is none."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected 'auto', 'reference' or 'fused'")


def recurrence(
    backend: str,
    cell: str,
    x: Tensor,
    batch_sizes: list[int],
    state: State | None,
    p: CellParameters,
    first_step: int = 0,
) -> tuple[Tensor, State]:
    """`reference.recurrence` on a backend; raises as `fused_serves` does."""
    serves = backend != "reference" and fused_serves(cell, p, required=backend == "fused")
    return (fused.recurrence if serves else reference.recurrence)(
        cell, x, batch_sizes, state, p, first_step
    )


def fused_serves(cell: str, p: CellParameters, required: bool = False) -> bool:
    """Whether the fused kernels cover this and can be had; what was found is said once.

    Raises RuntimeError where they are required and do not.
    """
    beyond, on_gpu = fused.unsupported(cell, p), p.weight_hh.is_cuda
    if required and beyond:
        raise RuntimeError(
            f"backend='fused': the fused kernels do not cover {beyond}; expected backend='auto'"
        )
    if on_gpu and not required:
        beyond = (
            beyond or "parameters on a GPU and backend=auto"
        )  # those kernels have not run on one yet
    cause = None if beyond else operators.gpu_failure() if on_gpu else operators.failure()
    if required and cause:
        raise RuntimeError(f"backend='fused': {cause}")
    if beyond:
        say(logging.INFO, f"recurrent layers with {beyond} run in plain torch (backend=reference)")
    elif cause:
        say(
            logging.WARNING,
            f"recurrent layers run in plain torch (backend=reference), slower: {cause}",
        )
    else:
        say(
            logging.INFO,
            f"recurrent layers run in fused {'GPU' if on_gpu else 'CPU'} kernels (backend=fused)",
        )
    return not beyond and not cause


def say(level: int, message: str) -> None:
    """Log it, the first time."""
    if not torch.compiler.is_compiling() and message not in SAID:
        SAID.add(message)
        LOG.log(level, message)
