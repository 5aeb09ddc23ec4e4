"""The fused CPU kernels with batch norm: results, gradients and statistics."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from kernel_cases import (
    BATCH,
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    INPUTS,
    SEPARATE,
    batch_norm_results,
    case,
    distances,
    layer_of,
    needs_compiler,
    results,
)
from oracles import CELLS
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import RecurrentLayers, recalibrating

pytestmark = needs_compiler

SETTINGS = BATCH | {"separate terms": SEPARATE}
BATCH_CASES = [(cell, name) for cell in CELLS for name in BATCH]
BATCH_CASES += [(cell, "separate terms") for cell in ("rnn_tanh", "rnn_relu")]
"""Cells and settings of batch norm; the other cells have separate terms by default."""


def assert_batch_norm_is_right(
    layer: RecurrentLayers,
    batches: list[list[int]],
    given: bool = True,
    modes: Sequence[bool] = (True, True, False),
) -> None:
    """Assert that outputs, gradients and statistics agree with the reference after each batch."""
    drawn = [case(layer, lengths, given) for lengths in batches]
    layers = [copy.deepcopy(layer), copy.deepcopy(layer)]
    for training, d in zip(modes, drawn, strict=True):
        found = []
        for i, (backend, dtype) in enumerate(
            (("fused", torch.float32), ("reference", torch.double))
        ):
            layers[i].train(training)
            values, layers[i] = batch_norm_results(layers[i].to(dtype), *d, dtype, backend)
            found.append(values)
        assert {name: a for name, a in distances(*found).items() if a > BATCH_NORM} == {}


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("hidden", [17, 64, 100])
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_agrees_with_the_reference(
    cell: str, statistics: str, hidden: int, given: bool
) -> None:
    batches = [
        [9, 1, 4, 4, 7, 7],
        [5] * 4,
        [12, 12, 3],
    ]  # the last steps have too few rows, or no statistics
    assert_batch_norm_is_right(layer_of(hidden, SETTINGS[statistics], cell), batches, given)


@pytest.mark.parametrize(
    "options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_in_layers_and_directions_agrees_with_the_reference(
    cell: str, statistics: str, options: dict[str, Any]
) -> None:
    batches = [[9, 1, 4, 4, 7, 7], [5] * 4, [12, 12, 3]]
    assert_batch_norm_is_right(layer_of(20, SETTINGS[statistics], cell, **options), batches)


@pytest.mark.parametrize("lengths", [[1] * 4, [8], [1], [6, 6]], ids=str)
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_of_few_rows_and_steps_agrees_with_the_reference(
    cell: str, statistics: str, lengths: list[int]
) -> None:
    assert_batch_norm_is_right(layer_of(20, SETTINGS[statistics], cell), [lengths] * 3)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_with_two_threads_agrees_with_the_reference(cell: str, statistics: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_batch_norm_is_right(layer_of(257, SETTINGS[statistics], cell), [[6] * 40] * 3)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_recalibrated_statistics_agree_with_the_reference(cell: str, statistics: str) -> None:
    layer = layer_of(20, SETTINGS[statistics], cell)
    drawn = [case(layer, lengths, False) for lengths in ([9, 1, 4, 4, 7], [5] * 4)]
    stored = []
    for backend, dtype in (("fused", torch.float32), ("reference", torch.double)):
        run = copy.deepcopy(layer).to(dtype).eval()
        run.backend = backend
        with recalibrating(run):
            for sentences, *_ in drawn:
                run(pack_sequence([s.to(dtype) for s in sentences], enforce_sorted=False))
        stored.append({name: b.double() for name, b in run.named_buffers()})
    assert max(distances(*stored).values()) < FLOAT32


def test_batch_norm_fed_step_by_step_uses_the_statistics_of_each_step() -> None:
    layer = layer_of(20, BATCH["per_step"]).float()
    x = torch.randn(6, 4, INPUTS)
    layer(x)
    layer.eval()
    layer.backend = "fused"
    whole, state, steps = layer(x)[0], None, []
    for t in range(6):
        output, state = layer(x[t : t + 1], state, first_step=t)
        steps.append(output)
    torch.testing.assert_close(torch.cat(steps), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_in_bfloat16_agrees_with_the_reference_under_autocast(
    cell: str, statistics: str
) -> None:
    layer = layer_of(100, SETTINGS[statistics], cell)
    drawn = case(layer, [9, 4, 4, 7, 7, 7, 9, 9], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        results(layer, *drawn, torch.float32, backend, autocast=True)
        for backend in ("fused", "reference")
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # the products were in bfloat16
