"""Cases for the kernels' tests: layers, inputs, operators' arguments, and comparison of results.

Tolerances are relative to the largest element of what is compared:

float32    5e-5   rounding (6e-8 an operation) through up to 40 steps, in sums of hundreds of
                  products
batch norm 1e-3   the variance of a feature over three rows can be small, and N divides by its
                  root in every layer
500 steps  2e-4   as float32, through ten times as many steps
bfloat16   3e-2   products keep 8 bits (4e-3); compared with the reference under the same autocast,
                  which rounds in other places
"""

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from oracles import CELLS, config, parts
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import LSTM, NormConfig, NormKind, RecurrentLayers
from seq2seq.rnn.cpu import build

NORMS = ["none", "layer", "rms"]
LENGTHS = {
    "equal": [6] * 5,
    "ragged": [9, 1, 4, 4, 7],
    "one step": [1] * 4,
    "one row": [8],
    "one of both": [1],
}
INPUTS = 13
FLOAT32, BATCH_NORM, LONG, BFLOAT16 = 5e-5, 1e-3, 2e-4, 3e-2
needs_compiler = pytest.mark.skipif(
    shutil.which(build.compiler()[0]) is None, reason="no C++ compiler"
)
BATCH = {
    statistics: config("batch", statistics=statistics, min_rows=3)
    for statistics in ("per_step", "sequence_input", "shared")
}
SEPARATE = config("batch", terms="separate", min_rows=3)
"""Batch norm of the vanilla cell that has a norm for each term at every step."""
PLAIN_CELL = {
    "layer": config("layer", cell="none"),
    "rms": config("rms", cell="none"),
    "batch": config("batch", cell="none", min_rows=3),
}
"""Norms of the LSTM that leave its cell state alone, by their kind."""
Case = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""Sentences, initial states, and upstream gradients of output and last states."""
Results = dict[str, Tensor | None]
"""Outputs and gradients by name."""


def layer_of(
    hidden: int, norm: str | NormConfig, cell: str = "lstm", **options: Any
) -> RecurrentLayers:
    """Return a layer with random gains and shifts, in double."""
    torch.manual_seed(hidden)
    layer = CELLS[cell](INPUTS, hidden, norm=norm, backend="reference", **options).double()
    for name, p in layer.named_parameters():
        if name.startswith("gain"):
            torch.nn.init.normal_(p, 0.3 if layer.norm.kind is NormKind.batch else 1.0, 0.1)
        elif name.startswith("bias"):
            torch.nn.init.normal_(p, 0.0, 0.3)
    return layer


def case(layer: RecurrentLayers, lengths: list[int], given: bool, scale: float = 1.0) -> Case:
    """Return random sentences, initial states (none unless given) and upstream gradients."""
    sentences = [scale * torch.randn(length, INPUTS, dtype=torch.double) for length in lengths]
    directions, count = layer.num_directions, len(lengths)
    shape = (layer.num_layers * directions, count, layer.hidden_size)
    names = "hc" if layer.cell == "lstm" else "h"
    state = [torch.randn(shape, dtype=torch.double) for _ in names] if given else []
    upstream = [
        torch.randn(sum(lengths), directions * layer.hidden_size),
        *(torch.randn(shape) for _ in names),
    ]
    return sentences, state, upstream


def results(
    layer: RecurrentLayers,
    sentences: list[Tensor],
    state: list[Tensor],
    upstream: list[Tensor],
    dtype: torch.dtype,
    backend: str,
    autocast: bool = False,
    ran: list[RecurrentLayers] | None = None,
) -> Results:
    """Return the output, the last states and all gradients by name.

    A copy of the layer computes them in a type on a backend. The copy is appended to `ran`.
    """
    layer = copy.deepcopy(layer).to(dtype)
    if ran is not None:
        ran.append(layer)
    layer.backend = backend
    xs = [x.to(dtype, copy=True).requires_grad_() for x in sentences]
    hx = [s.to(dtype, copy=True).requires_grad_() for s in state]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        initial = (tuple(hx) if layer.cell == "lstm" else hx[0]) if hx else None
        output, last = layer(pack_sequence(xs, enforce_sorted=False), initial)
    values = [output.data, *parts(last)]
    torch.autograd.backward(values, [u.to(dtype) for u in upstream])
    found = dict(zip(("output", "h_n", "c_n"), values, strict=False))
    found |= {f"gradient of {name}": p.grad for name, p in layer.named_parameters()}
    found |= {f"gradient of sentence {i}": x.grad for i, x in enumerate(xs)}
    found |= {f"gradient of {name}": s.grad for name, s in zip(("h_0", "c_0"), hx, strict=False)}
    return {name: None if v is None else v.detach().double() for name, v in found.items()}


def distances(
    found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]
) -> dict[str, float]:
    """Return the largest difference by name, as a part of the largest element expected.

    A gradient that is None counts as 0.
    """
    apart = {}
    for name, e in expected.items():
        given = [v for v in (found[name], e) if v is not None]
        if not given:
            continue
        f, e = (torch.zeros_like(given[0]) if v is None else v for v in (found[name], e))
        assert torch.isfinite(f).all(), name
        apart[name] = ((f - e).abs().max() / e.abs().max().clamp(min=1e-6)).item()
    return apart


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the distance of each result, relative to its size."""
    assert found.keys() == expected.keys()
    pairs = ((name, found[name].double(), tensor.double()) for name, tensor in expected.items())
    return {name: ((a - b).norm() / (b.norm() + 1e-3)).item() for name, a, b in pairs}


def present(found: Results) -> dict[str, Tensor]:
    """Return the outputs and those gradients that are not None."""
    return {name: value for name, value in found.items() if value is not None}


def batch_norm_results(
    layer: RecurrentLayers,
    sentences: list[Tensor],
    state: list[Tensor],
    upstream: list[Tensor],
    dtype: torch.dtype,
    backend: str,
) -> tuple[Results, RecurrentLayers]:
    """Return the results, with the buffers of the copy that ran, and that copy."""
    ran: list[RecurrentLayers] = []
    found = results(layer, sentences, state, upstream, dtype, backend, ran=ran)
    return found | {name: b.double() for name, b in ran[0].named_buffers()}, ran[0]


STATISTICS = {
    "lstm": 9,
    "lstm_plain_cell": 8,
    "gru": 6,
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "separate_rnn_tanh": 2,
    "separate_rnn_relu": 2,
}
"""The width of the statistics of a step, in multiples of the hidden size."""


def batch_arguments(
    dtype: torch.dtype = torch.float32,
    wide_input: bool = False,
    save: bool = True,
    given: bool = True,
    normalises_input: bool = True,
    cell: str = "lstm",
    hidden: int = 6,
) -> tuple[Any, ...]:
    """Return arguments of seq2seq::batch_norm_recurrence."""
    *tensors, sequences, _, _, eps, _ = arguments("layer", dtype, save, given, cell, hidden)
    if wide_input:
        tensors[0] = tensors[0].detach().float().requires_grad_(save)
    shape = (3, STATISTICS[cell] * hidden)
    mean, var = torch.randn(shape), torch.rand(shape) + 0.5
    return *tensors, mean, var, sequences, 2, cell, eps, normalises_input, save


SIZES = {
    "lstm": (4, 14),
    "lstm_plain_cell": (4, 14),
    "gru": (3, 12),
    "rnn_tanh": (1, 2),
    "rnn_relu": (1, 2),
}
"""The number of gates of a cell, and the length of its vectors in multiples of the hidden size."""
COLUMN_SIZES = {**SIZES, "separate_rnn_tanh": (1, 3), "separate_rnn_relu": (1, 3)}
"""Those of cells with batch norm."""


def has_c(cell: str) -> bool:
    """Return whether a cell has a state c beside h."""
    return cell.startswith("lstm")


def arguments(
    norm: str = "layer",
    dtype: torch.dtype = torch.float32,
    save: bool = True,
    given: bool = True,
    cell: str = "lstm",
    hidden: int = 6,
) -> tuple[Any, ...]:
    """Return arguments of seq2seq::recurrence."""
    torch.manual_seed(0)
    sizes, (gates, vectors) = [3, 3, 1], COLUMN_SIZES[cell]
    u, weight = (
        torch.randn(sum(sizes), gates * hidden, dtype=dtype),
        torch.randn(gates * hidden, hidden, dtype=dtype),
    )
    state = [
        torch.randn(3, hidden) if given and part in ("hc" if has_c(cell) else "h") else None
        for part in "hc"
    ]
    tensors = [
        t if t is None else t.requires_grad_(save)
        for t in (u, weight, *state, torch.randn(vectors * hidden))
    ]
    return *tensors, torch.tensor(sizes), sizes[0], cell, norm, 1e-5, save


def refused(first: Sequence[Any]) -> list[tuple[tuple[Any, ...], str]]:
    """Return wrong first arguments of seq2seq::recurrence, up to the norm, and what is expected.

    `first` are right ones, of an LSTM as `arguments` makes it.
    """
    u, weight, h, c, vectors, sizes, count, cell, norm = first
    falling = "expected falling batch_sizes that add up to 7"
    return [
        (
            (u, weight, h, c, vectors, sizes, count, cell, "batch"),
            "norm=batch: expected none, layer or rms",
        ),
        (
            (u, weight, h, c, vectors, sizes, count, "rnn", norm),
            "cell=rnn: expected lstm, lstm_plain_cell, gru, rnn_tanh or rnn_relu",
        ),
        (
            (u, weight, h, c, vectors[1:], sizes, count, cell, norm),
            "expected float vectors of 84 elements, got 83",
        ),
        (
            (u, weight, h, c[:1], vectors, sizes, count, cell, norm),
            r"expected float states \(3, 6\), got \[1, 6\]",
        ),
        ((u, weight, h, c, vectors, torch.tensor([3, 3, 2]), count, cell, norm), falling),
        ((u, weight, h, c, vectors, torch.tensor([1, 3, 3]), count, cell, norm), falling),
        ((u, weight, h, c, vectors, sizes, 2, cell, norm), "expected 3 sequences, got 2"),
        (
            (u, weight.bfloat16(), h, c, vectors, sizes, count, cell, norm),
            "expected weight_hh of the type of u or Float",
        ),
        (
            (u, weight, h, c, vectors, sizes, count, "gru", norm),
            r"expected u \(N, 18\) and weight_hh \(18, 6\)",
        ),
    ]


def small(norm: str = "layer", **options: Any) -> LSTM:
    """Return a small LSTM on the fused kernels."""
    torch.manual_seed(0)
    return LSTM(3, 8, norm=norm, backend="fused", **options)


def gradients(layer: nn.Module, run: Callable[[nn.Module], Any]) -> list[Tensor]:
    """Return the gradient of every parameter; each has to have one."""
    layer.zero_grad()
    run(layer)[0].square().sum().backward()
    found = [p.grad for p in layer.parameters() if p.grad is not None]
    assert len(found) == len(list(layer.parameters()))
    return found


X = torch.linspace(-1, 1, 30).view(5, 2, 3)
