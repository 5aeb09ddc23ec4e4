"""Second derivatives of the fused kernels, which plain torch computes."""

import copy
from typing import Any

import pytest
import torch
from kernel_cases import BATCH, NORMS, X, needs_compiler, small
from oracles import CELLS, config, parts
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import NormConfig, RecurrentLayers, packs

pytestmark = needs_compiler

SENTENCES = [torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (6, 5, 4, 3, 1)]
SETTINGS: dict[str, str | NormConfig] = {
    **{norm: norm for norm in NORMS},
    **{f"batch, {name}": norm for name, norm in BATCH.items()},
}


def layer_of(cell: str, norm: str | NormConfig, **options: Any) -> RecurrentLayers:
    """Return a layer with random parameters, and statistics."""
    torch.manual_seed(0)
    layer = CELLS[cell](5, 4, 2, bidirectional=True, norm=norm, **options)
    with torch.no_grad():
        for p in layer.parameters():
            torch.nn.init.normal_(p, 0.3, 0.5)
        layer(pack_sequence(SENTENCES))
    return layer


def derivatives(layer: RecurrentLayers, given: bool) -> list[Tensor]:
    """Return the gradients of a loss, and those of the sum of their squares."""
    xs = [x.clone().requires_grad_() for x in SENTENCES]
    h = torch.linspace(-1, 1, 4 * 5 * 4).view(4, 5, 4).requires_grad_()
    state: Any = ((h, h) if layer.cell == "lstm" else h) if given else None
    output, last = layer(pack_sequence(xs), state)
    loss = output.data.square().sum()
    for weight, s in enumerate(parts(last), 1):
        loss = loss + weight * s.square().sum()
    leaves = [*xs, *layer.parameters(), *([h] if given else [])]
    first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
    total = torch.stack([g.square().sum() for g in first if g is not None]).sum()
    second = torch.autograd.grad(total, leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) for leaf in leaves] * 2
    return [z if g is None else g for g, z in zip((*first, *second), zeros, strict=True)]


def assert_agree(layer: RecurrentLayers, given: bool, tolerance: float) -> None:
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    found, expected = (derivatives(m, given) for m in (layer, plain))
    for f, e in zip(found, expected, strict=True):
        assert (f - e).abs().max() <= tolerance * (e.abs().max() + 1e-2)
    assert all(g.any() for g in expected[-len(SENTENCES) :])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("norm", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("cell", CELLS)
def test_they_are_those_of_the_reference(
    cell: str, norm: str | NormConfig, given: bool, training: bool
) -> None:
    # Rounding (6e-8) through six steps, two layers and two passes; batch norm divides by the
    # deviation of three rows, and its derivatives reach 2e7 here.
    tolerance = 1e-4 if isinstance(norm, str) else 1e-2
    assert_agree(layer_of(cell, norm).train(training), given, tolerance)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_without_biases_have_them_too(cell: str, norm: str) -> None:
    settings = config("batch", min_rows=3) if norm == "batch" else norm
    assert_agree(layer_of(cell, settings, bias=False), True, 2e-3)


@pytest.mark.skipif(not packs(torch.bfloat16), reason="no bfloat16 products")
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_bfloat16_products_have_them_too(norm: str) -> None:
    layer = layer_of("lstm", norm)
    plain = copy.deepcopy(layer)
    with torch.autocast("cpu", torch.bfloat16):
        found = derivatives(layer, True)
    expected = derivatives(plain, True)
    # bfloat16 has 8 bits (0.4%), in products of both passes, through six steps and two layers.
    total = sum((f - e).norm() ** 2 for f, e in zip(found, expected, strict=True)) ** 0.5
    assert total < 0.15 * sum(e.norm() ** 2 for e in expected) ** 0.5
    assert all(f.isfinite().all() for f in found)


def test_no_statistic_is_averaged_again() -> None:
    layer = layer_of("lstm", config("batch", min_rows=3))
    x = pack_sequence([s.clone().requires_grad_() for s in SENTENCES])
    output, _ = layer(x)
    before = {name: b.clone() for name, b in layer.named_buffers()}
    [gradient] = torch.autograd.grad(output.data.sum(), x.data, create_graph=True)
    gradient.square().sum().backward()
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())


def test_derivatives_of_any_order_are_there() -> None:
    results = []
    for backend in ("fused", "reference"):
        layer, x = small(), X.clone().requires_grad_()
        layer.backend = backend
        value = layer(x)[0].square().sum()
        for _ in range(3):
            [gradient] = torch.autograd.grad(value, x, create_graph=True)
            value = gradient.square().sum()
        results.append(value.detach())
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


def test_the_backward_operators_themselves_have_no_derivatives() -> None:
    layer = small()
    du, x = torch.randn(2, 32, requires_grad=True), torch.randn(2, 3)
    found, _ = torch.ops.seq2seq.projection_backward(du, x, layer.weight_ih_l0, True, True)
    with pytest.raises(RuntimeError, match="differentiate through the layer"):
        found.sum().backward()
