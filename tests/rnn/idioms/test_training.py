"""Training as people write it: states carried on, tensors changed in place, parts frozen or tied."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from idiom_cases import NORMS, OURS, ours, same_weights, torchs
from oracles import parts
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import LSTM

X = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))
Program = Callable[[Any], Tensor]
"""It runs a layer and returns a loss."""


def truncated(layer: Any) -> Tensor:
    """Backpropagation through time, cut between two parts."""
    _, hx = layer(X)
    hx = tuple(s.detach() for s in hx) if isinstance(hx, tuple) else hx.detach()
    return layer(X.flip(0), hx)[0].square().sum()  # type: ignore[no-any-return]


def reset_rows(layer: Any) -> Tensor:
    """A new episode begins in one row."""
    mask = torch.tensor([1.0, 0.0, 1.0])[None, :, None]
    _, hx = layer(X)
    hx = tuple(s * mask for s in hx) if isinstance(hx, tuple) else hx * mask
    return layer(X.flip(0), hx)[0].square().sum()  # type: ignore[no-any-return]


def learnt_state(layer: Any) -> Tensor:
    """An initial state for all rows, expanded and not copied."""
    state = torch.linspace(-1, 1, 4).expand(1, 3, 4)
    return layer(X, (state, state) if "LSTM" in layer.mode else state)[0].square().sum()  # type: ignore[no-any-return]


def expanded_input(layer: Any) -> Tensor:
    return layer(X[:1].expand(6, 3, 5))[0].square().sum()  # type: ignore[no-any-return]


def strided_input(layer: Any) -> Tensor:
    return layer(torch.stack([X, X], -1)[..., 0])[0].square().sum()  # type: ignore[no-any-return]


def turned_input(layer: Any) -> Tensor:
    return layer(X.transpose(0, 1).contiguous().transpose(0, 1))[0].square().sum()  # type: ignore[no-any-return]


def state_in_place(layer: Any) -> Tensor:
    output, last = layer(X)
    for s in parts(last):
        s.mul_(0.5)
    return output.sum() + torch.stack([s.square().sum() for s in parts(last)]).sum()  # type: ignore[no-any-return]


def output_in_place(layer: Any) -> Tensor:
    output, _ = layer(X)
    return output.mul_(2).square().sum()  # type: ignore[no-any-return]


def weight_in_place(layer: Any) -> Tensor:
    """An optimizer's step between the two passes."""
    loss = layer(X)[0].square().sum()
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    return loss  # type: ignore[no-any-return]


def input_in_place(layer: Any) -> Tensor:
    x = X.clone()
    loss = layer(x)[0].square().sum()
    x.mul_(2)
    return loss  # type: ignore[no-any-return]


def partly_frozen(layer: Any) -> Tensor:
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_ih_l0.requires_grad_(False)
    return layer(X)[0].square().sum()  # type: ignore[no-any-return]


def with_anomaly_detection(layer: Any) -> Tensor:
    with torch.autograd.set_detect_anomaly(True):
        return layer(X)[0].square().sum()  # type: ignore[no-any-return]


def saved_elsewhere(layer: Any) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return layer(X)[0].square().sum()  # type: ignore[no-any-return]


PROGRAMS: list[Program] = [
    truncated,
    reset_rows,
    learnt_state,
    expanded_input,
    strided_input,
    turned_input,
    state_in_place,
    output_in_place,
    weight_in_place,
    input_in_place,
    partly_frozen,
    with_anomaly_detection,
    saved_elsewhere,
]


def outcome(layer: Any, program: Program) -> str | list[Tensor]:
    """Return the loss and the gradients, or the start of the error's message."""
    try:
        loss = program(layer)
        loss.backward()
    except RuntimeError as error:
        return str(error)[:110]
    gradients = [p.grad for p in layer.parameters()]
    return [loss.detach(), *(torch.zeros(()) if g is None else g for g in gradients)]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cell", OURS)
def test_a_program_gives_what_it_gives_with_torch(cell: str, program: Program) -> None:
    theirs, mine = same_weights(cell, 5, 4)
    found, expected = outcome(mine, program), outcome(theirs, program)
    if isinstance(expected, str) or program is output_in_place:
        # The kernels keep the output for the backward pass, as those of torch.nn.LSTM do.
        assert isinstance(found, str)
        assert "modified by an inplace operation" in found
    else:
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_a_program_gives_the_same_on_both_backends_or_an_error(
    cell: str, norm: str, program: Program
) -> None:
    torch.manual_seed(0)
    layer = ours(cell, norm)(5, 4)
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    found, expected = outcome(layer, program), outcome(plain, program)
    if isinstance(found, str):
        assert "modified by an inplace operation" in found
    else:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_a_change_in_place_before_the_backward_pass_is_never_silent(norm: str) -> None:
    for make in (torchs("LSTM"), ours("LSTM", norm)):
        for program in (weight_in_place, input_in_place):
            assert "modified by an inplace operation" in outcome(make(5, 4), program)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_tied_weights_have_the_sum_of_gradients(cell: str, norm: str) -> None:
    torch.manual_seed(0)
    first, second = ours(cell, norm)(4, 4), ours(cell, norm)(4, 4)
    second.weight_hh_l0 = first.weight_hh_l0
    model = nn.ModuleList([first, second])
    x = X[..., :4]
    second(first(x)[0])[0].square().sum().backward()
    assert len(list(model.parameters())) == 2 * len(list(first.parameters())) - 1
    tied = first.weight_hh_l0.grad.clone()
    apart = copy.deepcopy(model)
    apart[1].weight_hh_l0 = nn.Parameter(first.weight_hh_l0.detach().clone())
    apart.zero_grad()
    apart[1](apart[0](x)[0])[0].square().sum().backward()
    gradients = [m.get_parameter("weight_hh_l0").grad for m in apart]
    expected = torch.stack([g for g in gradients if g is not None]).sum(0)
    torch.testing.assert_close(tied, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cell", OURS)
def test_dropout_draws_the_same_masks(cell: str) -> None:
    theirs, mine = same_weights(cell, 5, 4, 3, dropout=0.5, bidirectional=True)
    packed = pack_sequence([X[:, 0], X[:4, 1], X[:1, 2]])
    for x in (X, packed):
        found = []
        for layer in (mine, theirs):
            torch.manual_seed(1)
            output = layer(x)[0]
            found.append(output if isinstance(output, Tensor) else output.data)
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("norm", NORMS)
def test_attributes_may_be_set_later(norm: str) -> None:
    found = []
    for make in (torchs("LSTM"), ours("LSTM", norm)):
        layer = make(5, 4, num_layers=2)
        layer.dropout, layer.batch_first = 0.5, True
        found.append(layer(X)[1][0].shape)
        assert not torch.equal(layer(X)[0], layer(X)[0])
        names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")
        found.append([getattr(layer, name) for name in names])
    assert found[:2] == found[2:]


@pytest.mark.parametrize("norm", NORMS)
def test_a_subclass_may_override_what_one_overrides(norm: str) -> None:
    class Constant(LSTM):
        def reset_parameters(self) -> None:
            for p in self.parameters():
                nn.init.constant_(p, 0.5)

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            output: Tensor = super().forward(x)[0]
            return output

    layer = Constant(5, 4, norm=norm)
    assert all(p.unique().tolist() == [0.5] for p in layer.parameters())
    assert layer(X).shape == (6, 3, 4)


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_finite_stays_in_its_sequence(norm: str) -> None:
    x = X.clone()
    x[2, 1] = float("nan")
    for make in (torchs("LSTM"), ours("LSTM", norm)):
        nan = make(5, 4).eval()(x)[0].isnan().any(-1)
        assert nan[:, 1].tolist() == [False, False, True, True, True, True]
        assert not nan[:, [0, 2]].any()


@pytest.mark.parametrize("norm", NORMS)
def test_defaults_of_type_and_determinism_apply(norm: str) -> None:
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        for make in (torchs("LSTM"), ours("LSTM", norm)):
            layer = make(5, 4)
            output = layer(torch.randn(6, 3, 5))[0]
            output.sum().backward()
            assert output.dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_scaled_losses_and_vectors_of_parameters(norm: str) -> None:
    layer = ours("LSTM", norm)(5, 4)
    optimizer, scaler = torch.optim.SGD(layer.parameters(), 0.1), torch.amp.GradScaler("cpu")
    before = torch.nn.utils.parameters_to_vector(layer.parameters()).detach()
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(X)[0].square().sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm_before = torch.nn.utils.clip_grad_norm_(layer.parameters(), 1e-3)
    assert norm_before > 1e-3
    scaler.step(optimizer)
    scaler.update()
    after = torch.nn.utils.parameters_to_vector(layer.parameters())
    assert 0 < (after - before).norm() < 1.1e-4
    torch.nn.utils.vector_to_parameters(before, layer.parameters())
    assert torch.equal(torch.nn.utils.parameters_to_vector(layer.parameters()), before)
