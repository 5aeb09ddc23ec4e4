"""Programs that walk over the weights: initialisers, lists, optimizer groups, state dicts."""

import re
from typing import Any

import pytest
import torch
from idiom_cases import NORMS, OURS, ours, same_weights, tensors_of, torchs
from torch import Tensor, nn

from seq2seq.rnn import is_norm_parameter

X = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bias": False},
]


# -- lists ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("cell", OURS)
def test_lists_of_weights_are_those_of_torch(cell: str, options: dict[str, Any], norm: str) -> None:
    theirs, mine = torchs(cell)(5, 4, **options), ours(cell, norm)(5, 4, **options)
    assert mine._all_weights == theirs._all_weights
    assert mine._flat_weights_names == theirs._flat_weights_names
    assert mine.mode == theirs.mode
    shapes = [[[w.shape for w in ws] for ws in m.all_weights] for m in (theirs, mine)]
    assert shapes[0] == shapes[1]
    for name, weight in zip(mine._flat_weights_names, mine._flat_weights, strict=True):
        assert weight is getattr(mine, name)
    assert all(
        p is getattr(mine, n)
        for p, n in zip(mine.all_weights[0], mine._all_weights[0], strict=True)
    )


@pytest.mark.parametrize("norm", NORMS)
def test_new_flat_weights_are_used(norm: str) -> None:
    """Recipes of weight drop replace the list after they have replaced a weight."""
    layer = ours("LSTM", norm)(5, 4).eval()
    before = layer(X)[0]
    layer._flat_weights = [nn.Parameter(w.detach() * 2) for w in layer._flat_weights]
    assert not torch.equal(layer(X)[0], before)


def test_a_list_that_would_have_no_effect_cannot_be_changed() -> None:
    layer = ours("LSTM")(5, 4)
    with pytest.raises(TypeError):
        layer._flat_weights[0] = torch.zeros(16, 5)


# -- initialisers ---


def forget_by_lists(layer: Any) -> None:
    """discuss.pytorch.org/t/1745: a forget gate that is open at first."""
    for names in layer._all_weights:
        for name in filter(lambda n: "bias" in n, names):
            bias = getattr(layer, name)
            n = bias.size(0)
            start, end = n // 4, n // 2
            bias.data[start:end].fill_(1.0)


def forget_by_names(layer: Any) -> None:
    """The same by names of parameters, as most programs have it."""
    for name, p in layer.named_parameters():
        if "bias_ih" in name or "bias_hh" in name:
            n = p.size(0)
            p.data[n // 4 : n // 2].fill_(1.0)


def forget_by_exclusion(layer: Any) -> None:
    """Weights by one rule, and everything else as a bias."""
    for weights in layer.all_weights:
        for w in weights:
            if w.dim() > 1:
                nn.init.orthogonal_(w)
            else:
                nn.init.zeros_(w)
                w.data[w.size(0) // 4 : w.size(0) // 2].fill_(1.0)


def by_torch_defaults(layer: Any) -> None:
    torch.manual_seed(7)
    layer.reset_parameters()


INITIALISERS = [forget_by_lists, forget_by_names, forget_by_exclusion, by_torch_defaults]


@pytest.mark.parametrize("initialise", INITIALISERS)
@pytest.mark.parametrize("norm", NORMS)
def test_initialisers_set_weights_and_biases_and_no_gain(norm: str, initialise: Any) -> None:
    layers = [torchs("LSTM")(5, 4, 2), ours("LSTM", norm)(5, 4, 2)]
    for layer in layers:
        torch.manual_seed(0)
        initialise(layer)
    theirs, mine = (dict(layer.named_parameters()) for layer in layers)
    if initialise in (forget_by_lists, forget_by_names):
        for name, p in theirs.items():
            if name.startswith("bias"):
                assert torch.equal(p[4:8], torch.ones(4))
                assert torch.equal(mine[name][4:8], torch.ones(4))
    else:
        for name in theirs:
            torch.testing.assert_close(mine[name], theirs[name])
    for name, p in mine.items():
        if name.startswith("gain"):
            assert torch.equal(p, torch.full_like(p, layers[1].norm.initial_gain)), name
        elif name.startswith("bias_c"):
            assert not p.any(), name


@pytest.mark.parametrize("cell", OURS)
def test_the_default_initial_values_are_those_of_torch(cell: str) -> None:
    found = []
    for make in (torchs(cell), ours(cell, "none")):
        torch.manual_seed(3)
        found.append(make(5, 4, 2, bidirectional=True).state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_rule_for_all_parameters_sets_gains_too_until_the_norm_is_reset() -> None:
    layer = ours("LSTM", "layer")(5, 4)
    for p in layer.parameters():
        nn.init.uniform_(p, -0.1, 0.1)
    assert not torch.equal(layer.gain_hh_l0, torch.ones(16))
    weight = layer.weight_hh_l0.clone()
    layer.reset_norm()
    assert torch.equal(layer.gain_hh_l0, torch.ones(16))
    assert not layer.bias_c_l0.any()
    assert torch.equal(layer.weight_hh_l0, weight)


def test_names_with_bias_are_those_of_torch_and_bias_c() -> None:
    found = {name for name, _ in ours("LSTM", "layer")(5, 4).named_parameters() if "bias" in name}
    theirs = {name for name, _ in torchs("LSTM")(5, 4).named_parameters() if "bias" in name}
    assert found - theirs == {"bias_c_l0"}
    assert theirs <= found


# -- optimizer groups ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_weight_decay_by_dimensions_takes_the_same_parameters(cell: str, norm: str) -> None:
    """As in nanoGPT: parameters of two dimensions decay, vectors do not."""
    groups = [
        {name for name, p in make(5, 4).named_parameters() if p.dim() >= 2}
        for make in (torchs(cell), ours(cell, norm))
    ]
    assert groups[0] == groups[1] == {"weight_ih_l0", "weight_hh_l0"}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_parameters_of_the_norm_can_be_told_by_name(cell: str, norm: str) -> None:
    """By `if "bias" in name` gains would decay."""
    layer = ours(cell, norm)(5, 4, 2, bidirectional=True)
    found = {name for name, _ in layer.named_parameters() if not is_norm_parameter(name)}
    assert found == {
        name for name, _ in torchs(cell)(5, 4, 2, bidirectional=True).named_parameters()
    }
    assert all(p.dim() == 1 for name, p in layer.named_parameters() if name not in found)


@pytest.mark.parametrize("cell", OURS)
def test_statistics_are_buffers_and_no_parameters(cell: str) -> None:
    layer = ours(cell, "batch")(5, 4)
    names = {re.sub("_l0$", "", name) for name, _ in layer.named_parameters()}
    assert names <= {
        *("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
        *("gain_ih", "gain_hh", "gain_c", "bias_c"),
    }
    assert all(
        name.startswith(("running_", "num_updates", "steps_seen"))
        for name, _ in layer.named_buffers()
    )
    assert {type(m).__name__ for m in layer.modules()} == {cell, "RunningStatistics"}
    assert layer.state_dict().keys() == {
        n for n, _ in [*layer.named_parameters(), *layer.named_buffers()]
    }


# -- state dicts ---


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("cell", OURS)
def test_state_dicts_load_both_ways(cell: str, options: dict[str, Any]) -> None:
    theirs, mine = same_weights(cell, 5, 4, **options)
    torch.testing.assert_close(tensors_of(mine(X)), tensors_of(theirs(X)))
    other = torchs(cell)(5, 4, **options)
    other.load_state_dict(mine.state_dict(), strict=True)
    torch.testing.assert_close(tensors_of(other(X)), tensors_of(theirs(X)))
    wrapped = nn.ModuleDict({"rnn": mine}).state_dict()
    assert wrapped.keys() == nn.ModuleDict({"rnn": theirs}).state_dict().keys()


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
@pytest.mark.parametrize("cell", OURS)
def test_a_norm_lacks_only_its_own_keys(cell: str, norm: str) -> None:
    layer = ours(cell, norm)(5, 4)
    weights: dict[str, Tensor] = torchs(cell)(5, 4).state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict(weights)
    result = layer.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys
    of_norm = ("gain_", "bias_c_", "running_", "num_updates_", "steps_seen_")
    assert all(key.startswith(of_norm) for key in result.missing_keys)
    assert all(torch.equal(layer.state_dict()[name], w) for name, w in weights.items())
