"""The GPU kernels in a layer: results and gradients against the float64 reference."""

import copy
from dataclasses import replace

import pytest
import torch
import triton_cases
from combinations import few
from kernel_cases import (
    BATCH,
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    NORMS,
    PLAIN_CELL,
    SEPARATE,
    batch_norm_results,
    case,
    distances,
    layer_of,
    present,
    results,
)
from oracles import CELLS
from triton_cases import DEVICE, case_on, kernels_in_layers, kernels_results, on
from triton_cases import interpreted as interpreted  # the fixture of MARKS

from seq2seq.rnn import LSTM, RecurrentLayers
from seq2seq.rnn.config import Statistics

pytestmark = triton_cases.MARKS
OTHER_BATCH = {
    "plain cell": PLAIN_CELL["batch"],
    "plain cell, sequence_input": replace(
        PLAIN_CELL["batch"], statistics=Statistics.sequence_input
    ),
    "separate": SEPARATE,
}
"""Batch norm in other places than the usual ones."""


def assert_kernels_are_right(
    layer: RecurrentLayers, given: bool, lengths: list[int], scale: float = 1.0
) -> None:
    drawn = case(layer, lengths, given, scale)
    expected = results(layer, *drawn, torch.double, "reference")
    apart = distances(kernels_results(layer, drawn), expected)
    assert {name: d for name, d in apart.items() if d > FLOAT32} == {}


@few(
    {
        "cell": CELLS,
        "norm, hidden": [("none", 3), ("layer", 17), ("rms", 33)],
        "given": [True, False],
    },
    rounds=2,
)
def test_float32_agrees_with_the_reference(cell: str, norm: str, hidden: int, given: bool) -> None:
    assert_kernels_are_right(layer_of(hidden, norm, cell), given, [4, 1, 2, 2])


@few({"cell": ["lstm", "gru", "rnn_tanh"], "lengths": [[2, 2], [1, 1, 1], [3], [1]]})
def test_lengths_of_all_kinds_agree_with_the_reference(cell: str, lengths: list[int]) -> None:
    assert_kernels_are_right(layer_of(5, "layer", cell), False, lengths)


@few({"cell": CELLS, "norm": ["none", "layer"]})
def test_without_biases_results_agree_with_the_reference(cell: str, norm: str) -> None:
    assert_kernels_are_right(layer_of(4, norm, cell, bias=False), True, [2, 1])


@few({"norm": ["layer", "rms"], "given": [True, False], "bias": [True, False]})
def test_a_cell_state_without_a_norm_agrees_with_the_reference(
    norm: str, given: bool, bias: bool
) -> None:
    assert_kernels_are_right(layer_of(17, PLAIN_CELL[norm], bias=bias), given, [4, 1, 2, 2])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_and_directions_agree_with_the_reference(cell: str) -> None:
    assert_kernels_are_right(
        layer_of(6, "layer", cell, num_layers=2, bidirectional=True), True, [1, 2]
    )


@few({"norm": NORMS, "scale": [1e4, 1e-4, 0.0]})
def test_extreme_inputs_agree_with_the_reference(norm: str, scale: float) -> None:
    layer = layer_of(24, norm)
    if scale == 1e4 and norm == "none":  # gates are 0 or 1, up to rounding
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
def test_constant_rows_with_variance_0_agree_with_the_reference(norm: str) -> None:
    layer = layer_of(24, norm)
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").fill_(0.5)
        layer.get_parameter("weight_hh_l0").fill_(0.25)
    drawn = case(layer, [3, 3], True)
    apart = distances(
        kernels_results(layer, drawn), results(layer, *drawn, torch.double, "reference")
    )
    assert (
        max(d for name, d in apart.items() if not name.startswith("gradient")) < 1e-3
    )  # as for the CPU kernels


@few({"cell": CELLS, "norm": NORMS})
def test_bfloat16_agrees_with_the_reference_under_autocast(cell: str, norm: str) -> None:
    layer = layer_of(17, norm, cell)
    drawn = case(layer, [2, 1, 1], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        kernels_results(layer, drawn, True),
        results(layer, *drawn, torch.float32, "reference", True),
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # the products were in bfloat16


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
        ("lstm", "plain cell", 9, True),
        ("lstm", "plain cell, sequence_input", 7, False),
        ("rnn_tanh", "separate", 9, True),
        ("rnn_relu", "separate", 7, False),
        ("rnn_tanh", "sequence_input", 9, True),
    ],
)
def test_batch_norm_agrees_with_the_reference(
    cell: str, statistics: str, hidden: int, given: bool
) -> None:
    """Two training batches, then one in eval mode, whose last steps have no statistics."""
    layer = layer_of(hidden, (BATCH | OTHER_BATCH)[statistics], cell)
    layers = [copy.deepcopy(layer).float().to(DEVICE), layer]
    for lengths, training in (([3, 1, 2, 3, 2], True), ([2] * 4, True), ([3, 3, 1], False)):
        drawn, found = case(layer, lengths, given), []
        for i, (backend, dtype, device) in enumerate(
            (("fused", torch.float32, DEVICE), ("reference", torch.double, "cpu"))
        ):
            layers[i].train(training)
            with kernels_in_layers() as ran:
                values, layers[i] = batch_norm_results(
                    layers[i], *case_on(device, drawn), dtype, backend
                )
            assert ("batch_norm_recurrence_backward" in ran) == (backend == "fused")
            found.append(on("cpu", values))
        assert {name: a for name, a in distances(*found).items() if a > BATCH_NORM} == {}


@pytest.mark.parametrize(
    ("cell", "statistics"),
    [
        ("lstm", "per_step"),
        ("lstm", "sequence_input"),
        ("gru", "per_step"),
        ("gru", "sequence_input"),
        ("rnn_tanh", "per_step"),
        ("rnn_relu", "per_step"),
        ("lstm", "plain cell"),
        ("lstm", "plain cell, sequence_input"),
        ("rnn_tanh", "separate"),
        ("rnn_tanh", "sequence_input"),
    ],
)
def test_batch_norm_in_bfloat16_agrees_with_the_reference_under_autocast(
    cell: str, statistics: str
) -> None:
    layer = layer_of(8, (BATCH | OTHER_BATCH)[statistics], cell)
    drawn = case(layer, [2, 2, 2, 1, 2, 1, 2, 2], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        kernels_results(layer, drawn, True),
        results(layer, *drawn, torch.float32, "reference", True),
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # the products were in bfloat16


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_same_input_gives_the_same_bits_from_run_to_run(norm: str) -> None:
    layer = layer_of(9, norm)
    drawn = case(layer, [3, 1, 2], True)
    first, second = (present(kernels_results(layer, drawn)) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_cpu_kernels_are_restored_afterwards() -> None:
    layer, x = LSTM(3, 4, norm="layer", backend="fused"), torch.randn(2, 1, 3)
    before = layer(x)[0]
    with kernels_in_layers() as ran:
        if DEVICE == "cpu":
            layer(x)
    assert ran == ["recurrence"] * (DEVICE == "cpu")
    after = layer(x)[0]
    assert ran == ["recurrence"] * (DEVICE == "cpu")
    assert torch.equal(before, after)


def test_a_first_step_of_each_sequence_runs_none_of_these_kernels() -> None:
    layer = layer_of(5, BATCH["per_step"]).float().eval()
    layer.get_buffer("running_mean_hh_l0").normal_()
    layer.get_buffer("steps_seen_l0").fill_(9)
    layer.backend = "auto"
    x, hx = torch.randn(1, 2, 13), (torch.randn(1, 2, 5),) * 2
    with kernels_in_layers() as ran:
        each = [layer(x, hx, first_step=step)[0][:, i] for i, step in enumerate((2, 7))]
        assert ran.count("batch_norm_recurrence") == 2
        found, _ = layer(x, hx, first_step=torch.tensor([2, 7]))
        assert ran.count("batch_norm_recurrence") == 2
    torch.testing.assert_close(found, torch.stack(each, dim=1))
