"""Dropout on the recurrent weights."""

import itertools

import pytest
import torch
from torch import Tensor

from seq2seq.config import CellConfig, CellKind, ModelConfig
from seq2seq.model import Translator, Vocabulary
from seq2seq.model.weight_drop import dropped_weights
from seq2seq.rnn import NormConfig, NormKind

RATE = 0.4


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four sentence pairs of different lengths."""
    lengths = torch.tensor([3, 5, 2, 5]), torch.tensor([6, 2, 4, 1])
    src, tgt = (torch.arange(4 * n).view(4, n) % 16 + 4 for n in (5, 6))
    return src, lengths[0], tgt, lengths[1]


def translator(norm: str, cell: CellKind, backend: str, rate: float = RATE) -> Translator:
    """Return a model without other dropout; input feeding with the GRU."""
    torch.manual_seed(0)
    config = ModelConfig(
        8, 12, 2, 2, dropout=0.0, recurrent_dropout=rate, input_feeding=cell is CellKind.gru
    )
    kind = NormConfig(kind=NormKind[norm])
    return Translator(config, kind, CellConfig(cell), Vocabulary(20, 20, True), backend)


def masked(model: Translator, seed: int) -> dict[str, Tensor]:
    """Return the masks that a forward pass with this seed draws, times 1 / (1 - RATE)."""
    torch.manual_seed(seed)
    found: dict[str, Tensor] = {}
    for part in ("encoder", "decoder"):
        module = model.get_submodule(part)
        weights = dropped_weights(module, RATE)
        found |= {f"{part}.{k}": w / module.get_parameter(k) for k, w in weights.items()}
    return {name: mask.detach() for name, mask in found.items()}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    ("norm", "cell"),
    [*itertools.product(["none", "batch", "layer"], [CellKind.lstm, CellKind.gru])],
)
def test_a_pass_is_that_of_a_model_with_masked_weights(
    norm: str, cell: CellKind, backend: str
) -> None:
    model, other = (translator(norm, cell, backend, rate) for rate in (RATE, 0.0))
    masks = masked(model, seed=7)
    assert len(masks) == 6  # two layers of two directions, and two layers
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert set(kept.mul(1 - RATE).round(decimals=4).tolist()) == {0.0, 1.0}
    assert kept.gt(0).float().mean() == pytest.approx(1 - RATE, abs=0.05)
    with torch.no_grad():
        for name, mask in masks.items():
            other.get_parameter(name).mul_(mask)
    torch.manual_seed(7)
    loss, expected = model(*batch())[0], other(*batch())[0]
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    expected.backward()
    for name, parameter in other.named_parameters():
        grad, found = parameter.grad, model.get_parameter(name).grad
        assert grad is not None
        wanted = grad * masks.get(name, 1.0)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_it_acts_only_in_training_and_changes_no_name() -> None:
    model, plain = (translator("layer", CellKind.lstm, "auto", rate) for rate in (RATE, 0.0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (model(*batch())[0] for _ in range(2))
    assert first != second, "each batch has its own masks"
    model.eval()
    assert torch.equal(model(*batch())[0], plain.eval()(*batch())[0])
    assert list(before) == list(model.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
