"""The fused CPU kernels: results and gradients against the float64 reference."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_cases import (
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    INPUTS,
    LENGTHS,
    LONG,
    NORMS,
    case,
    distances,
    layer_of,
    needs_compiler,
    present,
    results,
)
from oracles import CELLS
from torch import Tensor

from seq2seq.config import CellConfig, ModelConfig
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import LSTM, NormConfig, NormKind, RecurrentLayers

pytestmark = needs_compiler


def assert_fused_is_right(
    layer: RecurrentLayers,
    given: bool,
    lengths: list[int],
    tolerance: float = FLOAT32,
    scale: float = 1.0,
) -> None:
    drawn = case(layer, lengths, given, scale)
    expected = results(layer, *drawn, torch.double, "reference")
    apart = distances(results(layer, *drawn, torch.float32, "fused"), expected)
    assert {name: d for name, d in apart.items() if d > tolerance} == {}


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("hidden", [3, 17, 32, 100, 257])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_float32_agrees_with_the_reference(
    cell: str, norm: str, hidden: int, lengths: list[int], given: bool
) -> None:
    assert_fused_is_right(layer_of(hidden, norm, cell), given, lengths)


@pytest.mark.parametrize("hidden", [17, 64, 100])
@pytest.mark.parametrize("norm", [*NORMS, "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_many_rows_agree_with_the_reference(cell: str, norm: str, hidden: int) -> None:
    """No tile of a product has so many rows on any processor."""
    assert_fused_is_right(
        layer_of(hidden, norm, cell),
        hidden == 64,
        [6] * 13 + [5, 4, 4, 3, 3, 2, 1],
        tolerance=BATCH_NORM if norm == "batch" else FLOAT32,
    )


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["avx2", "default"])
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="this CPU has no AVX-512 to leave out",
)
def test_with_the_instructions_of_older_processors_results_agree(instructions: str) -> None:
    products = Path(__file__).with_name("test_products.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-k",
        "many_rows or same_bits or test_products",
    ]
    done = subprocess.run(
        [*command, __file__, str(products)],
        env=os.environ | {"ATEN_CPU_CAPABILITY": instructions},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False},
        {"num_layers": 3, "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_layers_and_directions_agree_with_the_reference(
    cell: str, norm: str, options: dict[str, Any]
) -> None:
    assert_fused_is_right(layer_of(20, norm, cell, **options), True, LENGTHS["ragged"])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_500_steps_agree_with_the_reference(cell: str, norm: str) -> None:
    assert_fused_is_right(layer_of(33, norm, cell), True, [500, 13, 250], LONG)


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("hidden", [17, 100])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_agrees_with_the_reference_under_autocast(
    cell: str, norm: str, hidden: int, lengths: list[int], given: bool
) -> None:
    layer = layer_of(hidden, norm, cell)
    drawn = case(layer, lengths, given)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        results(layer, *drawn, torch.float32, backend, autocast=True)
        for backend in ("fused", "reference")
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # the products were in bfloat16


@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("norm", NORMS)
def test_extreme_inputs_agree_with_the_reference(norm: str, scale: float) -> None:
    layer = layer_of(24, norm)
    if scale == 1e4 and norm == "none":  # gates are 0 or 1, up to rounding
        drawn = case(layer, LENGTHS["ragged"], True, scale)
        found, expected = (
            results(layer, *drawn, torch.float32, "fused"),
            results(layer, *drawn, torch.float32, "reference"),
        )
        assert max(distances(found, expected).values()) < 1e-2
        return
    assert_fused_is_right(layer, True, LENGTHS["ragged"], scale=scale)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_constant_rows_with_variance_0_agree_with_the_reference(norm: str) -> None:
    layer = layer_of(24, norm)
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").fill_(0.5)
        layer.get_parameter("weight_hh_l0").fill_(0.25)
    drawn = case(layer, [5, 5], True)
    expected = results(layer, *drawn, torch.double, "reference")
    found = results(layer, *drawn, torch.float32, "fused")
    apart = distances(
        found, expected
    )  # gradients of exact 0 are rounding errors times 1 / sqrt(eps) = 316
    assert max(d for name, d in apart.items() if not name.startswith("gradient")) < 1e-3
    assert all(torch.isfinite(v).all() for v in present(found).values())


def test_nan_in_the_input_stays_nan() -> None:
    layer = LSTM(2, 3, norm="none", backend="fused")
    assert layer(torch.full((2, 1, 2), float("nan")))[0].isnan().all()


def test_an_input_that_is_not_contiguous_gives_the_same() -> None:
    layer = layer_of(20, "layer").float()
    x, state = torch.randn(INPUTS, 3, 6), torch.randn(2, 1, 20, 3)
    reference = layer(x.permute(2, 1, 0), tuple(state.transpose(-1, -2)))
    layer.backend = "fused"
    found = layer(x.permute(2, 1, 0), tuple(state.transpose(-1, -2)))
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(20, 3, 6).permute(2, 1, 0)
    gradients = []
    for layer.backend in ("fused", "reference"):
        layer.zero_grad()
        layer(x.permute(2, 1, 0))[0].backward(upstream)
        gradients.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_short_calls_whose_weights_are_not_packed_give_the_same(dtype: torch.dtype) -> None:
    layer = layer_of(40, "layer").float()
    layer.backend = "fused"
    x = torch.randn(6, 3, INPUTS)

    def run(steps: int) -> list[Tensor]:
        layer.zero_grad()
        outputs, state = [], None
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            for part in x.split(steps):
                output, state = layer(part, state)
                outputs.append(output)
        torch.cat(outputs).sum().backward()
        gradients = [p.grad for p in layer.parameters() if p.grad is not None]
        return [torch.cat(outputs).detach(), *gradients]

    packed, unpacked = run(6), run(3)
    assert max(
        (a - b).abs().max() / b.abs().max() for a, b in zip(unpacked, packed, strict=True)
    ) < (1e-5 if dtype is torch.float32 else 2e-2)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_same_input_gives_the_same_bits_from_run_to_run(norm: str) -> None:
    layer = layer_of(256, norm, bidirectional=True)
    drawn = case(layer, [9, 3, 7, 8] * 16, True)  # enough work for two threads
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            first, *others = (
                present(results(layer, *drawn, torch.float32, "fused")) for _ in range(3)
            )
            for name, other in itertools.product(first, others):
                assert torch.equal(first[name], other[name]), name
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", NORMS)
def test_two_threads_give_the_same_as_one(norm: str, cell: str) -> None:
    layer = layer_of(256, norm, cell)
    drawn = case(layer, [7] * 64, True)  # enough work for two threads
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(results(layer, *drawn, torch.float32, "fused"))
    finally:
        torch.set_num_threads(threads)
    assert max(distances(*found).values()) < FLOAT32


@pytest.mark.parametrize("norm", NORMS)
def test_a_translator_has_the_loss_of_the_reference(norm: str) -> None:
    torch.manual_seed(0)
    model = Translator(
        ModelConfig(16, 24, encoder_layers=2, decoder_layers=2, input_feeding=True, dropout=0.0),
        NormConfig(kind=NormKind[norm]),
        CellConfig(),
        Vocabulary(40, 40, True),
        "fused",
    )
    ids, lengths = torch.randint(4, 40, (5, 7)), torch.tensor([7, 5, 5, 2, 1])
    losses = {}
    for backend in ("fused", "reference"):
        for module in model.modules():
            if isinstance(module, LSTM):
                module.backend = backend
        losses[backend] = model(ids, lengths, ids, lengths)[0].item()
    assert losses["fused"] == pytest.approx(losses["reference"], rel=1e-5)
