"""The GPU operators: results and gradients against those of the CPU operators."""

from typing import Any

import pytest
import torch
import triton_cases
from combinations import few
from kernel_cases import (
    BFLOAT16,
    COLUMN_SIZES,
    NORMS,
    SIZES,
    arguments,
    batch_arguments,
    has_c,
)
from triton_cases import (
    COLUMN_OUTPUTS,
    DEVICE,
    ROW_OUTPUTS,
    assert_as_cpp,
    detached,
    on,
    upstream_of,
)
from triton_cases import interpreted as interpreted  # the fixture of MARKS

from seq2seq.rnn.gpu import column_operators, row_operators
from seq2seq.rnn.gpu import operators as gpu
from seq2seq.rnn.gpu.terms import Constants

pytestmark = triton_cases.MARKS
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")


# -- operator by operator ---


@few(
    {
        "cell": SIZES,
        "norm, given": [("none", False), ("layer", True), ("layer", False), ("rms", True)],
    }
)
def test_every_output_agrees_with_the_cpu_operator(cell: str, norm: str, given: bool) -> None:
    args = detached(arguments(norm, cell=cell, given=given))
    assert_as_cpp("recurrence", args, upstream_of(6, args[5], has_c(cell)), ROW_OUTPUTS)


@pytest.mark.parametrize("cell", SIZES)
def test_every_output_agrees_with_the_cpu_operator_in_bfloat16(cell: str) -> None:
    args = detached(arguments("layer", torch.bfloat16, cell=cell))
    assert_as_cpp(
        "recurrence",
        args,
        upstream_of(6, args[5], has_c(cell)),
        ROW_OUTPUTS,
        BFLOAT16,
    )


@pytest.mark.parametrize(("h_0", "c_0"), [(True, False), (False, True)])
def test_either_initial_state_may_be_missing(h_0: bool, c_0: bool) -> None:
    args = detached(arguments())
    args[2:4] = args[2] if h_0 else None, args[3] if c_0 else None
    assert_as_cpp("recurrence", args, upstream_of(6, args[5], True), ROW_OUTPUTS)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["output", "h_n", "c_n"])
def test_a_gradient_into_only_one_output(which: int) -> None:
    args = detached(arguments())
    upstream = [u if i == which else None for i, u in enumerate(upstream_of(6, args[5], True))]
    assert_as_cpp("recurrence", args, upstream, ROW_OUTPUTS)


@few({"cell": COLUMN_SIZES, "options": [{}, {"given": False}, {"normalises_input": False}]})
def test_every_output_of_batch_norm_agrees_with_the_cpu_operator(
    cell: str, options: dict[str, Any]
) -> None:
    args = detached(batch_arguments(cell=cell, **options))
    assert_as_cpp(
        "batch_norm_recurrence", args, upstream_of(6, args[5], has_c(cell)), COLUMN_OUTPUTS
    )


@pytest.mark.parametrize("cell", COLUMN_SIZES)
def test_batch_norm_of_more_rows_than_a_tile_agrees_with_the_cpu_operator(cell: str) -> None:
    u, weight, h, c, vectors, _, mean, var, *settings = detached(batch_arguments(cell=cell))
    rows, sizes = Constants.TILE + 6, [Constants.TILE + 6, Constants.TILE + 2]
    args = [
        u.new_empty(sum(sizes), u.size(1)).normal_(),
        weight,
        h.new_empty(rows, 6).normal_(),
        None if c is None else c.new_empty(rows, 6).normal_(),
        vectors,
        torch.tensor(sizes),
        mean[:2],
        var[:2],
        rows,
        1,
        *settings[2:],
    ]
    assert_as_cpp(
        "batch_norm_recurrence", args, upstream_of(6, args[5], has_c(cell)), COLUMN_OUTPUTS
    )


@few({"cell": SIZES, "dtype": [torch.float32, torch.bfloat16]})
def test_inference_saves_nothing_and_gives_the_same(cell: str, dtype: torch.dtype) -> None:
    *args, save = on(DEVICE, detached(arguments("layer", dtype, cell=cell)))
    with_all, found = (
        row_operators.recurrence(*[*args, save]),
        row_operators.recurrence(*[*args, False]),
    )
    assert all(map(torch.equal, found[:3], with_all))
    assert [t.size(0) for t in found[3:]] == [0, 0, 0]
    assert [t.shape[1:] for t in found] == [t.shape[1:] for t in with_all]
    back = [None, None, None, *args[:6], found[0], *found[3:], *args[6:], True]
    with pytest.raises(
        RuntimeError, match="no backward pass can follow a forward pass that ran with save=false"
    ):
        row_operators.recurrence_backward(*back)


@pytest.mark.parametrize("cell", COLUMN_SIZES)
def test_inference_with_batch_norm_saves_nothing_and_gives_the_same(cell: str) -> None:
    *args, save = on(DEVICE, detached(batch_arguments(cell=cell)))
    with_all, found = (
        column_operators.batch_norm_recurrence(*[*args, save]),
        column_operators.batch_norm_recurrence(*[*args, False]),
    )
    assert all(map(torch.equal, found[:3] + found[5:], with_all[:3] + with_all[5:]))
    assert [t.size(0) for t in found[3:5]] == [0, 0]


# -- on a GPU ---


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", SIZES)
def test_large_sizes_on_a_gpu_agree_with_the_cpu_operator(
    cell: str, norm: str, dtype: torch.dtype
) -> None:
    gates, vectors = SIZES[cell]
    hidden, sizes = 500, [64] * 10 + [33] * 10 + [1] * 5
    torch.manual_seed(0)
    weight = torch.randn(gates * hidden, hidden) / hidden**0.5
    u, state = torch.randn(sum(sizes), gates * hidden), torch.randn(2, 64, hidden)
    args = [
        u.to(dtype),
        weight.to(dtype),
        state[0],
        state[1] if has_c(cell) else None,
        1 + 0.1 * torch.randn(vectors * hidden),
        torch.tensor(sizes),
        sizes[0],
        cell,
        norm,
        1e-5,
        True,
    ]
    tolerance = 1e-3 if dtype is torch.float32 else 0.1
    assert_as_cpp(
        "recurrence", args, upstream_of(hidden, args[5], has_c(cell)), ROW_OUTPUTS, tolerance
    )


@needs_gpu
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_cuda_graph_gives_the_same(norm: str) -> None:
    name, given = (
        ("recurrence", arguments())
        if norm == "layer"
        else ("batch_norm_recurrence", batch_arguments())
    )
    args = on(DEVICE, detached(given))
    settings = next(i for i, a in enumerate(args) if isinstance(a, list))

    def run() -> Any:
        output, _, _, *kept = getattr(gpu, name)(*args)
        back = (output, None, None, *args[:5], output, *kept, *args[settings:-1], True)
        return output, *getattr(gpu, f"{name}_backward")(*back)

    graph, expected = torch.cuda.CUDAGraph(), run()  # the first run compiles
    with torch.cuda.graph(graph):
        captured = run()
    graph.replay()
    assert all(map(torch.equal, captured, expected))
