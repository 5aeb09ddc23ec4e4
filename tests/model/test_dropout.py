"""Dropout: its rate, its scale, its gradient, and its random numbers."""

import pytest
import torch

from seq2seq.model.dropout import Dropout, dropout_mask
from seq2seq.model.packing import Packing


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
def test_the_mask_has_the_rate_and_the_mean_one(p: float) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.zeros(1), (1000, 1000), p)
    assert mask.unique().numel() == 2
    assert mask.eq(0).double().mean().item() == pytest.approx(p, abs=0.002)  # four deviations
    assert mask.double().mean().item() == pytest.approx(1, abs=0.015)
    assert mask.max().item() == pytest.approx(1 / (1 - p), rel=2e-4)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = dropout_mask(torch.zeros(1), (1000, 1000), 0.5).flatten() > 0
    for distance in (1, 2, 3, 4, 1000):
        equal = (kept[distance:] == kept[:-distance]).double().mean().item()
        assert equal == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("shape", [(0, 7), (1, 1), (3, 5)])
def test_any_shape_and_type(shape: tuple[int, int]) -> None:
    mask = dropout_mask(torch.zeros(1, dtype=torch.float64), shape, 0.25)
    assert (mask.shape, mask.dtype) == (shape, torch.float64)


def test_a_rate_close_to_one_keeps_something_finite() -> None:
    assert dropout_mask(torch.zeros(1), (1000, 1000), 0.9999999).isfinite().all()


def test_the_seed_decides_what_is_dropped() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout_mask(torch.zeros(1), (20, 20), 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_the_gradient_has_the_mask_of_the_output() -> None:
    x = torch.ones(30, 20, requires_grad=True)
    packing = Packing(torch.tensor([30]), 30, torch.device("cpu"))
    y = Dropout(0.5, False, packing)("output", x)
    y.sum().backward()
    assert torch.equal(x.grad if x.grad is not None else x, y.detach())
    assert set(y.unique().tolist()) == {0.0, 2.0}
