"""Inputs and states that a layer takes, and those that it refuses in the words of torch.nn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from idiom_cases import BACKENDS, NORMS, OURS, Make, ours, state_for, tensors_of, torchs
from torch.nn.utils.rnn import pack_sequence

Call = Callable[[Make, str], Any]
"""Something done with a class of layers; the other argument is its name."""

X = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))


def tells(run: Callable[[], Any]) -> str:
    """Return the message of the error that something raises."""
    with pytest.raises((ValueError, RuntimeError, TypeError)) as raised:
        run()
    return str(raised.value)


SAME_WORDS: dict[str, tuple[Call, str]] = {
    "1-D": (lambda m, _: m(5, 4)(torch.zeros(5)), "Expected input to be 2D or 3D, got 1D"),
    "4-D": (
        lambda m, _: m(5, 4)(X[None]),
        "Expected input to be 2D or 3D, got 4D",
    ),
    "features": (
        lambda m, _: m(6, 4)(X),
        "input.size(-1) must be equal to input_size. Expected 6, got 5",
    ),
    "no steps": (
        lambda m, _: m(5, 4)(X[:0]),
        "Expected sequence length to be larger than 0 in RNN",
    ),
    "no steps, batch first": (
        lambda m, _: m(5, 4, batch_first=True)(X[:, :0]),
        "Expected sequence length to be larger than 0 in RNN",
    ),
    "no steps, no batch": (
        lambda m, _: m(5, 4)(X[:0, 0]),
        "Expected sequence length to be larger than 0 in RNN",
    ),
    "no steps, no rows": (
        lambda m, _: m(5, 4)(X[:0, :0]),
        "Expected sequence length to be larger than 0 in RNN",
    ),
    "2-D state": (
        lambda m, cell: m(5, 4)(X, state_for(cell, 3, 4)),
        "should also be 3-D but got",
    ),
    "3-D state of an unbatched input": (
        lambda m, cell: m(5, 4)(X[:, 0], state_for(cell, 1, 1, 4)),
        "should also be 2-D but got",
    ),
    "input on another device": (
        lambda m, _: m(5, 4)(X.to("meta")),
        "Input and parameter tensors are not at the same device, found input tensor at meta and"
        " parameter tensor at cpu",
    ),
    "state on another device": (
        lambda m, cell: m(5, 4)(X, state_for(cell, 1, 3, 4, device="meta")),
        "Input and hidden tensors are not at the same device, found input tensor at cpu and hidden"
        " tensor at meta",
    ),
    "dropout above 1": (lambda m, _: m(5, 4, 2, dropout=1.5), ""),
    "dropout=True": (lambda m, _: m(5, 4, 2, dropout=True), ""),
    "dropout of another type": (lambda m, _: m(5, 4, 2, dropout="no"), ""),
    "hidden_size of another type": (
        lambda m, _: m(5, 4.0),
        "hidden_size should be of type int, got: float",
    ),
    "input_size of another type": (
        lambda m, _: m(5.0, 4),
        "float",
    ),
    "no layers": (lambda m, _: m(5, 4, 0), "num_layers"),
    "unknown": (lambda m, _: m(5, 4, layers=2), "unexpected keyword argument 'layers'"),
}
"""What torch refuses, and a part of its message."""


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
@pytest.mark.parametrize("case", SAME_WORDS)
def test_what_torch_refuses_is_refused_in_its_words(case: str, cell: str, norm: str) -> None:
    run, words = SAME_WORDS[case]
    assert words in tells(lambda: run(torchs(cell), cell))
    assert words in tells(lambda: run(ours(cell, norm), cell))


@pytest.mark.parametrize("cell", OURS)
def test_sizes_of_a_state_are_named_as_in_torch(cell: str) -> None:
    for make in (torchs(cell), ours(cell)):
        message = tells(lambda make=make: make(5, 4)(X, state_for(cell, 1, 2, 4)))  # type: ignore[misc]
        name = "hidden[0]" if cell == "LSTM" else "hidden"
        assert f"Expected {name} size (1, 3, 4), got [1, 2, 4]" in message
    right, wrong = torch.zeros(1, 3, 4), torch.zeros(1, 3, 7)
    for make in (torchs("LSTM"), ours("LSTM")):
        message = tells(lambda make=make: make(5, 4)(X, (right, wrong)))  # type: ignore[misc]
        assert "Expected hidden[1] size (1, 3, 4), got [1, 3, 7]" in message


@pytest.mark.parametrize("cell", OURS)
def test_packed_inputs_are_checked_too(cell: str) -> None:
    """torch.nn.LSTM does not check them: it reads other memory, or fails within."""
    layer = ours(cell)(5, 4)
    packed = pack_sequence([torch.zeros(2, 6)])
    assert "must be equal to input_size. Expected 5, got 6" in tells(lambda: layer(packed))
    packed = pack_sequence([torch.zeros(2, 3, 5)])
    assert "input must have 2 dimensions, got 3" in tells(lambda: layer(packed))
    packed = pack_sequence([torch.zeros(2, 5, dtype=torch.float64)])
    assert "float64" in tells(lambda: layer(packed))
    packed = pack_sequence([torch.zeros(2, 5)])
    message = tells(lambda: layer(packed, state_for(cell, 1, 3, 4)))
    assert "size (1, 1, 4), got [1, 3, 4]" in message


# -- types ---

TYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("cell", OURS)
def test_an_input_of_another_type_is_one_error(
    cell: str, dtype: torch.dtype, norm: str, backend: str
) -> None:
    tells(lambda: torchs(cell)(5, 4)(X.to(dtype)))
    layer = ours(cell, norm, backend)(5, 4)
    words = f"RNN input dtype ({dtype}) does not match weight dtype (torch.float32)"
    for mode in (layer.train(), layer.eval()):
        assert words in tells(lambda mode=mode: mode(X.to(dtype)))  # type: ignore[misc]
        with torch.no_grad():
            assert words in tells(lambda mode=mode: mode(X.to(dtype)))  # type: ignore[misc]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("cell", OURS)
def test_a_state_of_another_type_is_one_error(cell: str, dtype: torch.dtype, backend: str) -> None:
    state = state_for(cell, 1, 3, 4, dtype=dtype)
    tells(lambda: torchs(cell)(5, 4)(X, state))
    message = tells(lambda: ours(cell, "layer", backend)(5, 4)(X, state))
    assert message.startswith("h_0: Input and hidden tensors are not the same dtype")
    assert "torch.float32" in message
    assert str(dtype) in message


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_float64_layers_run(cell: str, norm: str) -> None:
    layer = ours(cell, norm)(5, 4, bidirectional=True).double()
    found = tensors_of(layer(X.double()))
    assert {t.dtype for t in found} == {torch.float64}
    assert [t.shape for t in found] == [
        t.shape for t in tensors_of(torchs(cell)(5, 4, bidirectional=True).double()(X.double()))
    ]
    assert "float32" in tells(lambda: layer(X))


@pytest.mark.parametrize("cell", OURS)
def test_autocast_converts_floating_types_alone(cell: str) -> None:
    layer = ours(cell)(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torchs(cell)(5, 4)(X.bfloat16())[0].dtype is torch.bfloat16
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            state = state_for(cell, 1, 3, 4, dtype=dtype)
            assert {t.dtype for t in tensors_of(layer(X.to(dtype), state))} == {torch.float32}
        for make in (torchs(cell), ours(cell)):
            assert "Long" in (m := tells(lambda make=make: make(5, 4)(X.long()))) or "int64" in m  # type: ignore[misc]


# -- empty batches ---


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_an_empty_batch_has_empty_outputs_and_gradients_of_zero(
    cell: str, norm: str, backend: str
) -> None:
    found = []
    for make in (torchs(cell), ours(cell, norm, backend)):
        layer = make(5, 4, num_layers=2, bidirectional=True)
        before = {name: b.clone() for name, b in layer.named_buffers()}
        x = torch.zeros(7, 0, 5, requires_grad=True)
        results = [*tensors_of(layer(x)), *tensors_of(layer(x, state_for(cell, 4, 0, 4)))]
        torch.stack([t.sum() for t in results]).sum().backward()
        assert x.grad is not None
        found.append([t.shape for t in (*results, x.grad)])
        gradients = [p.grad for p in layer.parameters()]
        assert all(g is not None and not g.any() for g in gradients)
        for name, b in layer.named_buffers():
            assert torch.equal(b, before[name])
        with torch.no_grad():
            found[-1] += [t.shape for t in tensors_of(layer.eval()(x))]
        found[-1] += [layer(x.transpose(0, 1)[:0].transpose(0, 1))[0].shape]
    assert found[0] == found[1]


@pytest.mark.parametrize("norm", NORMS)
def test_an_empty_batch_may_be_batch_first_or_have_steps_of_its_own(norm: str) -> None:
    layer = ours("LSTM", norm)(5, 4, batch_first=True).eval()
    assert layer(torch.zeros(0, 7, 5))[0].shape == (0, 7, 4)
    steps = torch.zeros(0, dtype=torch.long)
    assert layer(torch.zeros(0, 7, 5), first_step=steps)[0].shape == (0, 7, 4)


# -- dropout ---


@pytest.mark.parametrize("cell", OURS)
def test_dropout_of_one_layer_warns_as_in_torch(cell: str) -> None:
    warned = []
    for make in (torchs(cell), ours(cell)):
        with pytest.warns(UserWarning, match="dropout option adds dropout") as found:
            layer = make(5, 4, dropout=0.5)
        warned.append(str(found[0].message))
        assert isinstance(layer.dropout, float)
    assert warned[0] == warned[1]
