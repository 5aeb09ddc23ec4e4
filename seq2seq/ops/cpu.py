"""The fused CPU kernels of csrc/ as PyTorch operators, and `recurrence` with `reference`'s signature on top of them.

They cover the LSTM with no norm, layer norm or rms norm: separate terms, each row normalised whole, the cell on its
way out. `unsupported` says what in a configuration is beyond them.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import build
from .reference import CellParameters, State

NORMS = ("none", "layer", "rms")
KEPT_MOMENTS = 6
"""Of a row: mean and 1 / sqrt(var + eps) of the input term, the recurrent term and the cell."""
TENSORS = 9
"""Come first among the operator's arguments, each with a gradient."""


def unsupported(cell: str, p: CellParameters) -> str | None:
    """What these kernels do not cover; None where they cover everything."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    beyond = {
        f"cell={cell}": cell != "lstm",
        f"norm={p.ih.kind}": p.ih.kind not in NORMS,
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
    h_0, c_0 = (None, None) if state is None else (s.float() for s in state)
    bias = p.ih.bias if p.ih.bias is None or p.hh.bias is None else p.ih.bias + p.hh.bias
    gain_c, bias_c = (None, None) if p.c is None else (p.c.gain, p.c.bias)
    tensors = (u, p.weight_hh.to(u.dtype), h_0, c_0, p.ih.gain, p.hh.gain, bias, gain_c, bias_c)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    output, h_n, c_n, *_ = torch.ops.seq2seq.lstm(*tensors, batch_sizes, p.ih.kind, p.ih.eps, packs(u.dtype), save)
    return output, (h_n, c_n)


# -- what PyTorch has to know about the operators ------------------------------------------------------------------


def failure() -> str | None:
    """None where the operators are there, compiled and loaded if need be; else why they cannot be had."""
    return load()


@functools.cache
def load() -> str | None:
    """Load the operators and tell PyTorch about them, once."""
    if cause := build.failure():
        return cause
    torch.library.register_fake("seq2seq::lstm", lstm_shapes)
    torch.library.register_fake("seq2seq::lstm_backward", lstm_backward_shapes)
    torch.library.register_autograd("seq2seq::lstm", lstm_gradients, setup_context=keep)
    torch.library.register_autograd("seq2seq::lstm_backward", no_second_gradients)
    return None


ANSWERS: tuple[Any, ...] = (packs, failure)
for answer in ANSWERS:  # to torch.compile they are constants: as by its assume_constant_result, which imports it all
    answer._dynamo_marked_constant = True


def lstm_shapes(u: Tensor, weight_hh: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Empty outputs of seq2seq::lstm."""
    *_, batch_sizes, _, _, _, save = inputs
    floats = functools.partial(u.new_empty, dtype=torch.float32)
    rows, hidden, sequences = u.size(0), weight_hh.size(1), batch_sizes[0]
    kept = rows if save else 0
    return (floats(rows, hidden), floats(sequences, hidden), floats(sequences, hidden),
            u.new_empty(kept, u.size(1)), floats(kept, hidden), floats(kept, KEPT_MOMENTS))


def lstm_backward_shapes(d_output: Any, d_h_n: Any, d_c_n: Any, u: Tensor, weight_hh: Tensor,
                         *inputs: Any) -> tuple[Tensor, ...]:
    """Empty outputs of seq2seq::lstm_backward."""
    *_, batch_sizes, _, _, _ = inputs
    floats = functools.partial(u.new_empty, dtype=torch.float32)
    gates, hidden, sequences = u.size(1), weight_hh.size(1), batch_sizes[0]
    vectors = [floats(size) for size in (gates, gates, gates, hidden, hidden)]
    return (torch.empty_like(u), torch.empty_like(weight_hh), floats(sequences, hidden), floats(sequences, hidden),
            *vectors)


def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass needs: all tensors that came in, and of the outputs all but the last states."""
    ctx.save_for_backward(*inputs[:TENSORS], output[0], *output[3:])
    ctx.settings = inputs[TENSORS:-1]


def lstm_gradients(ctx: Any, d_output: Tensor | None, d_h_n: Tensor | None, d_c_n: Tensor | None,
                   *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of seq2seq::lstm's arguments."""
    gradients = torch.ops.seq2seq.lstm_backward(d_output, d_h_n, d_c_n, *ctx.saved_tensors, *ctx.settings)
    wanted = [g if needed else None for g, needed in zip(gradients, ctx.needs_input_grad, strict=False)]
    return *wanted, *[None] * (len(ctx.settings) + 1)


def no_second_gradients(ctx: Any, *_: Any) -> None:
    """Gradients of gradients are the reference's business."""
    raise RuntimeError("the fused LSTM has no second derivatives: build the layer with backend='reference'")
