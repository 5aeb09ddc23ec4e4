"""Recurrent layers as contestants: ours, torch.nn's, and their matrix products alone.

T steps, B rows, I inputs, H hidden.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..device import multiplies_bfloat16
from ..rnn import GRU, LSTM, RNN, LSTMCell, NormKind, frozen, load_kernels
from .contestants import PRODUCTS
from .layer_products import Size, products
from .timing import Task

NORMS = tuple(NormKind.__members__)
CELLS: dict[str, tuple[type[nn.Module], type[LSTM] | type[GRU] | type[RNN]]] = {
    "LSTM": (nn.LSTM, LSTM),
    "GRU": (nn.GRU, GRU),
    "RNN": (nn.RNN, RNN),
}
"""torch's layer and ours, by cell."""


def forward_and_backward(
    layer: nn.Module, x: Tensor, upstream: Tensor, bfloat16: bool = False
) -> None:
    """Run one training pass; upstream (T, B, H) is the gradient of the output."""
    layer.zero_grad(set_to_none=True)
    x.grad = None
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        output = layer(x)[0]
    output.backward(upstream)


def forward(layer: nn.Module, x: Tensor, bfloat16: bool = False) -> None:
    """Run one pass without gradients."""
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        layer(x)


Layers = dict[str, tuple[nn.Module, bool]]
"""By name, a layer and whether it runs under bfloat16 autocast."""


class CellLoop(nn.Module):
    """A cell in a Python loop: an LSTM as one writes it without a layer."""

    def __init__(self, cell: nn.LSTMCell | LSTMCell) -> None:
        """Take torch's cell, or ours."""
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the output (T, B, H) of x (T, B, I), in a tuple as nn.LSTM does."""
        state, outputs = None, []
        for number, step in enumerate(x):
            if isinstance(self.cell, LSTMCell):  # batch norm has statistics of each step
                state = self.cell(step, state, first_step=number)
            else:
                state = self.cell(step, state)
            outputs.append(state[0])
        return (torch.stack(outputs),)


def lstm_tasks(size: Size, training: bool, compiled: bool) -> dict[str, Task]:
    """Return torch.nn.LSTM, ours, a loop over cells, and products: in training, or in eval mode."""
    found = passes(lstm_layers(size, compiled), size, size[3], training)
    return found | {PRODUCTS: products(size, backward=training)}


def lstm_layers(size: Size, compiled: bool) -> Layers:
    """Return LSTM layers, in float32 and under bfloat16 autocast.

    bfloat16 only where the CPU has such products: elsewhere those of torch's layer are emulated,
    and take 30 times as long. `compiled` adds the layer-norm reference under torch.compile.
    """
    *_, inputs, hidden = size
    torch.manual_seed(0)
    torchs = nn.LSTM(inputs, hidden)
    fused = {}
    if load_kernels():
        fused = {
            f"LSTM norm={norm} fused": LSTM(inputs, hidden, norm=norm, backend="fused")
            for norm in NORMS
        }
    plain = {
        f"LSTM norm={norm} reference": LSTM(inputs, hidden, norm=norm, backend="reference")
        for norm in NORMS
    }
    loops: dict[str, nn.Module] = {
        "loop over torch.nn.LSTMCell": CellLoop(nn.LSTMCell(inputs, hidden))
    }
    if compiled:
        reference = LSTM(inputs, hidden, norm="layer", backend="reference")
        reference.compile()
        loops["LSTM norm=layer reference, torch.compile"] = reference
    layers = {"torch.nn.LSTM": torchs, **fused, **plain, **loops}
    in_bfloat16 = {
        f"{name} bfloat16": (layer, True)
        for name, layer in ({"torch.nn.LSTM": torchs} | fused).items()
    }
    in_float32 = {name: (layer, False) for name, layer in layers.items()}
    return in_float32 | (in_bfloat16 if multiplies_bfloat16() else {})


def stack_tasks(
    cell: str, layers: int, bidirectional: bool, training: bool, size: Size
) -> dict[str, Task]:
    """Return torch's layers of a cell, ours by norm, and products: in training, or in eval mode."""
    inputs, hidden = size[2:]
    torch.manual_seed(0)
    torchs, ours = CELLS[cell]
    made: Layers = {
        f"torch.nn.{cell}": (torchs(inputs, hidden, layers, bidirectional=bidirectional), False)
    }
    for norm in NORMS:
        layer = ours(inputs, hidden, layers, bidirectional=bidirectional, norm=norm)
        made[f"{cell} norm={norm}"] = layer, False
    directions = 2 if bidirectional else 1
    return passes(made, size, hidden * directions, training) | {
        PRODUCTS: products(size, training, cell, layers, directions)
    }


def cell_tasks(size: Size) -> dict[str, Task]:
    """Return loops over the steps in training: over torch.nn.LSTMCell, and over ours by norm."""
    inputs, hidden = size[2:]
    torch.manual_seed(0)
    made: Layers = {"torch.nn.LSTMCell": (CellLoop(nn.LSTMCell(inputs, hidden)), False)}
    for norm in NORMS:
        made[f"LSTMCell norm={norm}"] = CellLoop(LSTMCell(inputs, hidden, norm=norm)), False
    return passes(made, size, hidden, training=True)


def passes(layers: Layers, size: Size, outputs: int, training: bool) -> dict[str, Task]:
    """Return a pass of each layer, whose output has so many features: in training, or eval mode."""
    steps, batch, inputs, _ = size
    x = torch.randn(steps, batch, inputs, requires_grad=training)
    if not training:
        return {
            name: partial(forward, layer.eval(), x, bfloat16)
            for name, (layer, bfloat16) in layers.items()
        }
    upstream = torch.randn(steps, batch, outputs)
    return {
        name: partial(forward_and_backward, layer, x, upstream, bfloat16)
        for name, (layer, bfloat16) in layers.items()
    }


def single_step_tasks(hidden: int, rows: int = 5, repeats: int = 20) -> dict[str, Task]:
    """Return tasks of `repeats` single steps of `rows` rows, as beam search does.

    torch.nn.LSTMCell, torch.nn.LSTM, and ours by norm, also within `frozen`.
    """
    torch.manual_seed(0)
    x, h = torch.randn(1, rows, hidden), torch.zeros(1, rows, hidden)
    cell = nn.LSTMCell(hidden, hidden)
    layers = {"torch.nn.LSTM": nn.LSTM(hidden, hidden)} | {
        f"LSTM norm={norm}": LSTM(hidden, hidden, norm=norm) for norm in NORMS
    }

    @torch.no_grad()
    def repeat(step: Task) -> None:
        for _ in range(repeats):
            step()

    def repeat_frozen(layer: nn.Module, step: Task) -> None:
        with frozen(layer):
            repeat(step)

    tasks: dict[str, Task] = {
        "torch.nn.LSTMCell": partial(repeat, partial(cell, x[0], (h[0], h[0])))
    }
    for name, layer in layers.items():
        step = partial(layer.eval(), x, (h, h))
        tasks[name] = partial(repeat, step)
        if isinstance(layer, LSTM):
            tasks[f"{name} frozen"] = partial(repeat_frozen, layer, step)
    return tasks
