"""Linear layers whose weights are packed for a search."""

import pytest
import torch
from torch import nn

from seq2seq.model.linear import Linear
from seq2seq.rnn import frozen, packs
from seq2seq.rnn.cpu.frozen import SCOPES

needs_packing = pytest.mark.skipif(not packs(torch.float32), reason="no vector instructions")


def layer(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(24, 50, bias=bias).eval()


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (70, 24), (3, 5, 24)])
@torch.no_grad()
def test_a_packed_weight_gives_the_same_product(bias: bool, shape: tuple[int, ...]) -> None:
    linear, x = layer(bias), torch.randn(shape)
    expected = linear(x)
    with frozen(linear):
        torch.testing.assert_close(linear(x), expected, rtol=1e-5, atol=1e-6)
        assert SCOPES[linear].kept[torch.float32] is not None
    assert torch.equal(linear(x), expected)


@needs_packing
@torch.no_grad()
def test_a_row_of_a_packed_product_depends_on_that_row_alone() -> None:
    linear, x = layer(), torch.randn(300, 24)
    with frozen(linear):
        whole = linear(x)
        for rows in (1, 2, 5, 16, 33, 64, 100):
            assert torch.equal(linear(x[:rows]), whole[:rows])


@torch.no_grad()
def test_a_new_weight_counts_after_the_scope() -> None:
    linear, x = layer(), torch.randn(4, 24)
    with frozen(nn.Sequential(linear)):
        before = linear(x)
    linear.weight.data.neg_()
    for scope in ((), (linear,)):
        with frozen(*scope):
            torch.testing.assert_close(linear(x) - linear.bias, linear.bias - before)


@torch.no_grad()
def test_types_that_the_kernels_do_not_know_are_left_to_torch() -> None:
    linear, x = layer().double(), torch.randn(4, 24).double()
    with frozen(linear):
        assert linear(x).dtype == torch.double
        assert SCOPES[linear].kept[torch.double] is None


@needs_packing
@torch.no_grad()
def test_under_autocast_a_packed_product_is_in_float() -> None:
    if not packs(torch.bfloat16):
        pytest.skip("the CPU has no bfloat16 products")
    linear, x = layer(), torch.randn(8, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = linear(x)
        with frozen(linear):
            found = linear(x)
    assert expected.dtype is torch.bfloat16
    assert found.dtype is torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, expected.float(), rtol=2e-2, atol=2e-2)


def test_no_rows_give_no_rows() -> None:
    with torch.no_grad():
        assert Linear(24, 50)(torch.zeros(3, 0, 24)).shape == (3, 0, 50)
