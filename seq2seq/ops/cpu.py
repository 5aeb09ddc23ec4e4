"""The fused CPU kernels of csrc/ as PyTorch operators, and `recurrence` with `reference`'s signature on top of them.

They cover the cells with their default terms and placements of the norm, but for batch norm in GRU and RNN.
`unsupported` says what in a configuration is beyond them.
"""

import functools
import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from . import build
from .normalization import BatchStatistics, Term
from .reference import CellParameters, State

PACKED_FROM = 4
"""Steps from which laying a weight out for all of them pays."""
TENSORS = 5
"""Come first among an operator's arguments, each with a gradient: u, weight_hh, h_0, c_0, vectors."""
MOMENTS = {"lstm": 6, "gru": 8, "rnn_tanh": 2, "rnn_relu": 2}
"""Numbers kept of a row: mean and 1 / sqrt(var + eps) of each part that is normalised."""
SEGMENTS = {"lstm": 1, "gru": 2, "rnn": 1}
"""Parts of the input term that are normalised apart: norm.group=vector."""

LOCK = threading.Lock()
"""The operators are loaded by one thread."""


def unsupported(cell: str, p: CellParameters) -> str | None:
    """What these kernels do not cover; None where they cover everything."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    device, dtype, normalised = p.weight_hh.device, p.weight_hh.dtype, p.ih.kind != "none"
    beyond = {  # not yet formatted: this runs at every call
        "norm=batch with cell={cell}": p.ih.kind == "batch" and cell != "lstm",
        "norm.terms=joint": p.joint and cell != "rnn",
        "norm.terms=separate": normalised and not p.joint and cell == "rnn",
        "norm.cell=carried": p.carried,
        "norm.cell=none": normalised and p.c is None and cell == "lstm",
        "norm.group=gate": len(p.ih.segments) > SEGMENTS[cell],
        "device {device}": device.type != "cpu",
        "parameters of {dtype}": dtype != torch.float32,
        "functions of torch.func": torch._C._are_functorch_transforms_active(),
        "forward-mode derivatives": forward_ad._current_level >= 0,
        "autocast to {autocast}": autocast not in (torch.float32, torch.bfloat16),
    }
    what = next((what for what, holds in beyond.items() if holds), None)
    return what and what.format(cell=cell, device=device, dtype=dtype, autocast=autocast)


def packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch can lay a weight of this type out once for the products of all steps."""
    onednn = torch.backends.mkldnn
    if not (onednn.is_available() and onednn.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def recurrence(
    cell: str, x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters, first_step: int = 0
) -> tuple[Tensor, State]:
    """`reference.recurrence`, fused, where neither `unsupported` nor `failure` has anything to say."""
    u = F.linear(x, p.weight_ih)
    weight_hh = p.weight_hh.to(u.dtype)
    h_0, c_0 = (*(() if state is None else (s.float() for s in state)), None, None)[:2]
    pack_weight = len(batch_sizes) >= PACKED_FROM and packs(u.dtype)
    if p.ih.statistics is not None:
        return batch_norm(u, weight_hh, h_0, c_0, batch_sizes, p, first_step, pack_weight)
    name = cell if cell != "rnn" else "rnn_relu" if p.activation is torch.relu else "rnn_tanh"
    tensors = (u, weight_hh, h_0, c_0, vectors(cell, p))
    settings = (name, p.ih.kind, p.ih.eps, pack_weight, saves(tensors))
    output, h_n, c_n, *_ = torch.ops.seq2seq.recurrence(*tensors, batch_sizes, *settings)
    return output, (h_n, c_n) if cell == "lstm" else (h_n,)


def batch_norm(u: Tensor, weight_hh: Tensor, h_0: Tensor | None, c_0: Tensor | None, batch_sizes: list[int],
               p: CellParameters, first_step: int, pack_weight: bool) -> tuple[Tensor, State]:
    """The LSTM with batch norm, whose statistics come from the layer's terms and go back to them."""
    assert p.ih.statistics is not None
    normalises_input = not p.ih.statistics.whole_sequence
    if not normalises_input:
        u = p.ih(u.float(), first_step)
    tensors = (u, weight_hh, h_0, c_0, vectors("lstm", p, normalises_input))
    batch_steps = sum(map(p.ih.statistics.by_batch, batch_sizes))  # the first ones: sentences end, none begins
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.batch_norm_recurrence(
        *tensors, *running(p, first_step, len(batch_sizes)), batch_sizes, batch_steps, p.ih.eps, normalises_input,
        pack_weight, saves(tensors))
    record(p, first_step, batch_sizes[:batch_steps], mean, var, h_0 is not None)
    return output, (h_n, c_n)


def vectors(cell: str, p: CellParameters, with_input: bool = True) -> Tensor:
    """Gains and biases in one, in the order of the cell's `Vectors` in csrc/; zeros for what there is not.

    with_input: else the input term's own are left out, since it has been normalised already.
    """
    gates, hidden = p.weight_hh.shape
    bias_ih = p.ih.bias if with_input else None
    given = p.c or Term("none", None, None, 0.0, [])
    parts = {
        "lstm": [(p.ih.gain, gates), (p.hh.gain, gates), (added(bias_ih, p.hh.bias), gates), (given.gain, hidden),
                 (given.bias, hidden)],
        "gru": [(p.ih.gain, gates), (p.hh.gain, gates), (bias_ih, gates), (p.hh.bias, gates)],
        "rnn": [(p.ih.gain, gates), (added(bias_ih, p.hh.bias), gates)],
    }[cell]
    return torch.cat([p.weight_hh.new_zeros(size) if part is None else part for part, size in parts])


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """a + b, where either may be absent."""
    return a if b is None else b if a is None else a + b


def saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether there will be a backward pass."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def statistics_of(p: CellParameters) -> list[BatchStatistics]:
    """Of the input term, the recurrent term and the cell: (4H, 4H, H) features wide."""
    return [term.statistics for term in (p.ih, p.hh, p.c) if term is not None and term.statistics is not None]


def running(p: CellParameters, first_step: int, steps: int) -> list[Tensor]:
    """Running means (T, 9H) and variances (T, 9H) for so many steps."""
    rows = [s.num_updates.new_tensor([s.running_index(first_step + t) for t in range(steps)])
            for s in statistics_of(p)]
    terms = list(zip(statistics_of(p), rows, strict=True))
    return [torch.cat([getattr(s, kind).detach()[index] for s, index in terms], dim=1)
            for kind in ("running_mean", "running_var")]


@torch.no_grad()
def record(p: CellParameters, first_step: int, rows: list[int], mean: Tensor, var: Tensor, has_state: bool) -> None:
    """Give the terms the means and biased variances (T, 9H) of the steps normalised by their own, of so many rows."""
    unbiased = var[: len(rows)] * var.new_tensor([r / (r - 1) for r in rows])[:, None]
    widths = [s.running_mean.size(1) for s in statistics_of(p)]
    parts = zip(statistics_of(p), mean.split(widths, dim=1), unbiased.split(widths, dim=1), strict=True)
    for statistics, means, variances in parts:
        is_recurrent = p.hh.statistics is statistics
        if statistics.whole_sequence:
            continue  # it has taken note itself
        for t in range(0 if has_state or not is_recurrent else 1, len(rows)):
            statistics.record(first_step + t, rows[t], means[t], variances[t])


# -- what PyTorch has to know about the operators ------------------------------------------------------------------


def failure() -> str | None:
    """None where the operators are there, compiled and loaded if need be; else why they cannot be had."""
    with LOCK:
        return load()


@functools.cache
def load() -> str | None:
    """Load the operators and tell PyTorch about them, once."""
    if cause := build.failure():
        return cause
    operators = (("recurrence", row_shapes, TENSORS), ("batch_norm_recurrence", column_shapes, TENSORS + 2))
    for name, shapes, settings in operators:
        torch.library.register_fake(f"seq2seq::{name}", shapes)
        torch.library.register_fake(f"seq2seq::{name}_backward", backward_shapes)
        torch.library.register_autograd(f"seq2seq::{name}", functools.partial(gradients, name),
                                        setup_context=functools.partial(keep, settings))
        torch.library.register_autograd(f"seq2seq::{name}_backward", no_second_gradients)
    return None


ANSWERS: tuple[Any, ...] = (packs, failure)
for answer in ANSWERS:  # to torch.compile they are constants: as by its assume_constant_result, which imports it all
    answer._dynamo_marked_constant = True


def row_shapes(u: Tensor, weight_hh: Tensor, h_0: Any, c_0: Any, vectors: Tensor, batch_sizes: list[int], cell: str,
               norm: str, eps: float, pack_weight: bool, save: bool) -> tuple[Tensor, ...]:
    """Empty outputs of seq2seq::recurrence."""
    moments = vectors.new_empty(u.size(0) if save else 0, MOMENTS[cell])
    return *shapes(u, weight_hh, vectors, batch_sizes[0], cell == "lstm", save), moments


def column_shapes(u: Tensor, weight_hh: Tensor, h_0: Any, c_0: Any, vectors: Tensor, mean: Tensor, var: Tensor,
                  batch_sizes: list[int], batch_steps: int, eps: float, normalises_input: bool, pack_weight: bool,
                  save: bool) -> tuple[Tensor, ...]:
    """Empty outputs of seq2seq::batch_norm_recurrence."""
    return *shapes(u, weight_hh, vectors, batch_sizes[0], True, save), torch.empty_like(mean), torch.empty_like(var)


def shapes(u: Tensor, weight_hh: Tensor, vectors: Tensor, sequences: int, has_cell: bool,
           save: bool) -> tuple[Tensor, ...]:
    """Empty output, h_n, c_n, z and c of either."""
    rows, hidden, kept = u.size(0), weight_hh.size(1), u.size(0) if save else 0
    return (vectors.new_empty(rows, hidden), vectors.new_empty(sequences, hidden),
            vectors.new_empty(sequences if has_cell else 0, hidden), weight_hh.new_empty(kept, u.size(1)),
            vectors.new_empty(kept if has_cell else 0, hidden))


def backward_shapes(d_output: Any, d_h_n: Any, d_c_n: Any, u: Tensor, weight_hh: Tensor, h_0: Any, c_0: Any,
                    vectors: Tensor, output: Tensor, z: Tensor, c: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Empty outputs of an operator's backward pass."""
    batch_sizes = next(i for i in inputs if isinstance(i, (list, tuple)))
    weight_grad: bool = inputs[-1]
    hidden, sequences = weight_hh.size(1), batch_sizes[0]
    dweight = torch.empty_like(weight_hh) if weight_grad else weight_hh.new_empty(0)
    return (torch.empty_like(u), dweight, output.new_empty(sequences, hidden),
            output.new_empty(sequences if len(c) else 0, hidden), torch.empty_like(vectors))


def keep(settings_from: int, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass needs: the tensors that came in, and of the outputs all but the last states."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:TENSORS], output[0], *output[3:])
    ctx.settings = inputs[settings_from:-1]
    ctx.arguments = len(inputs)


def gradients(name: str, ctx: Any, d_output: Tensor | None, d_h_n: Tensor | None, d_c_n: Tensor | None,
              *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of an operator's arguments."""
    backward = getattr(torch.ops.seq2seq, f"{name}_backward")
    found = backward(d_output, d_h_n, d_c_n, *ctx.saved_tensors, *ctx.settings, ctx.needs_input_grad[1])
    wanted = [g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=False)]
    return *wanted, *[None] * (ctx.arguments - TENSORS)


def no_second_gradients(ctx: Any, *_: Any) -> None:
    """Gradients of gradients are the reference's business."""
    raise RuntimeError("the fused kernels have no second derivatives: build the layer with backend='reference'")
