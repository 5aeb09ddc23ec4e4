"""The recurrent layers as drop-ins for those of torch.nn."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import (
    CELLS,
    TORCH_CELLS,
    meaningful,
    parts,
    random_state,
    randomised,
    run,
    sentences_of,
)
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, unpack_sequence
from typed import present

from seq2seq.rnn import RNN, RecurrentLayers

KINDS = ["none", "batch", "layer", "rms"]
LENGTHS = [3, 5, 1, 4]  # sorting these and undoing it are different permutations
SHAPES = [
    {},
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True},
    {"bidirectional": True, "bias": False},
]


def pair(cell: str, **options: Any) -> tuple[RecurrentLayers, nn.RNNBase]:
    """Return our layer and torch's with the same random weights, in double."""
    ours = randomised(CELLS[cell](3, 4, norm="none", **options))
    theirs = TORCH_CELLS[cell](3, 4, **options).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def data_of(output: Tensor | PackedSequence) -> Tensor:
    return output.data if isinstance(output, PackedSequence) else output


def assert_equals_torch(
    ours: RecurrentLayers,
    theirs: nn.RNNBase,
    make_input: Callable[[list[Tensor]], Any],
    state: Any = None,
) -> None:
    """Assert that outputs, states and all gradients agree.

    make_input turns the leaf tensors into the layer's input.
    """
    leaves, states = sentences_of(LENGTHS, 3), [] if state is None else parts(state)
    results, upstream = [], None
    for layer in (ours, theirs):
        xs, hx = ([t.clone().requires_grad_() for t in ts] for ts in (leaves, states))
        output, last = layer(
            make_input(xs), (tuple(hx) if ours.cell == "lstm" else hx[0]) if hx else None
        )
        values = [data_of(output), *parts(last)]
        upstream = upstream or [torch.randn_like(v) for v in values]
        torch.autograd.backward(values, upstream)
        results.append(
            [
                output,
                last,
                values,
                [t.grad for t in (*xs, *hx)],
                [p.grad for p in layer.parameters()],
            ]
        )
    (output, last, *found), (their_output, their_last, *expected) = results
    assert type(output) is type(their_output)
    assert type(last) is type(their_last)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    if isinstance(output, PackedSequence):
        torch.testing.assert_close([*output[1:]], [*their_output[1:]])


def padded(xs: list[Tensor]) -> Tensor:
    return torch.stack([torch.cat([x, x.new_zeros(5 - len(x), 3)]) for x in xs])


LAYOUTS = {
    "time first": (lambda xs: padded(xs).transpose(0, 1), {}),
    "batch first": (padded, {"batch_first": True}),
    "one step": (lambda xs: padded(xs)[None, :, 0], {}),
    "packed unsorted": (lambda xs: pack_sequence(xs, enforce_sorted=False), {}),
    "packed sorted": (lambda xs: pack_sequence([xs[i] for i in (1, 3, 0, 2)]), {}),
    "packed, batch first": (
        lambda xs: pack_padded_sequence(padded(xs), LENGTHS, True, False),
        {"batch_first": True},
    ),
}


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_without_norm_everything_equals_torch(
    cell: str, layout: str, shape: dict[str, Any], given: bool
) -> None:
    make_input, options = LAYOUTS[layout]
    ours, theirs = pair(cell, **shape, **options)
    assert_equals_torch(ours, theirs, make_input, random_state(ours, 4) if given else None)


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_unbatched_input_equals_torch(cell: str, batch_first: bool, given: bool) -> None:
    ours, theirs = pair(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    state = tuple(s[:, 0] for s in parts(random_state(ours, 1)))
    assert_equals_torch(
        ours, theirs, lambda xs: xs[0], (state if len(state) > 1 else state[0]) if given else None
    )


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_weights_load_both_ways(cell: str, options: dict[str, Any]) -> None:
    ours, theirs = CELLS[cell](3, 4, norm="none", **options), TORCH_CELLS[cell](3, 4, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 2, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    theirs.load_state_dict(CELLS[cell](3, 4, norm="none", **options).state_dict(), strict=True)


@pytest.mark.parametrize("cell", CELLS)
def test_initial_weights_equal_torch(cell: str) -> None:
    torch.manual_seed(5)
    ours = CELLS[cell](3, 4, num_layers=2, bidirectional=True, norm="none")
    torch.manual_seed(5)
    theirs = TORCH_CELLS[cell](3, 4, num_layers=2, bidirectional=True)
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_all_layouts_of_a_batch_give_one_result(cell: str, kind: str) -> None:
    layer = randomised(CELLS[cell](3, 4, num_layers=2, bidirectional=True, norm=kind))
    x, state = torch.stack(sentences_of([4] * 3, 3)), random_state(layer, 3)
    output, last = layer(x.transpose(0, 1), state)
    packed, packed_last = layer(pack_padded_sequence(x, [4] * 3, batch_first=True), state)
    layer.batch_first = True
    other, other_last = layer(x, state)
    torch.testing.assert_close(other, output.transpose(0, 1))
    torch.testing.assert_close(torch.stack(unpack_sequence(packed)), other)
    torch.testing.assert_close([parts(packed_last), parts(other_last)], [parts(last)] * 2)


# -- dropout ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_acts_only_between_layers(cell: str, kind: str) -> None:
    layer = randomised(CELLS[cell](3, 4, num_layers=2, dropout=1.0, bidirectional=True, norm=kind))
    xs = sentences_of([4, 4, 3], 3)
    first = randomised(CELLS[cell](3, 4, bidirectional=True, norm=kind))
    second = randomised(CELLS[cell](8, 4, bidirectional=True, norm=kind))
    first.load_state_dict({k: v for k, v in layer.state_dict().items() if "_l0" in k})
    second.load_state_dict(
        {k.replace("_l1", "_l0"): v for k, v in layer.state_dict().items() if "_l1" in k}
    )
    _, first_last = run(first, xs)
    output, second_last = run(second, [x.new_zeros(len(x), 8) for x in xs])
    found, last = run(layer, xs)
    torch.testing.assert_close(
        found, output
    )  # the input of the second layer is 0, and its output has no dropout
    torch.testing.assert_close(
        last, [torch.cat(x) for x in zip(first_last, second_last, strict=True)]
    )


def test_dropout_keeps_the_mean_and_is_off_in_eval_mode() -> None:
    # The second layer is an identity, so that its output is its input.
    layer = RNN(1, 1, num_layers=2, nonlinearity="relu", dropout=0.25, norm="none").double()
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.fill_(1.0 if name.startswith("weight_ih") else 0.0)
    torch.manual_seed(0)
    x = torch.ones(1, 4000, 1, dtype=torch.double)
    output = layer(x)[0]
    assert output.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert output.mean().item() == pytest.approx(1, abs=4 * (1 / 3 / 4000) ** 0.5)
    assert torch.equal(layer.eval()(x)[0], x)


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_of_a_single_layer_changes_nothing(cell: str) -> None:
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        layer = randomised(CELLS[cell](3, 4, dropout=1.0, norm="layer"))
    x = torch.randn(4, 2, 3, dtype=torch.double)
    torch.testing.assert_close(layer(x), layer.eval()(x), rtol=0, atol=0)


# -- steps ---


@pytest.mark.parametrize("statistics", ["per_step", "sequence_input", "shared"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_feeding_step_by_step_gives_the_same(cell: str, kind: str, statistics: str) -> None:
    layer = randomised(
        CELLS[cell](3, 4, num_layers=2, norm=meaningful(kind, statistics=statistics))
    )
    x = torch.stack(sentences_of([7] * 4, 3), dim=1)
    for _ in range(3):
        layer(
            x[:5] + torch.randn_like(x[:5])
        )  # five steps get different statistics; later steps use those of the fifth
    layer.eval()
    expected, expected_last = layer(x)
    state, outputs = None, []
    for t in range(7):
        output, state = layer(x[t : t + 1], state, first_step=t)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, expected_last, rtol=1e-12, atol=1e-12)
    halves = [layer(x[:3])]
    halves.append(layer(x[3:], halves[0][1], first_step=3))
    torch.testing.assert_close(
        torch.cat([half[0] for half in halves]), expected, rtol=1e-12, atol=1e-12
    )
    differs = not torch.allclose(layer(x[3:], halves[0][1])[0], expected[3:], rtol=1e-3)
    assert differs == (kind == "batch" and statistics != "shared")


# -- copies and autocast ---


@pytest.mark.parametrize(("cell", "kind"), list(itertools.product(CELLS, KINDS)))
def test_a_copy_computes_the_same(cell: str, kind: str) -> None:
    layer = CELLS[cell](3, 4, num_layers=2, norm=kind).eval()
    x = torch.randn(3, 2, 3)
    layer.flatten_parameters()
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_bf16_autocast_keeps_outputs_and_states_in_float32(cell: str, kind: str) -> None:
    layer = randomised(
        CELLS[cell](16, 16, num_layers=2, bidirectional=True, norm=meaningful(kind, max_steps=8))
    ).float()
    x = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.25)  # sums of size one, where cells are neither flat nor saturated
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, last = layer(x.bfloat16())
    assert {t.dtype for t in (output, *parts(last))} == {torch.float32}
    # bfloat16 has 8 bits, 0.4%. N enlarges terms that hardly vary, and the errors of six steps and
    # two layers add up.
    torch.testing.assert_close((output, last), expected, rtol=0.02, atol=0.02)
    assert (output - expected[0]).abs().max() > 1e-4  # the products were in bfloat16
    output.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.dtype is torch.float32 and p.grad.isfinite().all()
        for p in layer.parameters()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_one_step_has_zeros_for_what_it_does_not_read(cell: str, kind: str, backend: str) -> None:
    """As torch's layers do; DistributedDataParallel waits for the gradient of each parameter."""
    layer = CELLS[cell](3, 4, norm=kind, backend=backend)
    layer(torch.randn(1, 5, 3))[0].sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
    grads = dict(layer.named_parameters())
    assert present(grads["weight_hh_l0"].grad).count_nonzero() == 0
