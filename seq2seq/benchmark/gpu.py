"""Layers on a GPU: everything is checked first, then timed with cuDNN's LSTM in the same rounds.

A rented GPU costs money, and what runs there for the first time may stop. So the checks and tables
are in the order of their worth, each is written once it is there, and none begins after a given
time. T steps, B rows, I inputs, H hidden.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ..rnn import (
    GRU,
    LSTM,
    RNN,
    CellNorm,
    NormConfig,
    NormKind,
    RecurrentLayers,
    Statistics,
    load_kernels,
)
from ..rnn.gpu import self_check
from .layer_products import Size
from .layers import NORMS, forward, forward_and_backward
from .results import Check, Results
from .tables import shape_name
from .timing import Task, interleave

GPU_SIZES: dict[str, list[Size]] = {
    "small": [(3, 4, 8, 8)],
    "full": [(25, 64, 512, 512), (50, 128, 1024, 1024)],
}
CHECKED_HIDDEN = 64
"""H of the kinds that are checked; timed layers check those of their own H by themselves."""
CHECKED_CELLS: dict[str, Callable[..., RecurrentLayers]] = {
    "LSTM": LSTM,
    "GRU": GRU,
    "RNN tanh": RNN,
    "RNN relu": partial(RNN, nonlinearity="relu"),
}
SEQUENCE_INPUT = NormConfig(NormKind.batch, statistics=Statistics.sequence_input)
NO_CELL_NORM: dict[str, str | NormConfig] = {
    "layer, cell=none": NormConfig(NormKind.layer, cell=CellNorm.none),
    "rms, cell=none": NormConfig(NormKind.rms, cell=CellNorm.none),
    "sequence_input, cell=none": replace(SEQUENCE_INPUT, cell=CellNorm.none),
}
"""The LSTM's norms as translators have them."""
ALLOWED = {False: 1e-4, True: 5e-2}
"""The largest norm of a difference from backend=reference, as a part of the reference's: without
and with bfloat16. The CPU's kernels are within 1e-5 and 2e-2 (T=25 B=64 I=256 H=256).
"""


@dataclass(frozen=True)
class Plan:
    """What is measured on a GPU, and how long."""

    device: torch.device
    size: str
    rounds: int
    until: float
    """time.monotonic() after which nothing new begins."""


def measure(results: Results, plan: Plan, save: Callable[[], None]) -> None:
    """Check and time layers on a device, and add each row to the results; call `save` after each.

    What there was no time for is in the results, too.
    """
    started = time.monotonic()
    loaded = load_kernels(plan.device)
    failure = None if loaded else "they do not load: plain torch serves, see the warning above"
    results.checks.append(Check("GPU kernels", time.monotonic() - started, failure))
    for name, job in jobs(results, plan, loaded):
        if time.monotonic() > plan.until:
            results.left_out.append(name)
            continue
        job()
        save()
    save()


def jobs(results: Results, plan: Plan, kernels: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what is to be done, by name; with `kernels` each kind of them is checked."""

    def check(name: str, find: Callable[[], str | None]) -> None:
        started = time.monotonic()
        failure = find()
        results.checks.append(Check(name, time.monotonic() - started, failure))

    def table(name: str, make: Callable[[], dict[str, Task]]) -> None:
        results.timings[name] = interleave(make(), plan.rounds)

    device, shapes = plan.device, GPU_SIZES[plan.size]
    if kernels:
        hidden = shapes[-1][3] if plan.size == "small" else CHECKED_HIDDEN
        for name, (layer, low) in kinds(hidden, device).items():
            yield name, partial(check, name, partial(kernels_failure, layer, low))
    for low in (False, True):
        for norm in NORMS:
            name = f"LSTM norm={norm} and plain torch, {shape_name(shapes[0])}{', bf16' * low}"
            yield name, partial(check, name, partial(apart, norm, shapes[0], device, low))
    for shape in shapes:
        for low in (False, True):
            for backward in (True, False):
                what, kind = "training" if backward else "inference", "bf16" if low else "TF32"
                name = f"on a GPU: LSTM, {what}, {kind}, {shape_name(shape)}"
                make = partial(gpu_tasks, shape, device, low, backward, results)
                yield name, partial(table, name, make)


def kinds(hidden: int, device: torch.device) -> dict[str, tuple[RecurrentLayers, bool]]:
    """Return a layer of each kind of kernels, and whether its products are in bfloat16."""
    torch.manual_seed(0)
    norms: dict[str, str | NormConfig] = {norm: norm for norm in NORMS}
    norms["sequence_input"] = SEQUENCE_INPUT
    found = {}
    for cell, make in CHECKED_CELLS.items():
        own = norms | NO_CELL_NORM if cell == "LSTM" else norms
        for norm, settings in own.items():
            for low in (False, True):
                layer = make(hidden, hidden, norm=settings).to(device)
                found[f"kernels of {cell}, norm={norm}{', bf16' * low}"] = layer, low
    return found


def kernels_failure(layer: RecurrentLayers, low: bool) -> str | None:
    """Return why the kernels of a layer do not serve, by their self-check; None: they do."""
    p = layer.cell_parameters("_l0")
    with torch.autocast(p.weight_hh.device.type, torch.bfloat16, enabled=low):
        return self_check.failure(p)


def apart(norm: str, size: Size, device: torch.device, low: bool) -> str | None:
    """Return by how much a layer in training is off plain torch, if that is too much.

    Without a norm the layer runs in cuDNN, so that this compares cuDNN too.
    """
    steps, batch, inputs, hidden = size
    torch.manual_seed(0)
    x = torch.randn(steps, batch, inputs, device=device, requires_grad=True)
    upstream = torch.randn(steps, batch, hidden, device=device)
    ours = LSTM(inputs, hidden, norm=norm).to(device)
    reference = copy.deepcopy(ours)
    reference.backend = "reference"
    found = list[list[Tensor]]()
    with tf32(False):
        for layer in (ours, reference):
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                output = layer(x)[0]
            leaves = [x, *layer.parameters()]
            found.append([output, *torch.autograd.grad(output, leaves, upstream)])
    names = ["output", "gradient of x", *(f"gradient of {n}" for n, _ in ours.named_parameters())]
    for name, a, b in zip(names, *found, strict=True):
        off = ((a - b).norm() / b.norm()).item()
        if not off <= ALLOWED[low]:
            return f"{name} is off by {off:.2g} of its norm; allowed is {ALLOWED[low]:.2g}"
    return None


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Let float32 products use TF32 or not, those of PyTorch and of cuDNN."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def gpu_tasks(
    size: Size, device: torch.device, low: bool, backward: bool, results: Results
) -> dict[str, Task]:
    """Return torch.nn.LSTM, and ours by norm, also without cuDNN and in plain torch.

    A layer whose kernels do not serve is left out, and stands among the checks.
    """
    steps, batch, inputs, hidden = size
    torch.manual_seed(0)
    x = torch.randn(steps, batch, inputs, device=device, requires_grad=backward)
    upstream = torch.randn(steps, batch, hidden, device=device)
    makers: dict[str, Callable[[], nn.Module]] = {"torch.nn.LSTM": partial(nn.LSTM, inputs, hidden)}
    for norm in NORMS:
        ours = partial(LSTM, inputs, hidden, norm=norm)
        makers[f"LSTM norm={norm}"] = ours
        if norm in ("none", "layer"):
            other = "fused" if norm == "none" else "reference"
            makers[f"LSTM norm={norm} {other}"] = partial(ours, backend=other)
    found: dict[str, Task] = {}
    for name, make in makers.items():
        try:
            layer = make().to(device).train(backward)
            task: Task = partial(forward, layer, x, low)
            if backward:
                task = partial(forward_and_backward, layer, x, upstream, low)
            with tf32(True):
                task()
        except RuntimeError as error:  # of backend=fused
            results.checks.append(Check(f"{name}, {shape_name(size)}", 0.0, str(error)))
            continue
        found[name] = partial(waited, task, device)
    return found


def waited(task: Task, device: torch.device) -> None:
    """Do a task, with TF32, and wait until the device has done it."""
    with tf32(True):
        task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def versions(device: torch.device) -> dict[str, str | None]:
    """Return the GPU and the libraries that its numbers depend on."""
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
        "triton": None if find_spec("triton") is None else version("triton"),
    }
