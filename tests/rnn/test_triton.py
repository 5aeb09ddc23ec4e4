"""The GPU kernels: results and gradients against the reference and the CPU kernels; compilation.

On a machine with a GPU they run there. Elsewhere Triton's interpreter runs them on the CPU, slowly,
so that sizes are small; and a separate process compiles every kernel for a GPU that is absent.

Tolerances are those of test_fused.py. The interpreter rounds to bfloat16 towards zero, a GPU to the
nearest.
"""

import copy
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import test_fused
import torch
from oracles import CELLS
from test_fused import SIZES, arguments, batch_arguments, case, distances, layer_of, results

from seq2seq.rnn import LSTM
from seq2seq.rnn.cpu import operators

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

with pytest.MonkeyPatch.context() as patched:
    if DEVICE == "cpu":
        patched.setenv("TRITON_INTERPRET", "1")  # read where kernels are defined, Triton's own too
    pytest.importorskip("triton", reason="the GPU kernels need Triton, which is not installed")
    from seq2seq.rnn.gpu import cells, kernels, row_operators
    from seq2seq.rnn.gpu import operators as gpu
    from seq2seq.rnn.gpu.terms import Constants

pytestmark = [
    test_fused.needs_compiler,  # of the operators' schemas
    pytest.mark.filterwarnings(
        "ignore:Warning only once for all operators,  other operators may also be"
    ),
]
slow = pytest.mark.slow
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")

NORMS = ("none", "layer", "rms")
OPERATORS = gpu.OPERATORS
AS_CPP = 1e-4
"""Tolerance for float32 sums in another order, through a few steps; N over two rows amplifies it."""


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Triton asks for this while kernels run, too."""
    assert operators.failure() is None
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        kinds = {
            type(getattr(kernels, f"{norm}_{way}")).__name__
            for norm in ("rows", "columns")
            for way in ("forward", "backward")
        }
        assert kinds == {"InterpretedFunction"}, "something loaded Triton before this module did"


@contextmanager
def kernels_in_layers():
    """Inside, the fused operators are the GPU kernels; gives the names of those that ran."""
    ran = []

    def noting(operator):
        def run(*args):
            ran.append(operator.__name__)
            return operator(*args)

        return run

    with torch.library._scoped_library("seq2seq", "IMPL") as library:
        for operator in OPERATORS:
            library.impl(operator.__name__, noting(operator), DEVICE.upper(), allow_override=True)
        yield ran


def on(device, values):
    """The same on a device: of tensors, numbers, None, and lists and dictionaries of them."""
    if isinstance(values, dict):
        return {name: on(device, value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [on(device, value) for value in values]
    return values.to(device) if isinstance(values, torch.Tensor) else values


def kernels_results(layer, drawn, autocast=False):
    """test_fused's `results`, of the kernels."""
    with kernels_in_layers() as ran, torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        found = results(
            copy.deepcopy(layer).to(DEVICE),
            *on(DEVICE, drawn),
            torch.float32,
            "fused",
            autocast=autocast,
        )
    assert {"recurrence", "recurrence_backward"} <= {
        name.removeprefix("batch_norm_") for name in ran
    }
    return on("cpu", found)


def assert_kernels_are_right(layer, given, lengths, scale=1.0):
    drawn = case(layer, lengths, given, scale)
    expected = results(layer, *drawn, torch.double, "reference")
    apart = distances(kernels_results(layer, drawn), expected)
    assert {name: d for name, d in apart.items() if d > test_fused.FLOAT32} == {}


# -- through the layer ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize(("norm", "hidden"), [("none", 3), ("layer", 17), ("rms", 33)])
@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_the_reference(cell, norm, hidden, given):
    assert_kernels_are_right(layer_of(hidden, norm, cell), given, [4, 1, 2, 2])


@pytest.mark.parametrize("lengths", [[2, 2], [1, 1, 1], [3], [1]], ids=str)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_lengths_of_all_kinds_are_the_references(cell, lengths):
    assert_kernels_are_right(layer_of(5, "layer", cell), False, lengths)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("cell", CELLS)
def test_without_biases_it_is_the_reference(cell, norm):
    assert_kernels_are_right(layer_of(4, norm, cell, bias=False), True, [2, 1])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_and_directions_are_the_references(cell):
    assert_kernels_are_right(
        layer_of(6, "layer", cell, num_layers=2, bidirectional=True), True, [1, 2]
    )


@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("norm", NORMS)
def test_extreme_inputs_are_the_references(norm, scale):
    layer = layer_of(24, norm)
    if (
        scale == 1e4 and norm == "none"
    ):  # gates are 0 or 1: what tells them from that is lost to rounding
        drawn = case(layer, [3, 1], True, scale)
        assert (
            max(
                distances(
                    kernels_results(layer, drawn),
                    results(layer, *drawn, torch.float32, "reference"),
                ).values()
            )
            < 1e-2
        )
        return
    assert_kernels_are_right(layer, True, [3, 1], scale)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_constant_rows_whose_variance_is_0(norm):
    layer = layer_of(24, norm)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(0.5)
        layer.weight_hh_l0.fill_(0.25)
    drawn = case(layer, [3, 3], True)
    apart = distances(
        kernels_results(layer, drawn), results(layer, *drawn, torch.double, "reference")
    )
    assert (
        max(d for name, d in apart.items() if not name.startswith("gradient")) < 1e-3
    )  # as in test_fused.py


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_as_good_as_the_reference_in_it(cell, norm):
    layer = layer_of(17, norm, cell)
    drawn = case(layer, [2, 1, 1], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        kernels_results(layer, drawn, True),
        results(layer, *drawn, torch.float32, "reference", True),
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > test_fused.BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # or it was not bfloat16


@pytest.mark.parametrize(
    ("cell", "statistics", "hidden", "given"),
    [
        ("lstm", "per_step", 9, True),
        ("lstm", "sequence_input", 7, False),
        ("lstm", "shared", 7, False),
        ("gru", "per_step", 9, True),
        ("gru", "sequence_input", 7, False),
        ("gru", "shared", 7, False),
        ("rnn_tanh", "per_step", 9, True),
        ("rnn_tanh", "shared", 7, False),
        ("rnn_relu", "per_step", 9, False),
    ],
)
def test_batch_norm_is_the_reference(cell, statistics, hidden, given):
    """In training twice, then in eval mode; the last steps have too few rows, or statistics of no
    step.
    """
    layer = layer_of(hidden, test_fused.BATCH[statistics], cell)
    layers = [copy.deepcopy(layer).float().to(DEVICE), layer]
    for lengths, training in (([3, 1, 2, 3, 2], True), ([2] * 4, True), ([3, 3, 1], False)):
        drawn, found = case(layer, lengths, given), []
        for i, (backend, dtype, device) in enumerate(
            (("fused", torch.float32, DEVICE), ("reference", torch.double, "cpu"))
        ):
            layers[i].train(training)
            with kernels_in_layers() as ran:
                values, layers[i] = test_fused.batch_norm_results(
                    layers[i], *on(device, drawn), dtype, backend
                )
            assert ("batch_norm_recurrence_backward" in ran) == (backend == "fused")
            found.append(on("cpu", values))
        assert {name: a for name, a in distances(*found).items() if a > test_fused.BATCH_NORM} == {}


@pytest.mark.parametrize(
    ("cell", "statistics"),
    [
        ("lstm", "per_step"),
        ("lstm", "sequence_input"),
        ("gru", "per_step"),
        ("gru", "sequence_input"),
        ("rnn_tanh", "per_step"),
        ("rnn_relu", "per_step"),
    ],
)
def test_batch_norm_in_bfloat16_is_as_good_as_the_reference_in_it(cell, statistics):
    layer = layer_of(8, test_fused.BATCH[statistics], cell)
    drawn = case(layer, [2, 2, 2, 1, 2, 1, 2, 2], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        kernels_results(layer, drawn, True),
        results(layer, *drawn, torch.float32, "reference", True),
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > test_fused.BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # or it was not bfloat16


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_same_input_gives_the_same_bits_from_run_to_run(norm):
    layer = layer_of(9, norm)
    drawn = case(layer, [3, 1, 2], True)
    first, second = kernels_results(layer, drawn), kernels_results(layer, drawn)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_cpu_kernels_are_back_afterwards():
    layer, x = LSTM(3, 4, norm="layer", backend="fused"), torch.randn(2, 1, 3)
    before = layer(x)[0]
    with kernels_in_layers() as ran:
        if DEVICE == "cpu":
            layer(x)
    assert ran == ["recurrence"] * (DEVICE == "cpu")
    after = layer(x)[0]
    assert ran == ["recurrence"] * (DEVICE == "cpu")
    assert torch.equal(before, after)


# -- operator by operator ---

ROW_OUTPUTS = ("output", "h_n", "c_n", "z", "c", "moments")
COLUMN_OUTPUTS = (*ROW_OUTPUTS[:-1], "mean", "var")
GRADIENTS = ("u", "weight_hh", "h_0", "c_0", "vectors")


def detached(values):
    return [v.detach() if isinstance(v, torch.Tensor) else v for v in values]


def assert_agree(names, found, expected, tolerance):
    apart = {}
    for name, f, e in zip(names, on("cpu", found), expected, strict=True):
        assert (f.shape, f.dtype) == (e.shape, e.dtype), name
        if e.numel():
            apart[name] = ((f - e).abs().max() / e.abs().max().clamp(min=1e-6)).item()
    assert {name: d for name, d in apart.items() if not d <= tolerance} == {}


def assert_as_cpp(name, args, upstream, outputs, tolerance=AS_CPP):
    """Forward and backward pass give what the operator for the CPU gives, of the same inputs.

    Of z alone each may keep what it likes: the unnormalised LSTM's gates, on the CPU.
    """
    settings = next(i for i, a in enumerate(args) if isinstance(a, list))
    expected, found = getattr(torch.ops.seq2seq, name)(*args), getattr(gpu, name)(*on(DEVICE, args))
    keeps_gates = "none" in args and "lstm" in args
    compared = [i for i, output in enumerate(outputs) if output != "z" or not keeps_gates]
    assert_agree(
        [outputs[i] for i in compared],
        [found[i] for i in compared],
        [expected[i] for i in compared],
        tolerance,
    )

    def back(kept):
        return (*upstream, *args[:5], kept[0], *kept[3:], *args[settings:-1], True)

    expected = getattr(torch.ops.seq2seq, f"{name}_backward")(*back(expected))
    assert_agree(
        GRADIENTS, getattr(gpu, f"{name}_backward")(*on(DEVICE, back(found))), expected, tolerance
    )


def upstream_of(hidden, sizes, has_c):
    """Of output, as a transposed matrix, h_n and c_n."""
    torch.manual_seed(1)
    last = [torch.randn(sizes[0], hidden), torch.randn(sizes[0], hidden) if has_c else None]
    return torch.randn(hidden, sum(sizes)).t(), *last


@pytest.mark.parametrize(
    ("norm", "given"), [("none", False), ("layer", True), ("layer", False), ("rms", True)]
)
@pytest.mark.parametrize("cell", SIZES)
def test_every_output_is_the_cpu_operators(cell, norm, given):
    args = detached(arguments(norm, cell=cell, given=given))
    assert_as_cpp("recurrence", args, upstream_of(6, args[5], cell == "lstm"), ROW_OUTPUTS)


@pytest.mark.parametrize("cell", SIZES)
def test_every_output_is_the_cpu_operators_in_bfloat16(cell):
    args = detached(arguments("layer", torch.bfloat16, cell=cell))
    assert_as_cpp(
        "recurrence",
        args,
        upstream_of(6, args[5], cell == "lstm"),
        ROW_OUTPUTS,
        test_fused.BFLOAT16,
    )


@pytest.mark.parametrize(("h_0", "c_0"), [(True, False), (False, True)])
def test_one_of_both_states_is_enough(h_0, c_0):
    args = detached(arguments())
    args[2:4] = args[2] if h_0 else None, args[3] if c_0 else None
    assert_as_cpp("recurrence", args, upstream_of(6, args[5], True), ROW_OUTPUTS)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["output", "h_n", "c_n"])
def test_a_gradient_that_comes_into_one_output_alone(which):
    args = detached(arguments())
    upstream = [u if i == which else None for i, u in enumerate(upstream_of(6, args[5], True))]
    assert_as_cpp("recurrence", args, upstream, ROW_OUTPUTS)


@pytest.mark.parametrize("options", [{}, {"given": False}, {"normalises_input": False}], ids=str)
@pytest.mark.parametrize("cell", SIZES)
def test_every_output_of_batch_norm_is_the_cpu_operators(cell, options):
    args = detached(batch_arguments(cell=cell, **options))
    assert_as_cpp(
        "batch_norm_recurrence", args, upstream_of(6, args[7], cell == "lstm"), COLUMN_OUTPUTS
    )


@pytest.mark.parametrize("cell", SIZES)
def test_batch_norm_of_more_rows_than_a_tile_is_the_cpu_operators(cell):
    u, weight, h, c, vectors, mean, var, *settings = detached(batch_arguments(cell=cell))
    rows, sizes = Constants.TILE + 6, [Constants.TILE + 6, Constants.TILE + 2]
    args = [
        u.new_empty(sum(sizes), u.size(1)).normal_(),
        weight,
        h.new_empty(rows, 6).normal_(),
        None if c is None else c.new_empty(rows, 6).normal_(),
        vectors,
        mean[:2],
        var[:2],
        sizes,
        1,
        *settings[2:],
    ]
    assert_as_cpp(
        "batch_norm_recurrence", args, upstream_of(6, sizes, cell == "lstm"), COLUMN_OUTPUTS
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cell", SIZES)
def test_inference_saves_nothing_and_gives_the_same(cell, dtype):
    *args, save = on(DEVICE, detached(arguments("layer", dtype, cell=cell)))
    with_all, found = gpu.recurrence(*args, save), gpu.recurrence(*args, False)
    assert all(map(torch.equal, found[:3], with_all))
    assert [t.size(0) for t in found[3:]] == [0, 0, 0]
    assert [t.shape[1:] for t in found] == [t.shape[1:] for t in with_all]
    back = [None, None, None, *args[:5], found[0], *found[3:], *args[5:], True]
    with pytest.raises(
        RuntimeError, match="no backward pass can follow a forward pass that ran with save=false"
    ):
        gpu.recurrence_backward(*back)


@pytest.mark.parametrize("cell", SIZES)
def test_inference_with_batch_norm_saves_nothing_and_gives_the_same(cell):
    *args, save = on(DEVICE, detached(batch_arguments(cell=cell)))
    with_all, found = (
        gpu.batch_norm_recurrence(*args, save),
        gpu.batch_norm_recurrence(*args, False),
    )
    assert all(map(torch.equal, found[:3] + found[5:], with_all[:3] + with_all[5:]))
    assert [t.size(0) for t in found[3:5]] == [0, 0]


def test_a_weight_without_gradient_gets_none():
    *args, _ = on(DEVICE, detached(arguments("none", cell="rnn_tanh")))
    output, _, _, *kept = gpu.recurrence(*args, True)
    found = gpu.recurrence_backward(
        torch.ones_like(output), None, None, *args[:5], output, *kept, *args[5:], False
    )
    assert found[1].numel() == 0
    assert found[0].abs().max() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_sums_over_many_rows_and_features(norm):
    rows, hidden = 2 * row_operators.SUMMED_ROWS + 44, row_operators.SUM_COLUMNS // 3
    da, u, z, c = (torch.randn(rows, width * hidden, device=DEVICE) for width in (5, 4, 4, 1))
    moments = torch.rand(rows, 6, device=DEVICE)
    constants = cells.constants("lstm", norm, 1e-5, hidden)
    found = row_operators.vector_gradients(
        cells.LSTM, constants, da, {"u": u, "z": z, "c": c}, moments
    )
    gates, cell, sums = da[:, : 4 * hidden], da[:, 4 * hidden :], []
    for d, v, mean, scale in (
        (gates, u, *moments[:, :2].t()),
        (gates, z, *moments[:, 2:4].t()),
        (cell, c, *moments[:, 4:].t()),
    ):
        sums.append((d * (v - mean[:, None]) * scale[:, None]).sum(0) * (norm != "none"))
    sums.insert(2, gates.sum(0))
    torch.testing.assert_close(found, torch.cat([*sums, cell.sum(0)]), rtol=1e-4, atol=1e-3)


def squashed(x):
    """tanh and 1 - sigmoid of x (H,), through cells that give no more than these."""
    hidden = x.numel()
    u = x.float().to(DEVICE)[None]
    weight, zeros = (
        torch.zeros(3 * hidden, hidden, device=DEVICE),
        torch.zeros(12 * hidden, device=DEVICE),
    )
    tanh = gpu.recurrence(
        u,
        weight[:hidden],
        None,
        None,
        zeros[: 2 * hidden],
        [1],
        "rnn_tanh",
        "none",
        0.0,
        False,
        False,
    )[0]
    gates = torch.cat([u, u, torch.full_like(u, 40.0)], dim=1)  # n = 1
    gru = gpu.recurrence(gates, weight, None, None, zeros, [1], "gru", "none", 0.0, False, False)[0]
    return tanh[0].cpu().double(), gru[0].cpu().double()


def test_tanh_and_sigmoid_are_as_close_as_they_say():
    small = torch.logspace(-30, 2, 1000)
    x = torch.cat([small, -small, torch.linspace(-1, 1, 1001), torch.linspace(-20, 20, 1001)])
    tanh, less_sigmoid = squashed(x)
    exact = x.double().tanh()
    assert (tanh - exact).abs().max() < 3e-7
    relative = (tanh - exact).abs() / exact.abs().clamp(min=1e-30)
    assert relative.max() < 1e-6
    assert relative[x.abs() < 0.25].max() < 2e-7  # the series
    assert (less_sigmoid - torch.sigmoid(-x.double())).abs().max() < 4e-7


def test_where_tanh_and_sigmoid_end():
    infinity = float("inf")
    tanh, less_sigmoid = squashed(
        torch.tensor([infinity, -infinity, 100.0, -100.0, 0.0, float("nan")])
    )
    assert tanh[:5].tolist() == [1, -1, 1, -1, 0]
    assert less_sigmoid[:5].tolist() == [0, 1, 0, 1, 0.5]
    assert tanh[5].isnan()
    assert less_sigmoid[5].isnan()


@pytest.mark.parametrize("cell", SIZES)
def test_not_a_number_stays_one(cell):
    u, *args = on(DEVICE, detached(arguments("layer", cell=cell, given=False, save=False)))
    assert gpu.recurrence(u * float("nan"), *args)[0].isnan().all()


def test_autocast_changes_nothing():
    *args, save = on(DEVICE, detached(arguments("none", cell="rnn_tanh")))

    def run():
        output, _, _, *kept = gpu.recurrence(*args, save)
        return output, *gpu.recurrence_backward(
            output, None, None, *args[:5], output, *kept, *args[5:], True
        )

    expected = run()
    with torch.autocast(DEVICE, torch.bfloat16):
        assert all(map(torch.equal, run(), expected))


def test_wrong_types_and_names_are_refused():
    u, weight, h, c, vectors, sizes, cell, norm, *settings = detached(arguments(save=False))
    for wrong, message in [
        (
            (u, weight, h, c, vectors, sizes, cell, "batch"),
            "norm=batch: expected none, layer or rms",
        ),
        (
            (u, weight, h, c, vectors, sizes, "rnn", norm),
            "cell=rnn: expected lstm, gru, rnn_tanh or rnn_relu",
        ),
        (
            (u, weight, h, c, vectors[1:], sizes, cell, norm),
            "expected float vectors of 84 elements, got 83",
        ),
        (
            (u, weight, h, c[:1], vectors, sizes, cell, norm),
            r"expected float states \(3, 6\), got \[1, 6\]",
        ),
        (
            (u, weight, h, c, vectors, [3, 3, 2], cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight, h, c, vectors, [1, 3, 3], cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight, h, c, vectors, [], cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight.bfloat16(), h, c, vectors, sizes, cell, norm),
            "expected u and weight_hh of one type",
        ),
        (
            (u, weight.double(), h, c, vectors, sizes, cell, norm),
            "expected products in float or bfloat16",
        ),
        (
            (u, weight, h, c, vectors, sizes, "gru", norm),
            r"expected u \(N, 18\) and weight_hh \(18, 6\)",
        ),
    ]:
        with pytest.raises(RuntimeError, match=message):
            gpu.recurrence(*on(DEVICE, wrong), *settings)


def test_batch_norm_refuses_wrong_types():
    u, weight, h, c, vectors, mean, var, *settings = on(
        DEVICE, detached(batch_arguments(save=False))
    )
    with pytest.raises(RuntimeError, match="expected an input term in float or the products' type"):
        gpu.batch_norm_recurrence(u.bfloat16(), weight, h, c, vectors, mean, var, *settings)
    with pytest.raises(RuntimeError, match=r"expected float statistics \(3, 54\), got \[2, 54\]"):
        gpu.batch_norm_recurrence(u, weight, h, c, vectors, mean, var[:2], *settings)
    u, *others = on(
        DEVICE,
        detached(batch_arguments(torch.bfloat16, wide_input=True, save=False, cell="rnn_tanh")),
    )
    with pytest.raises(RuntimeError, match="expected an input term in float or the products' type"):
        gpu.batch_norm_recurrence(u, *others)


def test_they_can_be_made_pytorchs_for_gpus():
    library = gpu.register()
    try:
        assert gpu.register() is library
        for operator in OPERATORS:
            assert torch._C._dispatch_has_kernel_for_dispatch_key(
                f"seq2seq::{operator.__name__}", "CUDA"
            )
    finally:
        gpu.register.cache_clear()
        library._destroy()


# -- on a GPU ---


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", SIZES)
def test_large_sizes_on_a_gpu_are_the_cpu_operators(cell, norm, dtype):
    gates, vectors = SIZES[cell]
    hidden, sizes = 500, [64] * 10 + [33] * 10 + [1] * 5
    torch.manual_seed(0)
    weight = torch.randn(gates * hidden, hidden) / hidden**0.5
    u, state = torch.randn(sum(sizes), gates * hidden), torch.randn(2, 64, hidden)
    args = [
        u.to(dtype),
        weight.to(dtype),
        state[0],
        state[1] if cell == "lstm" else None,
        1 + 0.1 * torch.randn(vectors * hidden),
        sizes,
        cell,
        norm,
        1e-5,
        False,
        True,
    ]
    tolerance = 1e-3 if dtype is torch.float32 else 0.1
    assert_as_cpp(
        "recurrence", args, upstream_of(hidden, sizes, cell == "lstm"), ROW_OUTPUTS, tolerance
    )


@needs_gpu
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_captured_in_a_graph_it_is_the_same(norm):
    name, given = (
        ("recurrence", arguments())
        if norm == "layer"
        else ("batch_norm_recurrence", batch_arguments())
    )
    args = on(DEVICE, detached(given))
    settings = next(i for i, a in enumerate(args) if isinstance(a, list))

    def run():
        output, _, _, *kept = getattr(gpu, name)(*args)
        back = (output, None, None, *args[:5], output, *kept, *args[settings:-1], True)
        return output, *getattr(gpu, f"{name}_backward")(*back)

    graph, expected = torch.cuda.CUDAGraph(), run()  # the first run compiles
    with torch.cuda.graph(graph):
        captured = run()
    graph.replay()
    assert all(map(torch.equal, captured, expected))


# -- compiling ---

COMPILE = """
import inspect, os, sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_fused import SIZES, arguments, batch_arguments
from seq2seq.rnn.gpu import operators as gpu

compiled = set()


def compile(kernel, *args, grid, warmup, num_warps=4, **named):
    given = inspect.signature(kernel.fn).bind(*args, **named).arguments
    signature, constants, attributes = {}, {}, {}
    for p in kernel.params:
        value = given[p.name]
        if p.is_constexpr:
            signature[p.name], constants[p.num,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[p.name] = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}[value.dtype]
            attributes[p.num,] = [["tt.divisibility", 16]]
        else:
            signature[p.name] = "fp32" if isinstance(value, float) else "i32"
    name = ".".join([*kernel.fn.__module__.split(".")[3:], kernel.fn.__name__, given["C"].CELL])
    if (key := (name, *signature.items(), *constants.items(), num_warps)) not in compiled:
        compiled.add(key)
        source = ASTSource(kernel, signature, constants, attributes)
        done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
        print(name, len(done.asm["ptx"]), len(done.asm["cubin"]))


JITFunction.run = compile  # instead of running it: what the loops launch is what has to compile
dtype, norms = getattr(torch, sys.argv[2]), sys.argv[3:]


def run(name, args):
    settings = next(i for i, a in enumerate(args) if isinstance(a, list))
    output, _, _, *kept = getattr(gpu, name)(*args)
    if args[-1]:
        back = (None, None, None, *args[:5], output, *kept, *args[settings:-1], True)
        getattr(gpu, name + "_backward")(*back)


for norm in norms:
    with torch.no_grad():
        if norm in ("batch", "sequence_input"):
            for cell in SIZES:
                wide = dtype != torch.float32 and norm == "sequence_input" and not cell.startswith("rnn")
                run("batch_norm_recurrence", batch_arguments(dtype, wide, normalises_input=norm == "batch", cell=cell))
            continue
        for cell in SIZES:
            for save in (True, False):
                run("recurrence", arguments(norm, dtype, save, cell=cell))
"""


@pytest.mark.parametrize(
    ("dtype", "norms"),
    [
        ("bfloat16", ["layer", "batch"]),
        pytest.param("bfloat16", ["none", "rms", "sequence_input"], marks=slow),
        pytest.param("float32", ["none", "layer", "rms", "batch", "sequence_input"], marks=slow),
    ],
)
def test_every_kernel_that_is_launched_compiles_for_a_gpu(dtype, norms, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(Path(__file__).parent), dtype, *norms]
    done = subprocess.run(
        command,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    steps = {f"{norm}_{way}" for norm in ("rows", "columns") for way in ("forward", "backward")}
    expected = {f"kernels.{step}.{cell}" for step in steps for cell in SIZES}
    expected |= {f"all_rows.column_sums.{cell}" for cell in SIZES}
    expected |= {f"all_rows.input_backward.{cell}" for cell in ("lstm", "gru")}  # else du is dz
    assert {line[0] for line in lines} == expected
    assert all(int(size) > 1000 for line in lines for size in line[-2:])
