"""The fused CPU kernels of csrc/ as PyTorch operators, and `recurrence` with `reference`'s signature on top of them.

They cover the LSTM: separate terms, each row normalised whole (or each feature, with batch norm), the cell on its way
out. `unsupported` says what in a configuration is beyond them.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import build
from .normalization import BatchStatistics
from .reference import CellParameters, State

Vectors = tuple[Tensor | None, ...]
"""gain_ih, gain_hh, bias (both in one), gain_c, bias_c."""
KEPT_MOMENTS = 6
"""Of a row: mean and 1 / sqrt(var + eps) of the input term, the recurrent term and the cell."""
PACKED_FROM = 4
"""Steps from which laying a weight out for all of them pays."""
TENSORS = 9
"""Come first among an operator's arguments, each with a gradient."""


def unsupported(cell: str, p: CellParameters) -> str | None:
    """What these kernels do not cover; None where they cover everything."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    beyond = {
        f"cell={cell}": cell != "lstm",
        "norm.terms=joint": p.joint,
        "norm.cell=carried": p.carried,
        "norm.cell=none": p.c is None and p.ih.kind != "none",
        "norm.group=gate": len(p.ih.segments) > 1,
        f"device {p.weight_hh.device}": p.weight_hh.device.type != "cpu",
        f"parameters of {p.weight_hh.dtype}": p.weight_hh.dtype != torch.float32,
        f"autocast to {autocast}": autocast not in (torch.float32, torch.bfloat16),
    }
    return next((what for what, holds in beyond.items() if holds), None)


def packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch can lay a weight of this type out once for the products of all steps."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def recurrence(
    cell: str, x: Tensor, batch_sizes: list[int], state: State | None, p: CellParameters, first_step: int = 0
) -> tuple[Tensor, State]:
    """`reference.recurrence`, fused, where neither `unsupported` nor `failure` has anything to say."""
    u = F.linear(x, p.weight_ih)
    weight_hh = p.weight_hh.to(u.dtype)
    h_0, c_0 = (None, None) if state is None else (s.float() for s in state)
    packed = len(batch_sizes) >= PACKED_FROM and packs(u.dtype)
    if p.ih.statistics is not None:
        return batch_norm(u, weight_hh, h_0, c_0, batch_sizes, p, first_step, packed)
    tensors = (u, weight_hh, h_0, c_0, *vectors(p))
    settings = (p.ih.kind, p.ih.eps, packed, saves(tensors))
    output, h_n, c_n, *_ = torch.ops.seq2seq.lstm(*tensors, batch_sizes, *settings)
    return output, (h_n, c_n)


def batch_norm(u: Tensor, weight_hh: Tensor, h_0: Tensor | None, c_0: Tensor | None, batch_sizes: list[int],
               p: CellParameters, first_step: int, packed: bool) -> tuple[Tensor, State]:
    """The same with batch norm, whose statistics come from the layer's terms and go back to them."""
    assert p.ih.statistics is not None
    gain_ih, gain_hh, bias, gain_c, bias_c = vectors(p)
    if p.ih.statistics.whole_sequence:
        u = p.ih(u.float(), first_step)
        gain_ih, bias = None, p.hh.bias
    tensors = (u, weight_hh, h_0, c_0, gain_ih, gain_hh, bias, gain_c, bias_c)
    batch_steps = sum(map(p.ih.statistics.by_batch, batch_sizes))  # the first ones: sentences end, none begins
    given = running(p, first_step, len(batch_sizes))
    output, h_n, c_n, _, _, mean, var = torch.ops.seq2seq.lstm_batch(
        *tensors, *given, batch_sizes, batch_steps, p.ih.eps, packed, saves(tensors))
    record(p, first_step, batch_sizes[:batch_steps], mean, var, h_0 is not None)
    return output, (h_n, c_n)


def vectors(p: CellParameters) -> Vectors:
    """The cell's vectors, as the operators take them."""
    bias = p.ih.bias if p.ih.bias is None or p.hh.bias is None else p.ih.bias + p.hh.bias
    return (p.ih.gain, p.hh.gain, bias, *((None, None) if p.c is None else (p.c.gain, p.c.bias)))


def saves(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether there will be a backward pass."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def statistics_of(p: CellParameters) -> list[BatchStatistics]:
    """Of the input term, the recurrent term and the cell: (4H, 4H, H) features wide."""
    return [term.statistics for term in (p.ih, p.hh, p.c) if term is not None and term.statistics is not None]


def running(p: CellParameters, first_step: int, steps: int) -> list[Tensor]:
    """Running means (T, 9H) and variances (T, 9H) for so many steps."""
    rows = [torch.tensor([s.running_index(first_step + t) for t in range(steps)]) for s in statistics_of(p)]
    return [torch.cat([getattr(s, kind)[index] for s, index in zip(statistics_of(p), rows, strict=True)], dim=1)
            for kind in ("running_mean", "running_var")]


def record(p: CellParameters, first_step: int, rows: list[int], mean: Tensor, var: Tensor, has_state: bool) -> None:
    """Give the terms the means and biased variances (T, 9H) of the steps normalised by their own, of so many rows."""
    unbiased = var[: len(rows)] * torch.tensor([r / (r - 1) for r in rows])[:, None]
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
    return load()


@functools.cache
def load() -> str | None:
    """Load the operators and tell PyTorch about them, once."""
    if cause := build.failure():
        return cause
    for name, kept, settings in (("lstm", row_kept, TENSORS), ("lstm_batch", column_kept, TENSORS + 2)):
        torch.library.register_fake(f"seq2seq::{name}", functools.partial(shapes, kept))
        torch.library.register_fake(f"seq2seq::{name}_backward", backward_shapes)
        torch.library.register_autograd(f"seq2seq::{name}", functools.partial(gradients, name),
                                        setup_context=functools.partial(keep, settings))
        torch.library.register_autograd(f"seq2seq::{name}_backward", no_second_gradients)
    return None


ANSWERS: tuple[Any, ...] = (packs, failure)
for answer in ANSWERS:  # to torch.compile they are constants: as by its assume_constant_result, which imports it all
    answer._dynamo_marked_constant = True


def row_kept(floats: Callable[..., Tensor], kept: int, *_: Any) -> list[Tensor]:
    """What seq2seq::lstm keeps of its norms: the moments of each row."""
    return [floats(kept, KEPT_MOMENTS)]


def column_kept(floats: Callable[..., Tensor], _: int, mean: Tensor, *__: Any) -> list[Tensor]:
    """What seq2seq::lstm_batch keeps of its norms: mean and variance of each step."""
    return [floats(*mean.shape), floats(*mean.shape)]


def shapes(norms: Callable[..., list[Tensor]], u: Tensor, weight_hh: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Empty outputs of an operator."""
    batch_sizes = next(i for i in inputs if isinstance(i, (list, tuple)))
    save: bool = inputs[-1]
    floats = functools.partial(u.new_empty, dtype=torch.float32)
    rows, hidden, sequences = u.size(0), weight_hh.size(1), batch_sizes[0]
    kept = rows if save else 0
    return (floats(rows, hidden), floats(sequences, hidden), floats(sequences, hidden),
            weight_hh.new_empty(kept, u.size(1)), floats(kept, hidden), *norms(floats, kept, *inputs[TENSORS - 2:]))


def backward_shapes(d_output: Any, d_h_n: Any, d_c_n: Any, u: Tensor, weight_hh: Tensor,
                    *inputs: Any) -> tuple[Tensor, ...]:
    """Empty outputs of an operator's backward pass."""
    batch_sizes = next(i for i in inputs if isinstance(i, (list, tuple)))
    weight_grad: bool = inputs[-1]
    floats = functools.partial(u.new_empty, dtype=torch.float32)
    gates, hidden, sequences = u.size(1), weight_hh.size(1), batch_sizes[0]
    vectors = [floats(size) for size in (gates, gates, gates, hidden, hidden)]
    dweight = torch.empty_like(weight_hh) if weight_grad else weight_hh.new_empty(0)
    return torch.empty_like(u), dweight, floats(sequences, hidden), floats(sequences, hidden), *vectors


def keep(settings_from: int, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass needs: the tensors that came in, and of the outputs all but the last states."""
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
    raise RuntimeError("the fused LSTM has no second derivatives: build the layer with backend='reference'")
