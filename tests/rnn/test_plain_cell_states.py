"""The LSTM whose cell state has no norm (norm.cell=none), in the fused CPU kernels."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_cases import (
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    PLAIN_CELL,
    batch_norm_results,
    case,
    distances,
    layer_of,
    needs_compiler,
    results,
)
from torch import Tensor

from seq2seq.rnn import LSTM, LSTMCell, NormConfig, RecurrentLayers
from seq2seq.rnn.config import Statistics
from seq2seq.rnn.cpu.step_loops import stepwise

pytestmark = needs_compiler

RAGGED = [9, 1, 4, 4, 7, 7]
NORMS: dict[str, NormConfig] = {
    "layer": PLAIN_CELL["layer"],
    "rms": PLAIN_CELL["rms"],
    **{
        f"batch {statistics}": replace(PLAIN_CELL["batch"], statistics=Statistics(statistics))
        for statistics in ("per_step", "sequence_input", "shared")
    },
}


def tolerance(norm: str) -> float:
    return BATCH_NORM if norm.startswith("batch") else FLOAT32


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("norm", NORMS)
def test_it_agrees_with_the_reference(norm: str, options: dict[str, Any], given: bool) -> None:
    layer = layer_of(17, NORMS[norm], **options)
    drawn = case(layer, RAGGED, given)
    expected = results(layer, *drawn, torch.double, "reference")
    apart = distances(results(layer, *drawn, torch.float32, "fused"), expected)
    assert {name: d for name, d in apart.items() if d > tolerance(norm)} == {}


@pytest.mark.parametrize("norm", NORMS)
def test_it_agrees_in_bfloat16(norm: str) -> None:
    layer = layer_of(100, NORMS[norm])
    drawn = case(layer, RAGGED, True)
    expected = results(layer, *drawn, torch.float32, "reference", autocast=True)
    apart = distances(results(layer, *drawn, torch.float32, "fused", autocast=True), expected)
    assert {name: d for name, d in apart.items() if d > BFLOAT16} == {}


@pytest.mark.parametrize("norm", [name for name in NORMS if name.startswith("batch")])
def test_batch_norm_records_the_same_statistics(norm: str) -> None:
    layer = layer_of(17, NORMS[norm])
    drawn = case(layer, RAGGED, False)
    expected, _ = batch_norm_results(layer, *drawn, torch.double, "reference")
    found, _ = batch_norm_results(layer, *drawn, torch.float32, "fused")
    apart = distances(found, expected)
    assert {name: d for name, d in apart.items() if d > BATCH_NORM} == {}
    assert "running_mean_hh_l0" in apart
    assert "running_mean_c_l0" not in apart


def trained(norm: str) -> RecurrentLayers:
    """Return a layer in eval mode whose statistics are those of a few batches."""
    layer = layer_of(12, NORMS[norm]).float()
    with torch.no_grad():
        for _ in range(3):
            layer(torch.randn(6, 5, 13))
    layer.backend = "fused"
    return layer.eval()


@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_sequences_may_be_at_different_steps(norm: str) -> None:
    layer, starts = trained(norm), [0, 3, 40]
    x, h = torch.randn(1, 3, 13), torch.randn(1, 3, 12)
    found, _ = layer(x, (h, h), first_step=torch.tensor(starts))
    for i, start in enumerate(starts):
        alone, _ = layer(x[:, i], (h[:, i], h[:, i]), first_step=start)
        torch.testing.assert_close(found[:, i], alone)


def gradients(layer: RecurrentLayers, x: Tensor, shared: bool) -> list[Tensor]:
    """Return output and gradients of a loop of single calls, with shared products or without."""
    layer.zero_grad()
    state, outputs = None, []
    with stepwise([layer] if shared else [], [x.size(1)] * len(x)):
        for t, step in enumerate(x.split(1)):
            output, state = layer(step, state, first_step=t)
            outputs.append(output)
    torch.cat(outputs).square().sum().backward()
    return [torch.cat(outputs), *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("norm", ["layer", "batch per_step"])
def test_a_loop_over_steps_has_the_results_of_single_calls(norm: str) -> None:
    x = torch.randn(5, 4, 13)
    layer = layer_of(12, NORMS[norm]).float()
    layer.backend = "fused"
    found, alone = (gradients(layer, x, shared) for shared in (True, False))
    assert len(found) == 1 + len(list(layer.parameters()))
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "rms", "batch per_step"])
def test_a_cell_has_the_output_of_a_layer(norm: str) -> None:
    layer = layer_of(12, NORMS[norm]).float()
    layer.backend = "fused"
    cell = LSTMCell(13, 12, norm=NORMS[norm], backend="fused")
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = torch.randn(1, 4, 13)
    torch.testing.assert_close(cell(x[0])[0], layer(x)[0][0])


@pytest.mark.parametrize("norm", ["layer", "rms", "batch per_step"])
def test_second_derivatives_are_those_of_the_reference(norm: str) -> None:
    found = []
    torch.manual_seed(1)
    x = torch.randn(4, 5, 13)
    for backend, dtype in (("fused", torch.float32), ("reference", torch.double)):
        layer = layer_of(6, NORMS[norm]).to(dtype)
        layer.backend = backend
        leaf = x.to(dtype, copy=True).requires_grad_()
        (first,) = torch.autograd.grad(layer(leaf)[0].square().sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        found.append({"first": first.detach().double(), "second": second.double()})
    assert max(distances(*found).values()) < 1e-2


@pytest.mark.parametrize("norm", ["layer", "batch per_step"])
def test_a_compiled_layer_gives_the_same(norm: str) -> None:
    layer = trained(norm)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(4, 3, 13)
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


def test_it_is_not_the_norm_of_another_place() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5)
    usual = LSTM(5, 6, norm="layer")
    plain = LSTM(5, 6, norm=NORMS["layer"], backend="fused")
    plain.load_state_dict(usual.state_dict(), strict=False)
    assert (usual(x)[0] - plain(x)[0]).abs().max() > 0.01
