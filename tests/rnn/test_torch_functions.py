"""Layers without a norm in torch's own functions, as on a GPU.

Here CPU tensors count as those of a GPU: the functions have the same arguments on both.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from combinations import few
from kernel_cases import needs_compiler
from oracles import CELLS, TORCH_CELLS, parts
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import LSTM, RecurrentLayers, gpu, recurrent, stepwise
from seq2seq.rnn.cpu import operators
from seq2seq.rnn.gpu import torch_functions

Calls = list[dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Let CPU tensors count as those of a GPU; return the calls of torch's functions."""
    found: Calls = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            tensors = [t for a in args for t in (a if isinstance(a, (tuple, list)) else [a])]
            contiguous = all(t.is_contiguous() for t in tensors if isinstance(t, Tensor))
            numbers = [a for a in args if isinstance(a, (int, float))]
            names = ("bias", "layers", "dropout", "train", "bidirectional")
            settings = {"function": name, "contiguous": contiguous}
            found.append(settings | dict(zip(names, numbers, strict=False)))
            return function(*args)

        return run

    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        monkeypatch.setattr(torch._VF, name, noting(name, getattr(torch._VF, name)))
    monkeypatch.setattr(gpu, "is_gpu", lambda device: device.type == "cpu")
    monkeypatch.setattr(operators, "gpu_failure", lambda: "no kernels")
    return found


def layers(cell: str, **options: Any) -> tuple[RecurrentLayers, RecurrentLayers]:
    """Return a layer without a norm and its reference, in double."""
    torch.manual_seed(0)
    ours = CELLS[cell](3, 4, norm="none", **options).double()
    reference = copy.deepcopy(ours)
    reference.backend = "reference"
    return ours, reference


def results(
    layer: nn.Module, x: Tensor, state: list[Tensor], form: str, bidirectional: bool = False
) -> dict[str, Tensor]:
    """Return the output, the last states and all gradients; x is (B, T, I)."""
    x = x.clone().requires_grad_()
    hx = [s.clone().requires_grad_() for s in state]
    given = (tuple(hx) if len(hx) == 2 else hx[0]) if hx else None
    if form == "packed":
        packed = pack_sequence([x[0, :2], x[1], x[2, :1]], enforce_sorted=False)
        output, last = layer(packed, given)
        output = output.data
    elif form == "unbatched":
        given = (tuple(s[:, 0] for s in hx) if len(hx) == 2 else hx[0][:, 0]) if hx else None
        output, last = layer(x[0], given)
    else:
        output, last = layer(x if form == "batch first" else x.transpose(0, 1), given)
    found = {"output": output} | {f"last {i}": s for i, s in enumerate(parts(last))}
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in found.values()
    )
    assert isinstance(loss, Tensor)
    leaves = {"x": x} | {f"state {i}": s for i, s in enumerate(hx)}
    leaves |= dict(layer.named_parameters())
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return found | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def case(layer: RecurrentLayers, given: bool) -> tuple[Tensor, list[Tensor]]:
    """Return x (B, T, I), and initial states, not contiguous ones."""
    generator = torch.Generator().manual_seed(2)
    shape = 3, layer.num_layers * layer.num_directions, 4
    states = [
        torch.randn(shape, generator=generator, dtype=torch.double).transpose(0, 1)
        for _ in layer.state_names
    ]
    return torch.randn(3, 4, 3, generator=generator, dtype=torch.double), states if given else []


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-12, msg=name)


# -- results ---


@few(
    {
        "cell": CELLS,
        "form": ["padded", "batch first", "packed", "unbatched"],
        "num_layers, bidirectional": [(1, False), (1, True), (3, False), (2, True)],
        "given": [False, True],
        "bias": [True, False],
    },
    rounds=4,
)
def test_all_layers_and_directions_are_one_call(
    cell: str,
    form: str,
    num_layers: int,
    bidirectional: bool,
    given: bool,
    bias: bool,
    calls: Calls,
) -> None:
    ours, reference = layers(
        cell,
        num_layers=num_layers,
        bidirectional=bidirectional,
        batch_first=form == "batch first",
        bias=bias,
    )
    x, state = case(ours, given)
    found = results(ours, x, state, form)
    assert calls == [
        {
            "function": cell,
            "contiguous": True,
            "bias": bias,
            "layers": num_layers,
            "dropout": 0.0,
            "train": True,
            "bidirectional": bidirectional,
        }
    ]
    assert_same(found, results(reference, x, state, form))
    assert len(calls) == 1


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_with_dropout_makes_a_call_for_each_layer(cell: str, calls: Calls) -> None:
    ours, reference = layers(cell, num_layers=3, bidirectional=True, dropout=0.5)
    torchs = TORCH_CELLS[cell](3, 4, num_layers=3, bidirectional=True, dropout=0.5).double()
    torchs.load_state_dict(ours.state_dict())
    x, state = case(ours, True)
    found = []
    for layer in (ours, reference, torchs):
        torch.manual_seed(1)
        found.append(results(layer, x, state, "padded"))
    assert [call["layers"] for call in calls] == [1, 1, 1, 3]  # the last is torch's own layer
    assert {call["dropout"] for call in calls[:3]} == {0.0}
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])  # the masks of a CPU
    ours.eval()
    reference.eval()
    assert_same(results(ours, x, state, "packed"), results(reference, x, state, "packed"))


def test_dropout_follows_the_random_state(calls: Calls) -> None:
    ours, _ = layers("lstm", num_layers=2, dropout=0.5)
    x = case(ours, False)[0]
    state = torch.get_rng_state()
    first = ours(x)[0]
    assert not torch.equal(ours(x)[0], first)
    torch.set_rng_state(state)
    assert torch.equal(ours(x)[0], first)


def test_what_a_backward_pass_needs_is_saved_in_eval_mode_too(calls: Calls) -> None:
    ours, _ = layers("lstm")
    x = case(ours, False)[0]
    ours.eval()
    ours(x)[0].sum().backward()
    with torch.no_grad():
        ours.train()(x)
    assert [call["train"] for call in calls] == [True, False]


def test_a_single_step_has_a_gradient_of_weight_hh_that_is_0(calls: Calls) -> None:
    ours, _ = layers("gru")
    ours(torch.randn(1, 2, 3, dtype=torch.double))[0].sum().backward()
    gradient = ours.get_parameter("weight_hh_l0").grad
    assert gradient is not None
    assert not gradient.any()
    assert len(calls) == 1


def test_names_of_weights_stay_and_torchs_weights_load(calls: Calls) -> None:
    ours, _ = layers("lstm", num_layers=2, bidirectional=True)
    torchs = nn.LSTM(3, 4, 2, bidirectional=True).double()
    assert list(ours.state_dict()) == list(torchs.state_dict())
    ours.load_state_dict(torchs.state_dict())
    x = case(ours, False)[0]
    torch.testing.assert_close(ours(x)[0], torchs(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize("parametrize", ["weight_norm", "spectral_norm"])
def test_a_parametrization_is_computed_once_a_call(parametrize: str, calls: Calls) -> None:
    ours, reference = layers("lstm", num_layers=2)
    for layer in (ours, reference):
        torch.manual_seed(1)
        getattr(parametrizations, parametrize)(layer, "weight_hh_l0")
    for layer in (ours, reference):
        layer.train()  # spectral norm has a state, which every computation changes
    x = case(ours, False)[0]
    for _ in range(3):
        assert_same(results(ours, x, [], "padded"), results(reference, x, [], "padded"))
    assert len(calls) == 3


def test_weights_that_are_replaced_count(calls: Calls) -> None:
    ours, reference = layers("gru")
    for layer in (ours, reference):
        weight = layer.get_parameter("weight_hh_l0").detach()
        del layer.weight_hh_l0
        layer.weight_hh_l0 = weight * 0.5
    x = case(ours, False)[0]
    torch.testing.assert_close(ours(x)[0], reference(x)[0], rtol=0, atol=1e-12)
    assert len(calls) == 1


# -- what runs elsewhere ---


def serves(layer: RecurrentLayers, x: Tensor, calls: Calls) -> bool:
    """Return whether a call of a layer was one of torch's functions."""
    calls.clear()
    layer(x)
    return bool(calls)


def test_other_cases_run_elsewhere(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 3)
    monkeypatch.setattr("seq2seq.rnn.backends.fused_serves", lambda *_: False)
    ours = LSTM(3, 4, norm="none")
    assert serves(ours, x, calls)
    assert not serves(LSTM(3, 4, norm="layer"), x, calls)
    assert not serves(LSTM(3, 4, norm="none", backend="reference"), x, calls)
    assert not serves(ours, x[:, :0], calls)
    with torch.autocast("cpu", torch.bfloat16):
        assert not serves(ours, x, calls)
        assert ours(x)[0].dtype == torch.float32
    monkeypatch.setattr(gpu, "is_gpu", lambda device: False)
    assert not serves(ours, x, calls)


def test_functions_of_torch_func_run_elsewhere(calls: Calls) -> None:
    ours, reference = layers("lstm")
    x = case(ours, False)[0]
    vectors = torch.ones_like(x)
    transforms: list[Callable[..., Any]] = [
        lambda f: torch.func.vmap(f)(x.unsqueeze(0)),
        lambda f: torch.func.grad(lambda v: f(v).sum())(x),
        lambda f: torch.func.jvp(f, (x,), (vectors,))[1],
    ]
    for transform in transforms:
        found, expected = (
            transform(lambda v, layer=layer: layer(v)[0]) for layer in (ours, reference)
        )
        torch.testing.assert_close(found, expected)
    assert calls == []


def test_traced_programs_run_elsewhere(calls: Calls) -> None:
    ours, reference = layers("lstm")
    x = case(ours, False)[0]
    torch._dynamo.reset()
    found = torch.compile(ours, backend="eager", fullgraph=True)(x)[0]
    torch.testing.assert_close(found, reference(x)[0])
    torch._dynamo.reset()
    with torch.no_grad():
        program = torch.export.export(ours.eval(), (x,))
    torch.testing.assert_close(program.module()(x)[0], reference(x)[0])
    assert calls == []


@needs_compiler
def test_a_loop_over_steps_shares_its_products_elsewhere(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "fused_serves", lambda *_: True)
    ours, state = LSTM(3, 4, norm="none"), None
    with stepwise([ours], [2, 2]):
        for t in range(2):
            _, state = ours(torch.randn(1, 2, 3), state, first_step=t)
    assert calls == []


# -- weights in one piece ---

Flat = list[tuple[Any, ...]]


@pytest.fixture
def flattened(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Flat:
    """Return the arguments of the function that makes weights flat."""
    found: Flat = []
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *args: found.append(args))
    monkeypatch.setattr(torch_functions, "get_cudnn_mode", lambda mode: mode)
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda w: True)
    return found


def test_weights_are_flat_from_the_start_and_after_each_move(flattened: Flat) -> None:
    ours = LSTM(3, 4, 2, bidirectional=True, norm="none")
    [(weights, *settings)] = flattened
    assert all(w is p for w, p in zip(weights, ours.parameters(), strict=True))
    assert settings == [4, 3, "LSTM", 4, 0, 2, False, True]
    ours.double()
    assert len(flattened) == 2
    assert flattened[1][0][0].dtype == torch.double
    nn.Sequential(ours).to("cpu")
    assert len(flattened) == 3


def test_with_dropout_the_weights_of_each_layer_are_flat(flattened: Flat) -> None:
    ours = CELLS["gru"](3, 4, 2, bias=False, dropout=0.1, bidirectional=True, norm="none")
    (first, *of_first), (second, *of_second) = flattened
    assert [*first, *second] == list(ours._flat_weights)
    assert of_first == [2, 3, "GRU", 4, 0, 1, False, True]
    assert of_second == [2, 8, "GRU", 4, 0, 1, False, True]


def test_weights_that_cudnn_does_not_take_in_one_piece_stay(
    flattened: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    LSTM(3, 4, norm="layer").double()
    assert flattened == []
    ours = LSTM(4, 4, norm="none")
    flattened.clear()
    ours.weight_hh_l0 = ours.weight_ih_l0  # tied
    ours.flatten_parameters()
    other = LSTM(4, 4, norm="none")
    parametrizations.weight_norm(other, "weight_hh_l0")
    mixed = LSTM(4, 4, norm="none")
    mixed.bias_hh_l0 = nn.Parameter(torch.zeros(16, dtype=torch.double))
    flattened.clear()
    for layer in (other, mixed):
        layer.flatten_parameters()
    monkeypatch.setattr(gpu, "is_gpu", lambda device: False)
    LSTM(4, 4, norm="none").double()
    assert flattened == []
