"""Weights that the fused kernels keep packed in eval mode."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_cases import X, needs_compiler, small
from torch import Tensor

from seq2seq.rnn import RecurrentLayers, packs

pytestmark = needs_compiler


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_eval_mode_keeps_packed_weights_and_gives_the_same(norm: str, autocast: bool) -> None:
    layer = small(norm, bidirectional=True).eval()
    assert not kept(layer)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = layer(X)
        assert not kept(layer)  # nothing is kept while gradients are recorded
        with torch.no_grad():
            found = layer(X)
            packed = kept(layer)
            assert len(packed) == (4 if packs(torch.bfloat16 if autocast else torch.float32) else 0)
            assert all(a is b for a, b in zip(packed, kept(layer, layer(X)), strict=True))
    tolerance = 2e-2 if autocast else 1e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def kept(layer: RecurrentLayers, *_: Any) -> list[Tensor]:
    """Return the packed weights that a layer holds."""
    ready = [ready for types in layer._kept.values() for ready in types.values()]
    return [weight for r in ready for weight in (r.weight_ih, r.weight_hh) if weight.dim() == 3]


CHANGES = {
    "load_state_dict": lambda layer, weights: layer.load_state_dict(weights),
    "assign": lambda layer, weights: layer.load_state_dict(weights, assign=True),
    "in place": lambda layer, weights: [
        p.copy_(weights[name]) for name, p in layer.named_parameters()
    ],
    "new parameters": lambda layer, weights: [
        layer.register_parameter(n, torch.nn.Parameter(w)) for n, w in weights.items()
    ],
    "data": lambda layer, weights: (
        [p.data.copy_(weights[n]) for n, p in layer.named_parameters()] and layer.eval()
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_packed_weights_follow_the_parameters(change: Callable[..., Any]) -> None:
    layer, other = small().eval(), small().eval()
    for name in ("weight_ih_l0", "weight_hh_l0", "gain_c_l0", "bias_ih_l0"):
        torch.nn.init.normal_(getattr(other, name))
    with torch.no_grad():
        before = layer(X)[0]
        change(layer, other.state_dict())
        assert torch.equal(layer(X)[0], other(X)[0])
        assert not torch.equal(layer(X)[0], before)


def test_packed_weights_are_dropped_and_not_copied() -> None:
    layer = small().eval()
    for leave in (layer.train, layer.eval, layer.float, lambda: layer.to(torch.double)):
        layer.eval()
        with torch.no_grad():
            layer(X)
        assert kept(layer)
        assert not kept(copy.deepcopy(layer))
        assert not kept(pickle.loads(pickle.dumps(layer)))
        leave()
        assert not kept(layer)


def test_a_functional_call_in_eval_mode_uses_the_given_weights() -> None:
    layer, other = small().eval(), small().eval()
    torch.nn.init.normal_(other.get_parameter("weight_hh_l0"))
    with torch.no_grad():
        mine = layer(X)[0]
        assert torch.equal(
            torch.func.functional_call(layer, other.state_dict(), (X,))[0], other(X)[0]
        )
        assert torch.equal(layer(X)[0], mine)


def test_inference_mode_gives_the_same() -> None:
    layer = small().eval()
    with torch.no_grad():
        expected = layer(X)
    with torch.inference_mode():
        torch.testing.assert_close(layer(X), expected, rtol=0, atol=0)
        made_here = small().eval()
        torch.testing.assert_close(made_here(X), expected, rtol=1e-6, atol=1e-6)
    assert not kept(made_here)


def test_export_in_eval_mode_gives_the_same() -> None:
    layer = small().eval()
    with torch.no_grad():
        expected = layer(X)
        exported = torch.export.export(layer, (X,)).module()
        torch.testing.assert_close(exported(X), expected, rtol=1e-6, atol=1e-6)
