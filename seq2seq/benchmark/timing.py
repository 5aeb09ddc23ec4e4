"""Side-by-side timing: what is compared runs in turn, round after round, so that the machine's mood
hits all alike.

And the contestants of the layers' speed tables: ours, torch.nn's, and the same products with
nothing between them.
"""

import statistics
import time
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..rnn import GRU, LSTM, RNN, NormKind, load_kernels, packs

NORMS = tuple(NormKind.__members__)
PRODUCTS = "products alone"
"""The contestant that no recurrence with these products can beat."""
CELLS: dict[str, tuple[type[nn.Module], type[LSTM] | type[GRU] | type[RNN]]] = {
    "LSTM": (nn.LSTM, LSTM),
    "GRU": (nn.GRU, GRU),
    "RNN": (nn.RNN, RNN),
}
"""By name, torch's layer and ours."""
Size = tuple[int, int, int, int]
"""T, B, I, H"""
Run = Callable[[], object]


@dataclass
class Timing:
    """One contestant's times beside the baseline's, from the same rounds."""

    name: str
    milliseconds: float
    """Median."""
    ratio: float
    """Median over rounds of its time divided by the baseline's of that round."""
    low: float
    """First quartile of that ratio."""
    high: float
    """Third quartile of that ratio."""


def interleave(contestants: dict[str, Run], rounds: int, warm_up: int = 1) -> list[Timing]:
    """Time every contestant once a round; the first is the baseline of the ratios.

    In its turn it runs twice, and the second run is timed: the first finds memory and caches as
    another left them.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        for name, run in contestants.items():
            run()
            started = time.perf_counter()
            run()
            if number >= warm_up:
                times[name].append(time.perf_counter() - started)
    baseline = next(iter(times.values()))
    timings = []
    for name, seconds in times.items():
        ratios = sorted(a / b for a, b in zip(seconds, baseline, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else (ratios[0],) * 3
        timings.append(
            Timing(name, 1000 * statistics.median(seconds), statistics.median(ratios), low, high)
        )
    return timings


def geometric_means(tables: list[list[Timing]]) -> dict[str, float]:
    """Of the ratios of each contestant, over tables of the same contestants."""
    return {
        row[0].name: statistics.geometric_mean(t.ratio for t in row)
        for row in zip(*tables, strict=True)
    }


# -- one layer over a sequence ---


def forward_and_backward(
    layer: nn.Module, x: Tensor, upstream: Tensor, bfloat16: bool = False
) -> None:
    """One training pass."""
    layer.zero_grad(set_to_none=True)
    x.grad = None
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        output = layer(x)[0]
    output.backward(upstream)


def forward(layer: nn.Module, x: Tensor, bfloat16: bool = False) -> None:
    """One pass that nobody learns from."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        layer(x)


class CellLoop(nn.Module):
    """What one writes without a layer: torch.nn.LSTMCell in a loop."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """x (T, B, I) -> output (T, B, H)."""
        state, outputs = None, []
        for step in x:
            state = self.cell(step, state)
            outputs.append(state[0])
        return (torch.stack(outputs),)


def products(size: Size, backward: bool) -> Run:
    """A run of the matrix products of an LSTM over a sequence, the fastest way that this PyTorch
    has for each.
    """
    steps, batch, inputs, hidden = size
    x, h = torch.randn(steps * batch, inputs), torch.randn(batch, hidden)
    weight_ih, weight_hh = torch.randn(4 * hidden, inputs), torch.randn(4 * hidden, hidden)
    output, d, d_step = (
        torch.randn(*shape)
        for shape in ((steps * batch, hidden), (steps * batch, 4 * hidden), (batch, 4 * hidden))
    )
    packed = load_kernels() and packs(torch.float32)
    turned = (
        packed and torch.backends.cpu.get_cpu_capability() != "AVX512"
    )  # as Product of csrc/products.h
    linear = partial(
        torch.ops.mkldnn._linear_pointwise, B=None, attr="none", scalars=[], algorithm=""
    )

    def all_steps(x: Tensor, weight: Tensor) -> Tensor:
        y: Tensor = torch.ops.seq2seq.projection(x, weight, True) if packed else F.linear(x, weight)
        return y

    def each_step(x: Tensor, weight: Tensor) -> None:
        if not packed:
            product = partial(F.linear, x, weight)
        elif not turned:
            product = partial(linear, x, torch.ops.mkldnn._reorder_linear_weight(weight, batch))
        elif weight.size(0) > weight.size(1):
            product = partial(linear, weight, x.t().contiguous().t())
        else:
            product = partial(torch.mm, weight, x.t())
        for _ in range(steps):
            product()

    def run() -> None:
        all_steps(x, weight_ih)
        each_step(h, weight_hh)
        if backward:
            each_step(d_step, weight_hh.t().contiguous())
            torch.mm(d.t(), output), torch.mm(d.t(), x), all_steps(d, weight_ih.t())

    return run


def lstms(size: Size, compiled: bool) -> dict[str, Run]:
    """The contestants of one size, training: torch.nn.LSTM, ours by norm and backend, loops,
    products.
    """
    steps, batch, inputs, hidden = size
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    upstream = torch.randn(steps, batch, hidden)
    return {
        name: partial(forward_and_backward, layer, x, upstream, bfloat16)
        for name, (layer, bfloat16) in contestants(size, compiled).items()
    } | {PRODUCTS: products(size, True)}


def lstms_forward(size: Size, compiled: bool) -> dict[str, Run]:
    """The same without gradients, in eval mode."""
    steps, batch, inputs, _ = size
    x = torch.randn(steps, batch, inputs)
    return {
        name: partial(forward, layer.eval(), x, bfloat16)
        for name, (layer, bfloat16) in contestants(size, compiled).items()
    } | {PRODUCTS: products(size, False)}


def contestants(size: Size, compiled: bool) -> dict[str, tuple[nn.Module, bool]]:
    """Layers by name, and whether they run under bfloat16 autocast: where the CPU has bfloat16
    products.
    """
    *_, inputs, hidden = size
    torch.manual_seed(0)
    torchs = nn.LSTM(inputs, hidden)
    fused = (
        {}
        if not load_kernels()
        else {
            f"LSTM norm={norm} fused": LSTM(inputs, hidden, norm=norm, backend="fused")
            for norm in NORMS
        }
    )
    plain = {
        f"LSTM norm={norm} reference": LSTM(inputs, hidden, norm=norm, backend="reference")
        for norm in NORMS
    }
    loops: dict[str, nn.Module] = {"loop over torch.nn.LSTMCell": CellLoop(inputs, hidden)}
    if compiled:
        reference = LSTM(inputs, hidden, norm="layer", backend="reference")
        reference.compile()
        loops["LSTM norm=layer reference, torch.compile"] = reference
    layers = {"torch.nn.LSTM": torchs, **fused, **plain, **loops}
    in_bfloat16 = {
        f"{name} bfloat16": (layer, True)
        for name, layer in ({"torch.nn.LSTM": torchs} | fused).items()
    }
    with_bfloat16 = packs(
        torch.bfloat16
    )  # elsewhere its products are emulated, 30 times slower, and torch's stops
    return {name: (layer, False) for name, layer in layers.items()} | (
        in_bfloat16 if with_bfloat16 else {}
    )


def others(cell: str, size: Size) -> dict[str, Run]:
    """Training GRU or RNN: torch's and ours by norm."""
    steps, batch, inputs, hidden = size
    torch.manual_seed(0)
    x, upstream = (
        torch.randn(steps, batch, inputs, requires_grad=True),
        torch.randn(steps, batch, hidden),
    )
    torchs, ours = CELLS[cell]
    layers: dict[str, nn.Module] = {f"torch.nn.{cell}": torchs(inputs, hidden)}
    layers |= {f"{cell} norm={norm}": ours(inputs, hidden, norm=norm) for norm in NORMS}
    return {
        name: partial(forward_and_backward, layer, x, upstream) for name, layer in layers.items()
    }


def single_steps(hidden: int, rows: int = 5, repeats: int = 20) -> dict[str, Run]:
    """A step at a time of so many rows, as a beam search takes it: torch.nn.LSTMCell,
    torch.nn.LSTM, ours by norm.
    """
    torch.manual_seed(0)
    x, h = torch.randn(1, rows, hidden), torch.zeros(1, rows, hidden)
    cell = nn.LSTMCell(hidden, hidden)
    layers = {"torch.nn.LSTM": nn.LSTM(hidden, hidden)} | {
        f"LSTM norm={norm}": LSTM(hidden, hidden, norm=norm) for norm in NORMS
    }

    @torch.no_grad()
    def run(step: Run) -> None:
        for _ in range(repeats):
            step()

    runs: dict[str, Run] = {"torch.nn.LSTMCell": partial(run, partial(cell, x[0], (h[0], h[0])))}
    return runs | {
        name: partial(run, partial(layer.eval(), x, (h, h))) for name, layer in layers.items()
    }


# -- memory ---


@dataclass
class Memory:
    """How much a process grows by a training step of one contestant."""

    name: str
    mebibytes: float
    ratio: float
    """To the first contestant's."""


def memory(size: Size) -> list[Memory]:
    """A training step of torch.nn.LSTM and of ours by norm, each in a process of its own."""
    names = ["torch.nn.LSTM", *(f"LSTM norm={norm}" for norm in NORMS)]
    grown = []
    for name in names:
        with get_context("spawn").Pool(1) as pool:
            grown.append(pool.apply(growth, (name, size)))
    return [Memory(name, g, g / grown[0]) for name, g in zip(names, grown, strict=True)]


def growth(name: str, size: Size) -> float:
    """MiB by which this process grows at most in training steps of a contestant, its parameters not
    counted.
    """
    steps, batch, inputs, hidden = size
    make = nn.LSTM if name == "torch.nn.LSTM" else partial(LSTM, norm=name.partition("=")[2])
    forward_and_backward(
        make(8, 8), torch.randn(5, 2, 8, requires_grad=True), torch.randn(5, 2, 8)
    )  # loads libraries
    layer, x = make(inputs, hidden), torch.randn(steps, batch, inputs, requires_grad=True)
    upstream = torch.randn(steps, batch, hidden)
    CDLL(None).malloc_trim(0)  # what is free already would not count
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    for _ in range(2):
        forward_and_backward(layer, x, upstream)
    return resident("VmHWM") - before


def resident(which: str) -> float:
    """MiB of this process in memory, now (VmRSS) or at most (VmHWM). Linux alone tells."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024
    )
