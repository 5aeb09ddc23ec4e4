"""Inputs that are rows of a table of first products: of what `project` returned."""

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
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from seq2seq.rnn import NormConfig, RecurrentLayers, frozen, stepwise

INPUTS, HIDDEN, WORDS, SENTENCES = 5, 6, 9, (7, 4, 4, 1)
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


def vectors() -> Tensor:
    """Return a vector (WORDS, I) for each word."""
    return torch.randn(WORDS, INPUTS, generator=torch.Generator().manual_seed(1))


def words() -> PackedSequence:
    generator = torch.Generator().manual_seed(2)
    return pack_sequence([torch.randint(0, WORDS, (n,), generator=generator) for n in SENTENCES])


def of_words(x: Tensor) -> PackedSequence:
    """Return the vectors of the words, packed."""
    return PackedSequence(x[words().data], words().batch_sizes)


def results(layer: RecurrentLayers, projected: bool, second: bool = False) -> dict[str, Tensor]:
    """Return the output, the last states and all gradients, by name."""
    layer, x = copy.deepcopy(layer), vectors().requires_grad_()
    output, last = layer(words(), projected=layer.project(x)) if projected else layer(of_words(x))
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
    torch.set_num_threads(threads)
    with torch.no_grad(), frozen(layer), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert layer.packs_products()
        expected, _ = layer(of_words(vectors()))
        table = torch.cat([layer.project(row[None]) for row in vectors()])
        found, _ = layer(words(), projected=table)
        padded, _ = layer(pad_packed_sequence(words())[0], projected=table)
    torch.set_num_threads(before)
    assert torch.equal(found.data, expected.data)
    assert torch.equal(padded[:, 0], pad_packed_sequence(expected)[0][:, 0])


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("norm", SETTINGS)
def test_each_sequence_may_begin_at_another_step(norm: str) -> None:
    layer, first = layer_of("lstm", norm, "auto", 1, False).eval(), torch.tensor([3, 0, 1, 2])
    found, _ = layer(words(), projected=layer.project(vectors()), first_step=first)
    expected, _ = layer(of_words(vectors()), first_step=first)
    torch.testing.assert_close(found.data, expected.data)


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_whole_numbers_of_32_bits_and_tables_of_another_type_are_taken(backend: str) -> None:
    layer = layer_of("lstm", "layer", backend, 1, True)
    rows, table = pad_packed_sequence(words())[0], layer.project(vectors())
    expected = layer(rows, projected=table)
    torch.testing.assert_close(layer(rows.int(), projected=table), expected)
    with torch.autocast("cpu", torch.bfloat16):
        low, _ = layer(rows, projected=table)  # a table in float
        near, _ = layer(rows, projected=layer.project(vectors()))
    apart = distances(
        {"float": low, "bfloat16": near}, dict.fromkeys(["float", "bfloat16"], expected[0])
    )
    assert max(apart.values()) < BFLOAT16, apart


@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_padded_and_unbatched_inputs_are_taken(shape: tuple[int, ...]) -> None:
    layer, rows = layer_of("gru", "layer", "reference", 1, True), torch.randint(0, WORDS, shape)
    table = layer.project(vectors())
    assert table.shape == (WORDS, 2 * 3 * HIDDEN)
    torch.testing.assert_close(layer(rows, projected=table), layer(vectors()[rows]))
    layer.batch_first = True
    torch.testing.assert_close(layer(rows, projected=table), layer(vectors()[rows]))


@needs_compiler
def test_a_loop_of_shared_products_takes_no_part_in_it() -> None:
    layer = layer_of("lstm", "layer", "fused", 1, False)
    rows = torch.tensor([[1, 3, 1]])
    with stepwise([layer], [3, 3]):
        found, _ = layer(rows, projected=layer.project(vectors()))
    torch.testing.assert_close(found, layer(vectors()[rows])[0])


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "features": (words(), torch.zeros(WORDS, 47), r"input terms \(V, 48\), got \(9, 47\)"),
    "dimensions": (words(), torch.zeros(48), r"input terms \(V, 48\), got \(48,\)"),
    "type": (words(), torch.zeros(WORDS, 48).double(), "RNN input dtype"),
    "rows": (torch.zeros(2, 3), torch.zeros(WORDS, 48), r"rows \(T, B\) .* got torch.float32"),
    "shape": (torch.zeros(2, 3, 1).long(), torch.zeros(WORDS, 48), r"shape \(2, 3, 1\)"),
    "packed": (
        PackedSequence(torch.zeros(2, 1).long(), torch.tensor([2])),
        torch.zeros(WORDS, 48),
        r"rows \(N,\) .* shape \(2, 1\)",
    ),
    "no steps": (torch.zeros(0, 3).long(), torch.zeros(WORDS, 48), "sequence length"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_an_error(what: str) -> None:
    rows, table, message = REFUSED[what]
    with pytest.raises(RuntimeError, match=message):
        layer_of("lstm", "layer", "reference", 1, True)(rows, projected=table)


def test_project_expects_inputs() -> None:
    with pytest.raises(RuntimeError, match="Expected 5, got 48"):
        layer_of("lstm", "layer", "reference", 1, True).project(torch.randn(2, 3, 48))


@needs_compiler
@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("row", [-1, WORDS])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_row_that_is_not_there_is_an_error(backend: str, row: int, gradients: bool) -> None:
    layer = layer_of("lstm", "layer", backend, 1, True)
    with torch.set_grad_enabled(gradients), pytest.raises(IndexError):
        layer(torch.tensor([[0, row]]), projected=layer.project(vectors()))


@needs_compiler
def test_the_operator_refuses_another_width() -> None:
    layer = small()
    others = [layer.weight_hh_l0, *[None] * 8]
    settings = torch.tensor([2]), 2, 32, "lstm", "none", 1e-5
    recurrences = torch.ops.seq2seq.recurrences
    with pytest.raises(RuntimeError, match=r"expected an input term \(N, 32\), got \[2, 30\]"):
        recurrences([torch.zeros(2, 30), None, *others], *settings, False)
    rows = torch.zeros(2, dtype=torch.long)
    with pytest.raises(RuntimeError, match=r"expected an input term \(N, 32\), got \[2, 30\]"):
        recurrences([rows, torch.zeros(4, 30), *others], *settings, False)
    with pytest.raises(RuntimeError, match="expected a table, and no backward pass"):
        recurrences([rows, torch.zeros(4, 32), *others], *settings, True)
    with pytest.raises(RuntimeError, match="expected a table, and no backward pass"):
        recurrences([rows, None, *others], *settings, False)
    with pytest.raises(RuntimeError, match="rows side by side"):
        recurrences([rows, torch.zeros(32, 4).t(), *others], *settings, False)


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_fake_tensors_have_the_shapes_of_real_ones(norm: str) -> None:
    def run() -> list[tuple[torch.Size, torch.dtype]]:
        layer = CELLS["lstm"](INPUTS, HIDDEN, norm=norm, backend="fused").eval()
        rows = torch.zeros(3, 2, dtype=torch.long)
        output, state = layer(rows, projected=layer.project(torch.randn(WORDS, INPUTS)))
        return [(t.shape, t.dtype) for t in (output, *state)]

    real = run()
    with FakeTensorMode():
        assert run() == real


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
        self.layer, self.vectors = layer, nn.Parameter(vectors())

    def forward(self, words: Tensor) -> Tensor:
        output: Tensor = self.layer(words, projected=self.layer.project(self.vectors))[0]
        return output


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_it_is_exported(norm: str) -> None:
    model = Projected(layer_of("lstm", norm, "auto", 1, True)).eval()
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(
        model, (torch.zeros(4, 3, dtype=torch.long),), dynamic_shapes=dynamic
    )
    rows = torch.randint(0, WORDS, (6, 2))
    torch.testing.assert_close(program.module()(rows), model(rows))


@needs_compiler
def test_bfloat16_is_near_the_reference() -> None:
    layer = layer_of("lstm", "layer", "fused", 1, True)
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (
            {"output": m(words(), projected=m.project(vectors()))[0].data.detach()}
            for m in (layer, plain)
        )
    assert max(distances(found, expected).values()) < BFLOAT16
