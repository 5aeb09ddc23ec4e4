"""The fused operators as PyTorch sees them: loading, shapes of results, and gradients.

The schemas are in cpu/*.cpp. Each operator has a fake implementation for torch.compile and
torch.export, and a backward operator. u, z and other symbols are those of `reference.py`.
"""

import functools
import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..packing import Layout
from . import build, plain_gradients
from .vectors import LENGTHS, PLACES, cell_of, has_cell

TENSORS = 6
"""First arguments of a recurrence: u, weight_hh, h_0, c_0, vectors, batch_sizes; all but the last
have gradients.
"""
WEIGHTS = 5
"""First tensors of a recurrence with its input term: x, weight_ih, weight_hh, h_0, c_0."""
MOMENTS = {"lstm": 6, "lstm_plain_cell": 6, "gru": 8, "rnn_tanh": 2, "rnn_relu": 2}
"""Numbers saved per row: mean and 1 / sqrt(var + eps) of each normalised part."""

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
        torch.library.register_fake(f"seq2seq::{name}s", functools.partial(shapes_of_each, shapes))
        torch.library.register_fake(f"seq2seq::{name}s_backward", backward_shapes_of_each)
    torch.library.register_fake("seq2seq::batch_norm_inference", inference_shapes)
    torch.library.register_fake("seq2seq::running_statistics", shapes_of_statistics)
    torch.library.register_fake("seq2seq::average_statistics", lambda *_: None)
    torch.library.register_fake(
        "seq2seq::projection", lambda x, weight: x.new_empty(x.size(0), weight.size(0))
    )
    torch.library.register_fake("seq2seq::projection_backward", projection_shapes)
    torch.library.register_autograd(
        "seq2seq::projection", projection_gradients, setup_context=keep_projection
    )
    torch.library.register_autograd("seq2seq::projection_backward", no_second_gradients)
    return None


def packs(dtype: torch.dtype) -> bool:
    """Return whether the kernels have products of a type with packed weights on this machine."""
    own = torch.backends.cpu.get_cpu_capability() in build.VECTOR_FLAGS
    return own and dtype in (torch.float32, torch.bfloat16)


def packed(weight: Tensor) -> Tensor:
    """Return a weight (out, in) of a type that `packs`, in the layout of the kernels' products."""
    found: Tensor = torch.ops.seq2seq.packed(weight)
    return found


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
    batch_sizes: Tensor,
    sequences: int,
    cell: str,
    norm: str,
    eps: float,
    save: bool,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::recurrence."""
    moments = vectors.new_empty(u.size(0) if save else 0, MOMENTS[cell])
    return *shapes(u, weight_hh, vectors, sequences, has_cell(cell), save), moments


def column_shapes(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    batch_sizes: Tensor,
    mean: Tensor,
    var: Tensor,
    sequences: int,
    batch_steps: int,
    cell: str,
    eps: float,
    normalises_input: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::batch_norm_recurrence."""
    first = shapes(u, weight_hh, vectors, sequences, has_cell(cell), save)
    return *first, torch.empty_like(mean), torch.empty_like(var)


def inference_shapes(
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    batch_sizes: Tensor,
    mean: Tensor,
    var: Tensor,
    places: Tensor,
    sequences: int,
    cell: str,
    *settings: Any,
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::batch_norm_inference."""
    return shapes(u, weight_hh, vectors, sequences, has_cell(cell), False)[:3]


def shapes(
    u: Tensor, weight_hh: Tensor, vectors: Tensor, sequences: int, has_cell: bool, save: bool
) -> tuple[Tensor, ...]:
    """Return empty output, h_n, c_n, z and c of either operator."""
    rows, hidden, kept = u.size(0), weight_hh.size(1), u.size(0) if save else 0
    products = weight_hh.dtype if u.dtype is torch.float32 else u.dtype
    return (
        vectors.new_empty(rows, hidden),
        vectors.new_empty(sequences, hidden),
        vectors.new_empty(sequences if has_cell else 0, hidden),
        u.new_empty(kept, u.size(1), dtype=products),
        vectors.new_empty(kept if has_cell else 0, hidden),
    )


def shapes_of_statistics(
    means: list[Tensor], variances: list[Tensor], first_step: int, steps: int, last: list[int]
) -> tuple[Tensor, Tensor]:
    """Return empty running means and variances of steps, of all terms side by side."""
    width = sum(m.size(1) for m in means)
    return means[0].new_empty(steps, width), variances[0].new_empty(steps, width)


def backward_shapes(
    d_output: Any,
    d_h_n: Any,
    d_c_n: Any,
    u: Tensor,
    weight_hh: Tensor,
    h_0: Any,
    c_0: Any,
    vectors: Tensor,
    batch_sizes: Tensor,
    output: Tensor,
    z: Tensor,
    c: Tensor,
    *inputs: Any,
) -> tuple[Tensor, ...]:
    """Return empty outputs of an operator's backward pass."""
    sequences, *settings = [i for i in inputs if not isinstance(i, Tensor)]
    cell = next(s for s in settings if isinstance(s, str))
    weight_grad, hidden = settings[-1], weight_hh.size(1)
    dweight = torch.empty_like(weight_hh) if weight_grad else weight_hh.new_empty(0)
    return (
        torch.empty_like(u),
        dweight,
        output.new_empty(sequences, hidden),
        output.new_empty(sequences if has_cell(cell) else 0, hidden),
        torch.empty_like(vectors),
    )


def shapes_of_each(
    shapes_of_one: Any,
    tensors: Sequence[Any],
    batch_sizes: Tensor,
    sequences: int,
    width: int,
    *settings: Any,
) -> list[Tensor]:
    """Return empty outputs of the operator of one recurrence or two: see recurrences.py."""
    cell = cell_of(next(s for s in settings if isinstance(s, str)))
    with_statistics = shapes_of_one is column_shapes
    count = WEIGHTS + len(PLACES[cell]) + 2 * with_statistics
    found: list[Tensor] = []
    for i in range(0, len(tensors), count):
        x, weight_ih, weight_hh, h_0, c_0, *others = tensors[i : i + count]
        typed = x if x.is_floating_point() else weight_ih  # x may be rows of a table
        u = typed.new_empty(x.size(0), width)
        vectors = u.new_empty(sum(LENGTHS[cell]) * weight_hh.size(1), dtype=torch.float32)
        operands = [u, weight_hh, h_0, c_0, vectors, batch_sizes, sequences, *settings]
        if with_statistics:
            own_steps, width_of_all = settings[0], others[-1].size(1)
            operands[6:6] = [vectors.new_empty(own_steps, width_of_all) for _ in range(2)]
        found += [*shapes_of_one(*operands), u, vectors]
    return found


def backward_shapes_of_each(incoming: Any, tensors: Sequence[Any], *_: Any) -> list[Tensor]:
    """Return empty outputs of the backward pass of one recurrence or two."""
    like = next(t for t in tensors if t is not None)
    return [like.new_empty(0) if t is None else torch.empty_like(t) for t in tensors]


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
    if in_plain_torch(d_output, d_h_n, d_c_n):
        *tensors, batch_sizes = ctx.saved_tensors[:TENSORS]
        upstream, statistics = (d_output, d_h_n, d_c_n), ctx.saved_tensors[-2:]
        again = differentiable(name, upstream, tensors, batch_sizes, statistics, ctx.settings)
        return *again, *[None] * (ctx.arguments - len(again))
    backward = getattr(torch.ops.seq2seq, f"{name}_backward")
    found = backward(
        d_output, d_h_n, d_c_n, *ctx.saved_tensors, *ctx.settings, ctx.needs_input_grad[1]
    )
    wanted = [g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=False)]
    return *wanted, *[None] * (ctx.arguments - len(wanted))


def in_plain_torch(*upstream: Tensor | None) -> bool:
    """Return whether a backward pass runs without the kernels: it is differentiated, or batched.

    create_graph=True differentiates it. is_grads_batched=True, as jacobian(vectorize=True) has it,
    makes many backward passes one.
    """
    return torch.is_grad_enabled() or any(
        d is not None and torch._C._functorch.is_legacy_batchedtensor(d) for d in upstream
    )


def differentiable(
    name: str,
    upstream: tuple[Tensor | None, ...],
    tensors: Sequence[Tensor | None],
    batch_sizes: Tensor,
    statistics: Sequence[Tensor],
    settings: tuple[Any, ...],
) -> list[Tensor | None]:
    """Return gradients of u, weight_hh, h_0, c_0 and vectors, by plain torch.

    They have gradients themselves where gradients are enabled.

    settings are those of the operator without `save`; statistics are read with batch norm.
    """
    layout = Layout.of_packed(batch_sizes)
    if name == "recurrence":
        _, cell, norm, eps = settings
        return plain_gradients.gradients(upstream, tensors, layout, cell, norm, eps)
    _, batch_steps, cell, eps, normalises_input = settings
    mean, var = statistics
    given = (mean, var, batch_steps, normalises_input)
    return plain_gradients.gradients(upstream, tensors, layout, cell, "batch", eps, given)


def projection_shapes(
    du: Tensor, x: Tensor, weight: Tensor, x_grad: bool, weight_grad: bool
) -> tuple[Tensor, ...]:
    """Return empty outputs of seq2seq::projection_backward."""
    return tuple(
        t.new_empty(t.shape if needed else 0) for t, needed in ((x, x_grad), (weight, weight_grad))
    )


def keep_projection(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Save the arguments for the backward pass."""
    ctx.save_for_backward(*inputs)


def projection_gradients(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of the arguments of seq2seq::projection."""
    needed = ctx.needs_input_grad[:2]
    if in_plain_torch(du):
        return differentiable_projection(du, *ctx.saved_tensors)
    found = torch.ops.seq2seq.projection_backward(du.contiguous(), *ctx.saved_tensors, *needed)
    return tuple(g if is_needed else None for g, is_needed in zip(found, needed, strict=True))


def differentiable_projection(du: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and weight, by plain torch."""
    wide = du.to(weight.dtype)
    return (wide @ weight).to(x.dtype), wide.t() @ x.to(weight.dtype)


def no_second_gradients(ctx: Any, *_: Any) -> None:
    """Raise RuntimeError: the backward passes have no gradients."""
    raise RuntimeError(
        "the backward operators have no derivatives: differentiate through the layer"
    )
