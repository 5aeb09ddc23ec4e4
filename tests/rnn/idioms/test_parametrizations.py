"""Weights that are computed from others: parametrizations, pruning, weight drop."""

import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from idiom_cases import NORMS, OURS, ours, same_weights, tensors_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from seq2seq.rnn import frozen, is_norm_parameter

X = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))


def old_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(layer, "weight_hh_l0")


def pruned_over_all(layer: nn.Module) -> None:
    """Prune both weights as one, and make it permanent for one of them."""
    prune.global_unstructured(
        [(layer, "weight_hh_l0"), (layer, "weight_ih_l0")], prune.L1Unstructured, amount=0.3
    )
    prune.remove(layer, "weight_hh_l0")


CHANGES: dict[str, Callable[[Any], Any]] = {
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "weight_norm of the input": lambda m: parametrizations.weight_norm(m, "weight_ih_l0"),
    # Each reading of the weight makes iterations: torch.nn's layers read it several times a call.
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight_hh_l0", 200),
    "orthogonal": lambda m: parametrizations.orthogonal(m, "weight_hh_l0"),
    "weight_norm by hooks": old_weight_norm,
    "spectral_norm by hooks": lambda m: torch.nn.utils.spectral_norm(m, "weight_hh_l0"),
    "pruning": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    "pruning of a bias": lambda m: prune.random_unstructured(m, "bias_ih_l0", 0.5),
    "pruning over all weights": pruned_over_all,
}


def changed(layer: nn.Module, change: Callable[[Any], Any]) -> nn.Module:
    torch.manual_seed(1)
    change(layer)
    return layer


def step(layer: nn.Module) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the outputs before and after a step of descent, and all gradients."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = tensors_of(layer(X))
    before[0].square().sum().backward()
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    assert gradients.keys() == dict(layer.named_parameters()).keys()
    optimizer.step()
    return [*before, *tensors_of(layer(X))], gradients


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("cell", OURS)
def test_without_a_norm_all_is_as_in_torch(cell: str, change: Callable[[Any], Any]) -> None:
    theirs, mine = (changed(layer, change) for layer in same_weights(cell, 5, 4))
    assert dict(mine.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    (outputs, gradients), (expected, expected_gradients) = step(mine), step(theirs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    weights = [m.state_dict() for m in (mine, theirs)]
    assert weights[0].keys() == weights[1].keys()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("norm", NORMS)
def test_the_weight_in_use_is_the_computed_one(norm: str, change: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    layer: Any = changed(ours("LSTM", norm)(5, 4), change).eval()
    layer(X)
    plain = ours("LSTM", norm)(5, 4).eval()
    state = {name: getattr(layer, name).detach() for name in plain.state_dict()}
    plain.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(layer(X), plain(X))
        with frozen(layer):
            torch.testing.assert_close([layer(X), layer(X)], [plain(X)] * 2)
    step(layer.train())
    layer.eval()
    with torch.no_grad():
        assert not torch.equal(layer(X)[0], plain(X)[0])


def test_a_parametrization_shows_in_the_repr() -> None:
    layer = changed(ours("LSTM")(5, 4), CHANGES["weight_norm"])
    assert "weight_hh_l0" in repr(layer)
    assert "norm=layer" in repr(layer)


class WeightDrop(nn.Module):
    """Dropout on weights, as AWD-LSTM (Merity et al. 2018) and fastai have it."""

    def __init__(self, module: nn.Module, p: float, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.p, self.names = module, p, names
        module.flatten_parameters = lambda: None  # type: ignore[assignment]
        for name in names:
            weight = module._parameters.pop(name)
            assert weight is not None
            self.register_parameter(f"{name}_raw", nn.Parameter(weight.data))
            setattr(module, name, weight.data)

    def forward(self, *arguments: Any) -> Any:
        for name in self.names:
            raw = self.get_parameter(f"{name}_raw")
            setattr(self.module, name, F.dropout(raw, self.p, self.training))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.module(*arguments)


@pytest.mark.parametrize("names", [("weight_hh_l0",), ("weight_hh_l0", "weight_ih_l0")])
@pytest.mark.parametrize("cell", OURS)
def test_weight_drop_is_as_in_torch(cell: str, names: tuple[str, ...]) -> None:
    found = []
    for layer in same_weights(cell, 5, 4):
        torch.manual_seed(2)
        dropped = WeightDrop(layer, 0.5, names)
        outputs, gradients = step(dropped)
        with torch.no_grad():
            outputs += tensors_of(dropped.eval()(X))
        found.append((outputs, gradients))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("norm", NORMS)
def test_weight_drop_in_eval_mode_follows_the_weights(norm: str) -> None:
    dropped = WeightDrop(ours("LSTM", norm)(5, 4), 0.5, ("weight_hh_l0",)).eval()
    with torch.no_grad(), frozen(dropped):
        before = dropped(X)[0]
    other = copy.deepcopy(dropped)
    with torch.no_grad():
        other.get_parameter("weight_hh_l0_raw").data.neg_()
        assert not torch.equal(other(X)[0], before)
        torch.testing.assert_close(dropped(X)[0], before)


@pytest.mark.parametrize("norm", NORMS)
def test_weights_may_be_plain_tensors(norm: str) -> None:
    """Fast weights: a program replaces the parameters by tensors that it differentiates through."""
    layer: Any = ours("LSTM", norm)(5, 4)
    raw = layer.weight_hh_l0.detach().clone().requires_grad_()
    delattr(layer, "weight_hh_l0")
    layer.weight_hh_l0 = raw * 2
    layer(X)[0].sum().backward()
    assert raw.grad is not None
    assert raw.grad.any()


def test_weights_that_are_computed_may_not_change_within_frozen() -> None:
    layer = parametrizations.weight_norm(ours("LSTM", "layer")(5, 4), "weight_hh_l0").eval()

    @torch.no_grad()
    def change() -> None:
        with frozen(layer):
            layer(X)
            layer.parametrizations.weight_hh_l0.original0.mul_(3)

    with pytest.raises(RuntimeError, match=r"weight_hh_l0\.original0 changed within `frozen`"):
        change()


def test_plain_tensors_that_are_replaced_within_frozen_are_followed() -> None:
    layer = ours("LSTM", "layer")(5, 4).eval()
    weight = layer._parameters.pop("weight_hh_l0")
    with torch.no_grad():
        found = []
        for scope in (frozen(layer), nullcontext()):
            with scope:
                for factor in (1, 3):
                    layer.weight_hh_l0 = factor * weight
                    found.append(layer(X)[0])
    torch.testing.assert_close(found[:2], found[2:], rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_parametrized_gains_are_reset_as_gains(norm: str) -> None:
    layer = ours("LSTM", norm)(5, 4)
    nn.utils.parametrize.register_parametrization(layer, "gain_ih_l0", nn.Identity())
    nn.utils.parametrize.register_parametrization(layer, "bias_c_l0", nn.Identity())
    names = [name for name, _ in layer.named_parameters() if is_norm_parameter(name)]
    assert {f"parametrizations.{name}_l0.original" for name in ("gain_ih", "bias_c")} < set(names)
    layer.reset_parameters()
    assert torch.equal(layer.gain_ih_l0, torch.full((16,), layer.norm.initial_gain))
    assert not layer.bias_c_l0.any()
