"""Weights that are read again in each call, and those that `frozen` keeps packed."""

import copy
import pickle
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from kernel_cases import NORMS, X, needs_compiler, small
from oracles import CELLS, randomised
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seq2seq.rnn import LSTM, RecurrentLayers, frozen, packs, recalibrating
from seq2seq.rnn.cpu.frozen import SCOPES

pytestmark = needs_compiler

# -- writes ---


def by_data(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, p in layer.named_parameters():
        p.data.copy_(weights[name])


def by_numpy(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, p in layer.named_parameters():
        p.detach().numpy()[...] = weights[name].numpy()


def by_copy(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(weights[name])


def by_address(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, p in layer.named_parameters():
        p.data = weights[name].clone()


def by_new_parameters(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, _ in list(layer.named_parameters()):
        layer.register_parameter(name, nn.Parameter(weights[name]))


def by_optimizer(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take one step of gradient descent to the new weights."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for name, p in layer.named_parameters():
        p.grad = p.detach() - weights[name]
    optimizer.step()


def by_foreach(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    """Average with the other weights as libraries of moving averages do."""
    pairs = [(p.data, weights[name]) for name, p in layer.named_parameters()]
    torch._foreach_lerp_([p for p, _ in pairs], [w for _, w in pairs], 1.0)


def by_swapped_values(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    """Exchange values with an average, as optimizers of stochastic weight averaging do."""
    for name, p in layer.named_parameters():
        old = p.data.clone()
        p.data.copy_(weights[name])
        weights[name].copy_(old)


def by_swapped_tensors(layer: nn.Module, weights: dict[str, Tensor]) -> None:
    """Exchange tensors, as load_state_dict and to() do on request."""
    for name, p in layer.named_parameters():
        torch.utils.swap_tensors(p, nn.Parameter(weights[name].clone()))


WRITES: dict[str, Callable[[nn.Module, dict[str, Tensor]], Any]] = {
    "data": by_data,
    "numpy": by_numpy,
    "copy": by_copy,
    "address": by_address,
    "new parameters": by_new_parameters,
    "optimizer": by_optimizer,
    "foreach": by_foreach,
    "swapped values": by_swapped_values,
    "swapped tensors": by_swapped_tensors,
    "load_state_dict": lambda layer, weights: layer.load_state_dict(weights),
    "assign": lambda layer, weights: layer.load_state_dict(weights, assign=True),
}


def on_reference(layer: RecurrentLayers) -> Any:
    """Return what the equations give with the present weights."""
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    return plain(X)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("norm", [*NORMS, "batch"])
@torch.no_grad()
def test_every_write_counts_in_the_next_call(
    norm: str, write: Callable[[nn.Module, dict[str, Tensor]], Any]
) -> None:
    layer = small(norm, num_layers=2, bidirectional=True).eval()
    new = randomised(copy.deepcopy(layer)).float().eval()
    with frozen(layer):
        before = layer(X)
    torch.testing.assert_close(layer(X), before, rtol=1e-5, atol=1e-6)
    write(layer, new.state_dict())
    found = layer(X)
    torch.testing.assert_close(found, on_reference(layer), rtol=1e-5, atol=1e-6)
    assert (found[0] - before[0]).abs().max() > 1e-2
    with frozen(layer):
        torch.testing.assert_close(layer(X), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_an_average_follows_the_weights(cell: str) -> None:
    """A target network, or an average of weights, is used in eval mode after each update."""
    model = CELLS[cell](3, 8, backend="fused")
    average: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.eval()
    with torch.no_grad():
        outputs = [average(X)[0]]
        for _ in range(3):
            model.get_parameter("weight_hh_l0").data.mul_(-2)
            average.update_parameters(model)
            outputs.append(average(X)[0])
            expected = on_reference(average.module)[0]
            torch.testing.assert_close(outputs[-1], expected, rtol=1e-5, atol=1e-6)
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(outputs))


@torch.no_grad()
def test_statistics_may_be_written_too() -> None:
    layer = small("batch").eval()
    before = layer(X)[0]
    layer.get_buffer("running_var_ih_l0").data.fill_(100.0)
    torch.testing.assert_close(layer(X), on_reference(layer), rtol=1e-5, atol=1e-6)
    assert not torch.equal(layer(X)[0], before)


# -- scopes ---


def kept(layer: nn.Module) -> list[Tensor]:
    """Return the packed weights that are kept of a layer."""
    scope = SCOPES.get(layer)
    cells = [] if scope is None else scope.kept.values()
    ready = [operands for p in cells for operands in p.kept.values()]
    return [weight for r in ready for weight in (r.weight_ih, r.weight_hh) if weight.dim() == 3]


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_scope_keeps_packed_weights_and_gives_the_same(norm: str, autocast: bool) -> None:
    layer = small(norm, bidirectional=True).eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = layer(X)
        with torch.no_grad():
            torch.testing.assert_close(layer(X), expected, rtol=1e-6, atol=1e-6)
            assert not kept(layer)
            with frozen(layer):
                found = layer(X)
                weights = kept(layer)
                assert len(weights) == (
                    4 if packs(torch.bfloat16 if autocast else torch.float32) else 0
                )
                assert torch.equal(layer(X)[0], found[0])
                assert all(a is b for a, b in zip(weights, kept(layer), strict=True))
    assert not SCOPES
    tolerance = 2e-2 if autocast else 1e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_nothing_is_kept_in_training_or_with_gradients() -> None:
    layer = small("batch").eval()
    with frozen(layer):
        layer(X)[0].sum().backward()
        assert layer.get_parameter("gain_hh_l0").grad is not None
        with torch.no_grad():
            layer.train()(X)
            with recalibrating(layer.eval()):
                layer(X)
        assert not SCOPES[layer].kept
    after = copy.deepcopy(layer)
    with torch.no_grad(), frozen(layer):
        torch.testing.assert_close(layer(X), after(X), rtol=1e-6, atol=1e-6)


def test_everything_is_dropped_when_the_outermost_scope_ends() -> None:
    model = nn.Sequential(nn.Linear(3, 3), small().eval())
    with torch.no_grad(), frozen(model):
        model(X)
        weights = kept(model[1])
        with frozen(model[1], model):
            model(X)
        assert all(a is b for a, b in zip(weights, kept(model[1]), strict=True))
    assert not SCOPES


@torch.no_grad()
def test_an_exception_ends_a_scope() -> None:
    layer = small().eval()

    def fail() -> None:
        with frozen(layer):
            layer(X)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not SCOPES


@torch.no_grad()
def test_copies_are_not_frozen() -> None:
    layer = small().eval()
    with frozen(layer):
        before = layer(X)[0]
        for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(copied(X)[0], before, rtol=1e-5, atol=1e-6)
            copied.get_parameter("weight_hh_l0").data.neg_()
            torch.testing.assert_close(copied(X), on_reference(copied), rtol=1e-5, atol=1e-6)
            assert (copied(X)[0] - before).abs().max() > 1e-3


@torch.no_grad()
def test_a_functional_call_uses_the_given_weights() -> None:
    layer, other = small().eval(), small().eval()
    torch.nn.init.normal_(other.get_parameter("weight_hh_l0"))
    for scope in ((), (layer,)):
        with frozen(*scope):
            mine = layer(X)[0]
            given = torch.func.functional_call(layer, other.state_dict(), (X,))[0]
            torch.testing.assert_close(given, other(X)[0], rtol=1e-6, atol=1e-6)
            assert torch.equal(layer(X)[0], mine)


@pytest.mark.parametrize("write", [by_copy, by_optimizer, WRITES["load_state_dict"]])
@torch.no_grad()
def test_a_broken_promise_is_an_error(write: Callable[[nn.Module, dict[str, Tensor]], Any]) -> None:
    layer = small().eval()

    def change() -> None:
        with frozen(layer):
            layer(X)
            write(layer, randomised(copy.deepcopy(layer)).float().state_dict())

    message = "weight_ih_l0 changed within `frozen`: expected weights that stay as they are"
    with pytest.raises(RuntimeError, match=message):
        change()
    assert not SCOPES
    torch.testing.assert_close(layer(X), on_reference(layer), rtol=1e-5, atol=1e-6)


def test_threads_share_a_scope() -> None:
    layer = small(num_layers=2).eval()
    with torch.no_grad():
        expected = layer(X)
    entered, found, wrong = threading.Barrier(4), [], []

    @torch.no_grad()
    def search() -> None:
        try:
            for _ in range(50):
                with frozen(layer):
                    entered.wait()
                    found.append(layer(X))
        except RuntimeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not SCOPES
    assert len(found) == 200
    for result in found:
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


def test_inference_mode_gives_the_same() -> None:
    layer = small().eval()
    with torch.no_grad():
        expected = layer(X)
    with torch.inference_mode(), frozen(layer):
        torch.testing.assert_close(layer(X), expected, rtol=1e-6, atol=1e-6)
        made_here = small().eval()
        with frozen(made_here):
            torch.testing.assert_close(made_here(X), expected, rtol=1e-6, atol=1e-6)
            assert kept(made_here) or not packs(torch.float32)


@torch.no_grad()
def test_another_type_within_a_scope_is_computed_in_that_type() -> None:
    layer = small().eval()
    with frozen(layer):
        layer.backend = "auto"
        expected = layer(X)[0]
        found = layer.double()(X.double())[0]
    assert found.dtype is torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6)


def test_export_in_eval_mode_gives_the_same() -> None:
    layer = small().eval()
    with torch.no_grad(), frozen(layer):
        expected = layer(X)
        exported = torch.export.export(layer, (X,)).module()
        torch.testing.assert_close(exported(X), expected, rtol=1e-6, atol=1e-6)


def test_what_is_parametrized_is_computed_once_a_scope() -> None:
    layer: Any = LSTM(3, 8, backend="fused").eval()
    calls = []

    class Counted(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            calls.append(1)
            return weight * 2

    torch.nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Counted())
    with torch.no_grad():
        expected = layer(X)
        calls.clear()
        with frozen(layer):
            torch.testing.assert_close([layer(X), layer(X)], [expected] * 2, rtol=1e-6, atol=1e-6)
    assert len(calls) == 1
