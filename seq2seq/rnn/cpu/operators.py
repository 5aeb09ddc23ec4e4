"""The fused operators as PyTorch sees them: loading, shapes of results, and gradients.

The schemas are in cpu/*.cpp. Each operator has a fake implementation for torch.compile and
torch.export, and a backward operator. u, z and other symbols are those of `reference.py`.
"""

import functools
import importlib.util
import threading
from typing import Any

import torch
from torch import Tensor

from . import build

TENSORS = 5
"""First arguments of a recurrence, each with a gradient: u, weight_hh, h_0, c_0, vectors."""
MOMENTS = {"lstm": 6, "gru": 8, "rnn_tanh": 2, "rnn_relu": 2}
"""Numbers saved per row: mean and 1 / sqrt(var + eps) of each normalised part."""

PACKED_ROWS = 64
"""Number of rows that a kept weight is packed for. It is fixed, so that no result depends on the
batch; with other numbers of rows the product is as fast.
"""

LOCK = threading.Lock()
"""Held while the operators load."""


def failure() -> str | None:
    """Load the operators, compiled first if need be; return why that failed, or None."""
    with LOCK:
        return load()


@functools.cache
def load() -> str | None:
    """Load the operators and register their fakes and gradients, once."""
    if cause := build.failure():
        return cause
    operators = (
        ("recurrence", row_shapes, TENSORS),
        ("batch_norm_recurrence", column_shapes, TENSORS + 2),
    )
    for name, shapes, settings in operators:
        torch.library.register_fake(f"seq2seq::{name}", shapes)
        torch.library.register_fake(f"seq2seq::{name}_backward", backward_shapes)
        torch.library.register_autograd(
            f"seq2seq::{name}",
            functools.partial(gradients, name),
            setup_context=functools.partial(keep, settings),
        )
        torch.library.register_autograd(f"seq2seq::{name}_backward", no_second_gradients)
    torch.library.register_fake("seq2seq::batch_norm_inference", inference_shapes)
    torch.library.register_fake(
        "seq2seq::projection", lambda x, weight, _: x.new_empty(x.size(0), weight.size(0))
    )
    torch.library.register_fake("seq2seq::projection_backward", projection_shapes)
    torch.library.register_autograd(
        "seq2seq::projection", projection_gradients, setup_context=keep_projection
    )
    torch.library.register_autograd("seq2seq::projection_backward", no_second_gradients)
    return None


def packs(dtype: torch.dtype) -> bool:
    """Return whether PyTorch can pack a weight of a type once for the products of all steps."""
    onednn = torch.backends.mkldnn
    if not (
        onednn.is_available() and onednn.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def packed(weight: Tensor) -> Tensor:
    """Return a weight (out, in) of a type that `packs`, in the layout of oneDNN's products."""
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_ROWS)
    return found


def recurring_rows(rows: int) -> int:
    """Return the number of rows, these or a few more, that a product of oneDNN should have.

    oneDNN keeps half a megabyte of code for each shape for ever; see products.h, which has the same
    rule.
    """
    step = 1 if rows <= 4 else 4 if rows <= 64 else 16 if rows <= 256 else 64
    return -(-rows // step) * step


@functools.cache
def gpu_failure() -> str | None:
    """Register the operators for CUDA tensors; return why that failed, or None."""
    if cause := failure():
        return cause
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed; PyTorch's builds for CUDA install it"
    from ..gpu import operators as triton

    triton.register()
    return None


# To torch.compile these are constants, as with its assume_constant_result, which imports all of it.
CONSTANTS: tuple[Any, ...] = (packs, failure, gpu_failure)
for constant in CONSTANTS:
    constant._dynamo_marked_constant = True


def row_shapes(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    batch_sizes: list[int],
    cell: str,
    norm: str,
    eps: float,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::recurrence."""
    moments = vectors.new_empty(u.size(0) if save else 0, MOMENTS[cell])
    return *shapes(u, weight_hh, vectors, batch_sizes[0], cell == "lstm", save), moments


def column_shapes(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    mean: Tensor,
    var: Tensor,
    batch_sizes: list[int],
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    pack_weight: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::batch_norm_recurrence."""
    first = shapes(u, weight_hh, vectors, batch_sizes[0], cell == "lstm", save)
    return *first, torch.empty_like(mean), torch.empty_like(var)


def inference_shapes(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    mean: Tensor,
    var: Tensor,
    places: Tensor,
    batch_sizes: list[int],
    cell: str,
    *settings: Any,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::batch_norm_inference."""
    return shapes(u, weight_hh, vectors, batch_sizes[0], cell == "lstm", False)[:3]


def shapes(
    u: Tensor, weight_hh: Tensor, vectors: Tensor, sequences: int, has_cell: bool, save: bool
) -> tuple[Tensor, ...]:
    """Return empty output, h_n, c_n, z and c of either operator."""
    rows, hidden, kept = u.size(0), weight_hh.size(1), u.size(0) if save else 0
    return (
        vectors.new_empty(rows, hidden),
        vectors.new_empty(sequences, hidden),
        vectors.new_empty(sequences if has_cell else 0, hidden),
        weight_hh.new_empty(kept, u.size(1)),
        vectors.new_empty(kept if has_cell else 0, hidden),
    )


def backward_shapes(
    d_output: Any,
    d_h_n: Any,
    d_c_n: Any,
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    *inputs: Any,
) -> tuple[Tensor, ...]:
    """Return empty outputs of an operator's backward pass."""
    batch_sizes = next(i for i in inputs if isinstance(i, (list, tuple)))
    weight_grad: bool = inputs[-1]
    hidden, sequences = weight_hh.size(1), batch_sizes[0]
    dweight = torch.empty_like(weight_hh) if weight_grad else weight_hh.new_empty(0)
    return (
        torch.empty_like(u),
        dweight,
        output.new_empty(sequences, hidden),
        output.new_empty(sequences if len(c) else 0, hidden),
        torch.empty_like(vectors),
    )


def keep(settings_from: int, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save for the backward pass the tensor arguments, and all outputs but the last states."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:TENSORS], output[0], *output[3:])
    ctx.settings = inputs[settings_from:-1]
    ctx.arguments = len(inputs)


def gradients(
    name: str,
    ctx: Any,
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    *_: Any,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of an operator's arguments."""
    backward = getattr(torch.ops.seq2seq, f"{name}_backward")
    found = backward(
        d_output, d_h_n, d_c_n, *ctx.saved_tensors, *ctx.settings, ctx.needs_input_grad[1]
    )
    wanted = [g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=False)]
    return *wanted, *[None] * (ctx.arguments - TENSORS)


def projection_shapes(
    du: Tensor, x: Tensor, weight: Tensor, onednn: bool, x_grad: bool, weight_grad: bool
) -> tuple[Tensor, Tensor]:
    """Return empty outputs of seq2seq::projection_backward."""
    return x.new_empty(x.shape if x_grad else 0), x.new_empty(weight.shape if weight_grad else 0)


def keep_projection(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Save the arguments for the backward pass."""
    *tensors, ctx.onednn = inputs
    ctx.save_for_backward(*tensors)


def projection_gradients(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the arguments of seq2seq::projection."""
    needed = ctx.needs_input_grad[:2]
    found = torch.ops.seq2seq.projection_backward(
        du.contiguous(), *ctx.saved_tensors, ctx.onednn, *needed
    )
    return *(g if is_needed else None for g, is_needed in zip(found, needed, strict=True)), None


def no_second_gradients(ctx: Any, *_: Any) -> None:
    """Raise RuntimeError: the backward passes have no gradients."""
    raise RuntimeError(
        "the fused kernels have no second derivatives: build the layer with backend='reference'"
    )
