"""The choice of a backend for a recurrence.

reference   the equations in plain torch: every cell, norm and setting, every device and type
fused       compiled kernels, for the cases that `fused.unsupported` does not name
auto        fused where the kernels support the case and load, else reference; logs its choice
            once. On a GPU the kernels serve after a self-check (gpu/self_check.py), and a layer
            without a norm takes torch's own functions (gpu/torch_functions.py)

torch.export takes the loop of `scan.py` instead, except with fused.
"""

import logging

import torch
from torch import Tensor

from . import fused, gpu, onnx_operators, reference, scan
from .cpu import launch, operators
from .cpu.one_step import run_step
from .gpu import self_check
from .packing import Layout, Steps
from .reference import CellParameters, State

LOG = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "fused")
PLAIN = "recurrent layers run in plain torch (backend=reference)"
THREADS_OF_TWO = (2, 3)
"""Numbers of threads with which both directions of a layer run at once, each on a thread. With more
each direction has all of them, one direction after the other.
"""
LOGGED: set[str] = set()
"""Messages that were logged."""


def check_backend(backend: str) -> None:
    """Raise ValueError if there is no backend of this name."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected 'auto', 'reference' or 'fused'")


def recurrences(
    backend: str,
    inputs: list[Tensor],
    layout: Layout,
    states: list[State | None],
    cells: list[CellParameters],
    first_step: Steps = 0,
) -> list[tuple[Tensor, State]]:
    """Return what `recurrence` returns for each of the directions of a layer, or for a cell."""
    if isinstance(first_step, Tensor) or not eager_on_cpu(backend, cells):
        return [
            recurrence(backend, x, layout, state, p, first_step)
            for x, state, p in zip(inputs, states, cells, strict=True)
        ]
    at_once = len(cells) if torch.get_num_threads() in THREADS_OF_TWO else 1
    rows, found = [x.flatten(0, -2) for x in inputs], []
    for i in range(0, len(cells), at_once):
        own = slice(i, i + at_once)
        found += launch.recurrences(rows[own], layout, states[own], cells[own], first_step)
    return [
        (output.view(*x.shape[:-1], output.size(-1)), last)
        for x, (output, last) in zip(inputs, found, strict=True)
    ]


def eager_on_cpu(backend: str, cells: list[CellParameters]) -> bool:
    """Return whether the CPU's kernels take recurrences with their input terms, in eager mode.

    They do not in a loop over steps, which shares products, nor for torch.jit, whose operators have
    no lists of optional tensors.
    """
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    eager = not traced and torch._C._get_tracing_state() is None
    return (
        eager
        and all(p.steps is None and p.weight_hh.device.type == "cpu" for p in cells)
        and all(fused_serves(backend, p) for p in cells)
    )


def recurrence(
    backend: str,
    x: Tensor,
    layout: Layout,
    state: State | None,
    p: CellParameters,
    first_step: Steps = 0,
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns; raise what `fused_serves` raises.

    x is packed (N, I), or (T, B, I) where all sequences are equally long; the output likewise.
    ValueError for several steps in a call of a loop over steps.
    """
    if p.steps is not None and not isinstance(first_step, Tensor):
        if layout.steps != 1:
            raise ValueError(f"{layout.steps} steps in a call within `stepwise`: expected one")
        output, last = run_step(x.flatten(0, -2), state, p, first_step)
        return output.view(*x.shape[:-1], output.size(-1)), last
    exporting = torch.compiler.is_exporting() and backend != "fused"
    if exporting and x.dim() == 3:  # a cell has no loop
        if onnx_operators.serves(p):
            return onnx_operators.recurrence(x, layout, state, p)
        return scan.recurrence(x, layout, state, p, first_step)
    by_row = isinstance(first_step, Tensor)
    serves = not exporting and fused_serves(backend, p, by_row)
    run = launch.recurrence if serves else reference.recurrence
    output, last = run(x.flatten(0, -2), layout, state, p, first_step)
    return output.view(*x.shape[:-1], output.size(-1)), last


def project(backend: str, x: Tensor, p: CellParameters) -> Tensor:
    """Return W_ih x (..., G * H) of inputs (..., I), as the recurrence would compute it."""
    exporting = torch.compiler.is_exporting() and backend != "fused"
    if exporting or not fused_serves(backend, p):
        return p.u(x)
    return launch.project(x.flatten(0, -2), p).view(*x.shape[:-1], -1)


def fused_serves(backend: str, p: CellParameters, by_row: bool = False) -> bool:
    """Return whether the fused kernels load and support a case; log the answer once.

    by_row: first_step is (B,). Raises RuntimeError if backend="fused" and they do not.
    """
    if backend == "reference":
        return False
    if case := fused.unsupported(p, by_row):
        if backend == "fused":
            raise RuntimeError(
                f"backend='fused': the fused kernels do not support {case}; expected backend='auto'"
            )
        log_once(logging.INFO, f"{PLAIN} for {case}")
        return False
    device = p.weight_hh.device
    cause = _failure(device) or (self_check.failure(p) if gpu.is_gpu(device) else None)
    return _serves(backend, device, cause)


def _failure(device: torch.device) -> str | None:
    """Return why a device's kernels do not load; None if they do."""
    return operators.gpu_failure() if gpu.is_gpu(device) else operators.failure()


def _serves(backend: str, device: torch.device, cause: str | None) -> bool:
    """Return whether there is no cause against a device's kernels; log the answer once."""
    if cause is None:
        kernels = "GPU" if gpu.is_gpu(device) else "CPU"
        log_once(logging.INFO, f"recurrent layers run in fused {kernels} kernels (backend=fused)")
        return True
    if backend == "fused":
        raise RuntimeError(f"backend='fused': {cause}")
    log_once(logging.WARNING, f"{PLAIN}, more slowly: {cause}")
    return False


def load_kernels(device: torch.device | str = "cpu", backend: str = "auto") -> bool:
    """Compile and load the fused kernels that layers of this backend use on a device.

    Layers do so at their first call. Call this before a clock or a progress bar starts: the first
    time on a machine it takes about a minute, which one warning announces. Later calls are
    immediate. Returns whether the kernels loaded; raises RuntimeError if backend="fused" and they
    did not.
    """
    check_backend(backend)
    if backend == "reference":
        return False
    device = torch.device(device)
    return _serves(backend, device, _failure(device))


def log_once(level: int, message: str) -> None:
    """Log a message the first time that it comes."""
    if not torch.compiler.is_compiling() and message not in LOGGED:
        LOGGED.add(message)
        LOG.log(level, message)
