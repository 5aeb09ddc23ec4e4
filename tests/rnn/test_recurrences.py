"""Recurrences with their input terms: alone, and both directions of a layer at once."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kernel_cases import (
    BATCH,
    BATCH_NORM,
    BFLOAT16,
    FLOAT32,
    SEPARATE,
    batch_norm_results,
    case,
    distances,
    layer_of,
    needs_compiler,
    present,
    results,
)
from oracles import CELLS
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from seq2seq.rnn import LSTM, NormConfig, frozen
from seq2seq.rnn.cpu import recurrences

pytestmark = needs_compiler
ALL_NORMS: list[str | NormConfig] = ["none", "layer", "rms", *BATCH.values()]
SOME: list[str | NormConfig] = ["none", "layer", "batch", BATCH["sequence_input"]]
RAGGED = [9, 1, 4, 4, 7]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators of two recurrences that were called."""
    names = []
    operator = recurrences.operator

    def noted(name: str) -> Any:
        names.append(name)
        return operator(name)

    monkeypatch.setattr(recurrences, "operator", noted)
    return names


CASES = [(cell, norm, RAGGED, True) for cell in CELLS for norm in ALL_NORMS]
CASES += [
    ("lstm", norm, lengths, True) for norm in ("layer", "batch") for lengths in ([6] * 5, [1] * 4)
]
CASES += [(cell, SEPARATE, RAGGED, True) for cell in ("rnn_tanh", "rnn_relu")]
CASES += [(cell, norm, RAGGED, False) for cell in CELLS for norm in SOME]


@pytest.mark.parametrize(("cell", "norm", "lengths", "two"), CASES)
def test_results_are_those_of_the_reference(
    cell: str, norm: str | NormConfig, lengths: list[int], two: bool, called: list[str]
) -> None:
    layer = layer_of(17, norm, cell, bidirectional=two, num_layers=2)
    drawn = case(layer, lengths, given=norm != "layer")
    expected = results(layer, *drawn, torch.double, "reference")
    assert called == []
    apart = distances(results(layer, *drawn, torch.float32, "fused"), expected)
    tolerance = BATCH_NORM if layer.norm.kind.value == "batch" else FLOAT32
    assert {name: d for name, d in apart.items() if d > tolerance} == {}
    name = "batch_norm_recurrences" if layer.norm.kind.value == "batch" else "recurrences"
    assert called == [name] * 2 + [f"{name}_backward"] * 2


@pytest.mark.parametrize("norm", SOME)
@pytest.mark.parametrize("two", [False, True])
def test_fake_tensors_have_the_shapes_of_real_ones(
    norm: str | NormConfig, two: bool, called: list[str]
) -> None:
    def run() -> list[Tensor]:
        layer = LSTM(7, 8, norm=norm, bidirectional=two, backend="fused")
        x = torch.randn(6, 5, 7, requires_grad=True)
        output, state = layer(x)
        output.sum().backward()
        assert x.grad is not None
        gradients = [p.grad for p in layer.parameters() if p.grad is not None]
        assert len(gradients) == len(list(layer.parameters()))
        return [output, *state, x.grad, *gradients]

    real = [(t.shape, t.dtype) for t in run()]
    count = len(called)
    with FakeTensorMode():
        assert [(t.shape, t.dtype) for t in run()] == real
    assert len(called) == 2 * count


@pytest.mark.parametrize("norm", BATCH.values(), ids=BATCH)
def test_both_directions_record_their_statistics(norm: NormConfig, called: list[str]) -> None:
    layer = layer_of(17, norm, bidirectional=True)
    drawn = case(layer, RAGGED, False)
    expected, _ = batch_norm_results(layer, *drawn, torch.double, "reference")
    found, _ = batch_norm_results(layer, *drawn, torch.float32, "fused")
    assert called
    apart = distances(found, expected)
    assert {name: d for name, d in apart.items() if d > BATCH_NORM} == {}
    assert {n for n in apart if n.startswith("running_mean")} >= {
        "running_mean_ih_l0",
        "running_mean_ih_l0_reverse",
    }


@pytest.mark.parametrize("norm", SOME)
def test_bfloat16_agrees_with_the_reference(norm: str | NormConfig, called: list[str]) -> None:
    layer = layer_of(32, norm, bidirectional=True)
    drawn = case(layer, RAGGED, True)
    expected = results(layer, *drawn, torch.float32, "reference", autocast=True)
    apart = distances(results(layer, *drawn, torch.float32, "fused", autocast=True), expected)
    assert called
    assert {name: d for name, d in apart.items() if d > BFLOAT16} == {}


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_a_thread_for_each_direction_changes_no_bit(norm: str, called: list[str]) -> None:
    layer = layer_of(64, norm, bidirectional=True)
    drawn = case(layer, RAGGED * 4, True)
    at_once = present(results(layer, *drawn, torch.float32, "fused"))
    assert called
    torch.set_num_threads(1)
    alone = present(results(layer, *drawn, torch.float32, "fused"))
    assert at_once.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(at_once[name], value), name


@pytest.mark.parametrize("norm", SOME)
def test_inference_is_that_of_the_reference(norm: str | NormConfig, called: list[str]) -> None:
    layer = layer_of(32, norm, bidirectional=True).float().eval()
    x = torch.randn(6, 5, layer.input_size)
    expected, _ = layer(x)
    layer.backend = "fused"
    with torch.no_grad():
        output, _ = layer(x)
        with frozen(layer):
            kept = [layer(x)[0] for _ in range(2)]
    assert len(called) == 3
    for found in (output, *kept):
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("norm", SOME[1:])
def test_gradients_that_are_not_wanted_are_none(norm: str | NormConfig, called: list[str]) -> None:
    layer = layer_of(8, norm, bidirectional=True).float()
    layer.backend = "fused"
    x = torch.randn(6, 5, layer.input_size, requires_grad=True)
    layer(x)[0].square().sum().backward()
    expected = {name: p.grad for name, p in layer.named_parameters()}
    for name, p in layer.named_parameters():
        p.requires_grad_(not name.endswith("_reverse"))
    layer.zero_grad()
    layer(x)[0].square().sum().backward()
    assert called
    for name, p in layer.named_parameters():
        if name.endswith("_reverse"):
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, expected[name])


@pytest.mark.parametrize("norm", SOME)
def test_second_derivatives_are_those_of_the_reference(
    norm: str | NormConfig, called: list[str]
) -> None:
    layer = layer_of(4, norm, bidirectional=True).float()
    x = torch.randn(5, 3, layer.input_size, requires_grad=True)

    def second() -> tuple[Tensor, ...]:
        output, _ = layer(x)
        [first] = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        leaves = [x, *layer.parameters()]
        return torch.autograd.grad(first.square().sum(), leaves)

    expected = second()
    layer.backend = "fused"
    found = second()
    assert called
    for f, e in zip(found, expected, strict=True):
        assert (f - e).abs().max() <= 1e-3 * e.abs().max() + 1e-4


def test_gradients_of_biases_share_no_memory(called: list[str]) -> None:
    layer = layer_of(8, "layer").float()
    layer.backend = "fused"
    layer(torch.randn(6, 5, layer.input_size))[0].sum().backward()
    assert called
    biases = [layer.get_parameter(f"bias_{term}_l0").grad for term in ("ih", "hh")]
    assert biases[0] is not None
    assert biases[1] is not None
    assert torch.equal(biases[0], biases[1])
    biases[0].zero_()
    assert biases[1].abs().sum() > 0


def test_a_weight_that_changes_before_the_backward_pass_is_refused(called: list[str]) -> None:
    layer = layer_of(8, "layer", bidirectional=True).float()
    output, _ = layer(torch.randn(6, 5, layer.input_size))
    assert not called
    layer.backend = "fused"
    output, _ = layer(torch.randn(6, 5, layer.input_size))
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0_reverse").zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    assert called == ["recurrences"]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_two_or_three_threads_take_a_direction_each(threads: int, called: list[str]) -> None:
    torch.set_num_threads(threads)
    layer = layer_of(8, "layer", bidirectional=True).float()
    layer.backend = "fused"
    layer(torch.randn(6, 5, layer.input_size))
    assert called == ["recurrences"] * (1 if threads in (2, 3) else 2)


def test_a_wrong_number_of_tensors_is_refused() -> None:
    layer = layer_of(8, "none", bidirectional=True).float()
    layer.backend = "fused"
    layer(torch.randn(6, 5, layer.input_size))  # loads the operators
    sizes = torch.tensor([1])
    message = "expected 11 tensors for each of one or two recurrences, got 1"
    with pytest.raises(RuntimeError, match=message):
        recurrences.operator("recurrences")([None], sizes, 1, 32, "lstm", "none", 1e-5, False)
