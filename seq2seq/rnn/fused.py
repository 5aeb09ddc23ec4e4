"""The fused kernels, those of cpu/ on the CPU and of triton.py on GPUs: `recurrence` with
`reference`'s signature.

They cover the cells with their default terms and placements of the norm.
`unsupported` says what in a configuration is beyond them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from .cpu.operators import packs
from .normalization import BatchStatistics, Term
from .reference import CellParameters, State

DEVICES = ("cpu", "cuda")
PACKED_FROM = 4
"""Steps from which laying a weight out for all of them pays."""
SEGMENTS = {"lstm": 1, "gru": 2, "rnn": 1}
"""Parts of the input term that are normalised apart: norm.group=vector."""


def unsupported(cell: str, p: CellParameters) -> str | None:
    """What these kernels do not cover; None where they cover everything."""
    autocast = product_type(p.weight_hh.device)
    device, dtype, normalised = p.weight_hh.device, p.weight_hh.dtype, p.ih.kind != "none"
    beyond = {  # not yet formatted: this runs at every call
        "norm.terms=joint": p.joint and cell != "rnn",
        "norm.terms=separate": normalised and not p.joint and cell == "rnn",
        "norm.cell=carried": p.carried,
        "norm.cell=none": normalised and p.c is None and cell == "lstm",
        "norm.group=gate": len(p.ih.segments) > SEGMENTS[cell],
        "device {device}": device.type not in DEVICES,
        "parameters of {dtype}": dtype != torch.float32,
        "functions of torch.func": torch._C._are_functorch_transforms_active(),
        "forward-mode derivatives": forward_ad._current_level >= 0,
        "autocast to {autocast}": autocast not in (torch.float32, torch.bfloat16),
    }
    what = next((what for what, holds in beyond.items() if holds), None)
    return what and what.format(cell=cell, device=device, dtype=dtype, autocast=autocast)


def product_type(device: torch.device) -> torch.dtype:
    """Of products: autocast's where that is on."""
    autocast = device.type in DEVICES and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if autocast else torch.float32


def recurrence(
    cell: str,
    x: Tensor,
    batch_sizes: list[int],
    state: State | None,
    p: CellParameters,
    first_step: int = 0,
) -> tuple[Tensor, State]:
    """`reference.recurrence`, fused, where neither `unsupported` nor `failure` has anything to
    say.
    """
    if p.kept is None:
        return run(cell, x, batch_sizes, state, p, first_step)
    with (
        torch._C._AutoDispatchBelowAutograd()
    ):  # there are no gradients: a step is too short to have them looked for
        return run(cell, x, batch_sizes, state, p, first_step)


def run(
    cell: str,
    x: Tensor,
    batch_sizes: list[int],
    state: State | None,
    p: CellParameters,
    first_step: int,
) -> tuple[Tensor, State]:
    """The same by way of the operators."""
    on_gpu, dtype = x.is_cuda, product_type(x.device)
    pack_weight = len(batch_sizes) >= PACKED_FROM and not on_gpu and packs(dtype)
    ready = prepared(cell, p, dtype, batch_sizes[0])
    x = x.to(dtype)
    u = (
        F.linear(x, ready.weight_ih)
        if on_gpu
        else torch.ops.seq2seq.projection(x, ready.weight_ih, pack_weight)
    )
    h_0, c_0 = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    name = cell if cell != "rnn" else "rnn_relu" if p.activation is torch.relu else "rnn_tanh"
    tensors = (u, ready.weight_hh, h_0, c_0, ready.vectors)
    if p.ih.statistics is None:
        output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(
            *tensors, batch_sizes, name, p.ih.kind, p.ih.eps, pack_weight, saves(tensors)
        )
    else:
        output, h_n, c_n = batch_norm(name, tensors, batch_sizes, p, first_step, pack_weight)
    return output, (h_n, c_n) if cell == "lstm" else (h_n,)


def batch_norm(
    name: str,
    tensors: tuple[Tensor | None, ...],
    batch_sizes: list[int],
    p: CellParameters,
    first_step: int,
    pack_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, h_n and c_n with batch norm, whose statistics come from the layer's terms and go back
    to them.
    """
    u, *others = tensors
    assert u is not None
    assert p.ih.statistics is not None
    normalises_input = not p.ih.statistics.whole_sequence
    if not normalises_input:
        u = p.ih(u.float(), first_step)
    batch_steps = sum(
        map(p.ih.statistics.by_batch, batch_sizes)
    )  # the first ones: sentences end, none begins
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
        u,
        *others,
        *running(p, first_step, len(batch_sizes)),
        batch_sizes,
        batch_steps,
        name,
        p.ih.eps,
        normalises_input,
        pack_weight,
        saves((u, *others)),
    )
    record(p, first_step, batch_sizes[:batch_steps], mean, var, has_state=others[1] is not None)
    return output, h_n, c_n


@dataclass
class Prepared:
    """A cell's parameters as the operators take them."""

    weight_ih: Tensor
    """(G * H, I), of the products' type."""
    weight_hh: Tensor
    """(G * H, H), likewise."""
    vectors: Tensor
    made_of: list[Tensor]
    marks: list[tuple[int, int, int]]
    """Of what it was made of, to see whether that has changed."""


def prepared(cell: str, p: CellParameters, dtype: torch.dtype, rows: int) -> Prepared:
    """What is kept for this type, made anew where a parameter has changed since; where nothing is
    kept, always new.
    """
    parts = [part for term in (p.ih, p.hh, p.c or p.hh) for part in (term.gain, term.bias)]
    sources = [t for t in (p.weight_ih, p.weight_hh, *parts) if t is not None]
    if p.kept is None or any(t.is_inference() for t in sources):  # these have no versions
        return Prepared(p.weight_ih.to(dtype), p.weight_hh.to(dtype), vectors(cell, p), [], [])
    marks = [(id(t), t._version, t.data_ptr()) for t in sources]
    found: Prepared | None = p.kept.get(dtype)
    if found is None or found.marks != marks:
        weight_ih, weight_hh = p.weight_ih.to(dtype), p.weight_hh.to(dtype)
        if not weight_hh.is_cuda and packs(dtype):
            weight_ih, weight_hh = (
                torch.ops.mkldnn._reorder_linear_weight(w, rows) for w in (weight_ih, weight_hh)
            )
        found = p.kept[dtype] = Prepared(weight_ih, weight_hh, vectors(cell, p), sources, marks)
    return found


def vectors(cell: str, p: CellParameters) -> Tensor:
    """Gains and biases in one, in the order of the cell's `Vectors` in cpu/; zeros for what there
    is not.

    The input term's are left out where it is normalised before the recurrence, over the whole
    sequence.
    """
    gates, hidden = p.weight_hh.shape
    with_input = p.ih.statistics is None or not p.ih.statistics.whole_sequence
    bias_ih = p.ih.bias if with_input else None
    given = p.c or Term("none", None, None, 0.0, [])
    parts = {
        "lstm": [
            (p.ih.gain, gates),
            (p.hh.gain, gates),
            (added(bias_ih, p.hh.bias), gates),
            (given.gain, hidden),
            (given.bias, hidden),
        ],
        "gru": [(p.ih.gain, gates), (p.hh.gain, gates), (bias_ih, gates), (p.hh.bias, gates)],
        "rnn": [(p.ih.gain, gates), (added(bias_ih, p.hh.bias), gates)],
    }[cell]
    return torch.cat(
        [p.weight_hh.new_zeros(size) if part is None else part for part, size in parts]
    )


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a + b, where either may be absent."""
    return a if b is None else b if a is None else a + b


def saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether there will be a backward pass."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def statistics_of(p: CellParameters) -> list[BatchStatistics]:
    """Of the input term, the recurrent term and the cell, where there are: F features together, 9H
    in the LSTM.
    """
    return [
        term.statistics
        for term in (p.ih, p.hh, p.c)
        if term is not None and term.statistics is not None
    ]


def running(p: CellParameters, first_step: int, steps: int) -> list[Tensor]:
    """Running means (T, F) and variances (T, F) for so many steps."""
    terms = statistics_of(p)
    rows = [s.running_indices(first_step, steps) for s in terms]
    return [
        torch.cat(
            [rows_of(r, getattr(s, kind).detach()) for s, r in zip(terms, rows, strict=True)], dim=1
        )
        for kind in ("running_mean", "running_var")
    ]


def rows_of(rows: list[int], statistics: Tensor) -> Tensor:
    """Some rows of statistics (S, F), in order; without a copy where they follow each other, or are
    one.
    """
    first, last = rows[0], rows[-1]
    if first == last:
        return statistics[first].expand(len(rows), -1)
    return statistics[first : last + 1] if last - first == len(rows) - 1 else statistics[rows]


@torch.no_grad()
def record(
    p: CellParameters, first_step: int, rows: list[int], mean: Tensor, var: Tensor, has_state: bool
) -> None:
    """Give the terms the means and biased variances (T, F) of the steps normalised by their own, of
    so many rows.
    """
    unbiased = var[: len(rows)] * var.new_tensor([r / (r - 1) for r in rows])[:, None]
    widths = [s.running_mean.size(1) for s in statistics_of(p)]
    parts = zip(
        statistics_of(p),
        mean[: len(rows)].split(widths, dim=1),
        unbiased.split(widths, dim=1),
        strict=True,
    )
    for statistics, means, variances in parts:
        start = 0 if has_state or statistics is not p.hh.statistics else 1
        if (
            not statistics.whole_sequence and len(rows) > start
        ):  # of a whole sequence it has taken note itself
            statistics.record(first_step + start, rows[start:], means[start:], variances[start:])
