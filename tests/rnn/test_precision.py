"""The data type of matrix products, with and without autocast."""

import pytest
import torch

from seq2seq.rnn import product_dtype
from seq2seq.rnn.precision import product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_without_autocast_the_type_is_that_of_the_tensor(dtype: torch.dtype) -> None:
    assert product_dtype(torch.zeros(1, dtype=dtype)) is dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_the_type_is_that_of_autocast(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype):
        assert product_dtype(torch.zeros(1)) is dtype
        assert (
            product_dtype(torch.zeros(1, device="meta")) is torch.float32
        )  # autocast of the CPU only
        with torch.autocast("cpu", enabled=False):
            assert product_dtype(torch.zeros(1)) is torch.float32


def test_a_product_returns_to_the_type_of_the_weight() -> None:
    x, weight = torch.randn(3, 8), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = product(x, weight)
    assert found.dtype is torch.float32
    assert torch.equal(found, (x.bfloat16() @ weight.bfloat16().T).float())
