"""Inputs that are the first product already: what `project` returned."""

import copy
from typing import Any

import pytest
import torch
from combinations import few
from kernel_cases import (
    BATCH,
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    NORMS,
    distances,
    needs_compiler,
    small,
)
from oracles import CELLS, config, parts
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from seq2seq.rnn import NormConfig, RecurrentLayers, frozen, stepwise

INPUTS, HIDDEN, SENTENCES = 5, 6, (7, 4, 4, 1)
SETTINGS: dict[str, str | NormConfig] = {
    **{norm: norm for norm in NORMS},
    **{f"batch, {name}": norm for name, norm in BATCH.items()},
}
OPTIONS: dict[str, list[Any]] = {
    "cell": list(CELLS),
    "norm": list(SETTINGS),
    "backend": ["fused", "reference"],
    "layers": [1, 2],
    "both": [False, True],
}


def layer_of(cell: str, norm: str, backend: str, layers: int, both: bool) -> RecurrentLayers:
    torch.manual_seed(0)
    layer = CELLS[cell](
        INPUTS, HIDDEN, layers, bidirectional=both, norm=SETTINGS[norm], backend=backend
    )
    with torch.no_grad():
        for p in layer.parameters():
            nn.init.normal_(p, 0.3, 0.5)
    return layer


def packed_inputs() -> PackedSequence:
    torch.manual_seed(1)
    return pack_sequence([torch.randn(n, INPUTS) for n in SENTENCES])


def results(layer: RecurrentLayers, projected: bool, second: bool = False) -> dict[str, Tensor]:
    """Return the output, the last states and all gradients, by name."""
    layer = copy.deepcopy(layer)
    packed = packed_inputs()
    x = packed.data.requires_grad_()
    inputs = PackedSequence(layer.project(x) if projected else x, packed.batch_sizes)
    output, last = layer(inputs, projected=projected)
    values = [output.data, *parts(last)]
    leaves = dict(layer.named_parameters()) | {"x": x}
    loss = sum(v.square().sum() for v in values)
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=second)
    if second:
        total = torch.stack([g.square().sum() for g in gradients]).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip("ohc", values, strict=False)) | dict(zip(leaves, gradients, strict=True))


@needs_compiler
@few(OPTIONS)
def test_outputs_and_gradients_are_those_of_the_inputs(
    cell: str, norm: str, backend: str, layers: int, both: bool
) -> None:
    layer = layer_of(cell, norm, backend, layers, both)
    apart = distances(results(layer, True), results(layer, False))
    assert max(apart.values()) < (BATCH_NORM if "batch" in norm else FLOAT32), apart


@needs_compiler
@pytest.mark.parametrize("norm", SETTINGS)
def test_second_derivatives_are_those_of_the_inputs(norm: str) -> None:
    layer = layer_of("lstm", norm, "auto", 1, True)
    apart = distances(results(layer, True, second=True), results(layer, False, second=True))
    assert max(apart.values()) < FLOAT32, apart


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", SETTINGS)
def test_no_bit_differs_within_frozen(cell: str, norm: str, autocast: bool, threads: int) -> None:
    """Each row is multiplied on its own: together with others, alone, or twice."""
    layer, before = layer_of(cell, norm, "fused", 1, True).eval(), torch.get_num_threads()
    packed = packed_inputs()
    torch.set_num_threads(threads)
    with torch.no_grad(), frozen(layer), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert layer.packs_products()
        expected, _ = layer(packed)
        rows = torch.cat([layer.project(row[None]) for row in packed.data])
        found, _ = layer(PackedSequence(rows, packed.batch_sizes), projected=True)
    torch.set_num_threads(before)
    assert torch.equal(found.data, expected.data)


@pytest.mark.parametrize("shape", [(4, INPUTS), (4, 3, INPUTS)])
def test_padded_and_unbatched_inputs_are_taken(shape: tuple[int, ...]) -> None:
    layer, x = layer_of("gru", "layer", "reference", 1, True), torch.randn(shape)
    u = layer.project(x)
    assert u.shape == (*shape[:-1], 2 * 3 * HIDDEN)
    torch.testing.assert_close(layer(u, projected=True), layer(x))
    layer.batch_first = True
    if len(shape) == 3:
        torch.testing.assert_close(layer(u, projected=True), layer(x))


@needs_compiler
def test_a_loop_of_shared_products_takes_no_part_in_it() -> None:
    layer = layer_of("lstm", "layer", "fused", 1, False)
    x = torch.randn(1, 3, INPUTS)
    with stepwise([layer], [3, 3]):
        found, _ = layer(layer.project(x), projected=True)
    torch.testing.assert_close(found, layer(x)[0])


def test_another_number_of_features_is_an_error() -> None:
    layer = layer_of("lstm", "layer", "reference", 1, True)
    with pytest.raises(RuntimeError, match="Expected 48, got 5"):
        layer(torch.randn(2, 3, INPUTS), projected=True)
    with pytest.raises(RuntimeError, match="Expected 48, got 5"):
        layer(packed_inputs(), projected=True)
    with pytest.raises(RuntimeError, match="Expected 5, got 48"):
        layer.project(torch.randn(2, 3, 48))


@needs_compiler
def test_the_operator_refuses_another_width() -> None:
    layer = small()
    with pytest.raises(RuntimeError, match=r"expected an input term \(N, 32\), got \[2, 30\]"):
        torch.ops.seq2seq.recurrences(
            [torch.zeros(2, 30), None, layer.weight_hh_l0, *[None] * 8],
            torch.tensor([2]), 2, 32, "lstm", "none", 1e-5, False,
        )  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_products_are_packed_on_a_cpu_within_frozen_alone(backend: str) -> None:
    layer = layer_of("lstm", "none", backend, 1, False).eval()
    with torch.no_grad():
        assert not layer.packs_products()
        with frozen(layer):
            assert layer.packs_products() is (backend == "auto")
    other = CELLS["lstm"](INPUTS, HIDDEN, norm=config("layer", group="gate")).eval()
    with torch.no_grad(), frozen(other):
        assert not other.packs_products()


class Projected(nn.Module):
    """A layer that projects words' vectors and then their rows."""

    def __init__(self, layer: RecurrentLayers) -> None:
        super().__init__()
        self.layer, self.vectors = layer, nn.Parameter(torch.randn(9, INPUTS))

    def forward(self, words: Tensor) -> Tensor:
        output: Tensor = self.layer(self.layer.project(self.vectors)[words], projected=True)[0]
        return output


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_it_is_exported(norm: str) -> None:
    model = Projected(layer_of("lstm", norm, "auto", 1, True)).eval()
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(
        model, (torch.zeros(4, 3, dtype=torch.long),), dynamic_shapes=dynamic
    )
    words = torch.randint(0, 9, (6, 2))
    torch.testing.assert_close(program.module()(words), model(words))


@needs_compiler
def test_bfloat16_is_near_the_reference() -> None:
    layer = layer_of("lstm", "layer", "fused", 1, True)
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (
            {"output": m(m.project(packed_inputs().data)[None], projected=True)[0].detach()}
            for m in (layer, plain)
        )
    assert max(distances(found, expected).values()) < BFLOAT16
