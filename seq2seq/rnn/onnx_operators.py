"""Recurrences without a norm as ONNX's own operators: LSTM, GRU and RNN.

Only `torch.onnx.export` meets them, since nothing else can run them.
https://onnx.ai/onnx/operators/onnx__LSTM.html has the equations; those of the others are beside it.
"""

from typing import Any

import torch
from torch import Tensor

from .packing import Layout
from .reference import CellParameters, State

ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}
"""ONNX's order of the gates, by their places in torch's."""


def serves(p: CellParameters) -> bool:
    """Return whether a cell that is being exported is one of ONNX's."""
    return p.ih.kind == "none" and p.table is None and torch.onnx.is_in_onnx_export()


def recurrence(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters
) -> tuple[Tensor, State]:
    """Return what `scan.recurrence` returns; x is (T, B, I), the output (T, B, H)."""
    hidden = p.weight_hh.size(1)
    weights = [in_order(w, p.cell).unsqueeze(0) for w in (p.weight_ih, p.weight_hh)]
    bias = None
    if p.ih.bias is not None and p.hh.bias is not None:
        bias = torch.cat([in_order(b, p.cell) for b in (p.ih.bias, p.hh.bias)]).unsqueeze(0)
    initial = [] if state is None else [s.unsqueeze(0) for s in state]
    attributes: dict[str, Any] = {"hidden_size": hidden}
    if p.cell == "gru":
        attributes["linear_before_reset"] = 1  # r acts on W_hh h + bias_hh, as in torch
    elif p.cell == "rnn":
        attributes["activations"] = ["Relu" if p.activation is torch.relu else "Tanh"]
    parts = 2 if p.cell == "lstm" else 1
    lengths = None if layout.lengths is None else layout.lengths.to(torch.int32)
    last_shape = (1, layout.sequences, hidden)
    output, *last = torch.onnx.ops.symbolic_multi_out(
        p.cell.upper(),
        [x, *weights, bias, lengths, *initial],
        attributes,
        dtypes=[x.dtype] * (1 + parts),
        shapes=[(layout.steps, *last_shape), *[last_shape] * parts],
        version=14,
    )
    return output.squeeze(1), tuple(s.squeeze(0) for s in last)


def in_order(v: Tensor, cell: str) -> Tensor:
    """Return v (G * H, ...) with the gates in ONNX's order."""
    gates = v.chunk(len(ORDER[cell]))
    return torch.cat([gates[place] for place in ORDER[cell]])
