"""The kernels' matrix products: x W^T with a packed W, and the gradient of W."""

from collections.abc import Callable

import pytest
import torch
from kernel_cases import needs_compiler
from torch import Tensor

from seq2seq.rnn import load_kernels, packed, packs

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not packs(torch.float32), reason="no vector instructions"),
]

SHAPES = [
    (1, 1, 1),
    (5, 7, 3),  # less than a tile of any processor
    (14, 1024, 32),  # one tile, rows a page apart
    (16, 33, 65),  # an odd inner size, one column more than two panels
    (31, 64, 100),
    (100, 2049, 31),  # more than a block of bfloat16 pairs
    (15, 2500, 40),  # three blocks of floats
    (300, 130, 700),  # enough for several threads
]
"""Rows M, inner size K, columns N."""
TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    assert load_kernels()


def case(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return x (M, K) and W (N, K)."""
    torch.manual_seed(0)
    rows, inner, columns = shape
    return torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)


def assert_near(found: Tensor, exact: Tensor, terms: int) -> None:
    """Compare with sums of so many products, which are rounded to the type of `found`."""
    unit = 1e-5 if found.dtype is torch.float32 else 1e-2
    torch.testing.assert_close(found.double(), exact, rtol=unit, atol=unit * terms**0.5)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows side by side": lambda x: x,
    "columns side by side": lambda x: x.t().contiguous().t(),
    "every second row": lambda x: torch.stack([x, x], 1).flatten(0, 1)[::2],
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_product_is_that_of_exact_arithmetic(
    shape: tuple[int, int, int], dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    x, weight = (layout(t) for t in case(shape, dtype))
    exact, ops = x.double() @ weight.double().t(), torch.ops.seq2seq
    found = ops.packed_projection(x, packed(weight), None, len(weight))
    assert found.dtype is dtype
    assert_near(found, exact, x.size(1))
    assert_near(ops.projection(x, weight), exact, x.size(1))
    in_float = ops.float_product(x, weight)
    assert in_float.dtype is torch.float32
    if len(x) >= 16:  # with fewer rows PyTorch's product is rounded first
        assert_near(in_float, exact, x.size(1))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_is_added_before_the_sum_is_rounded(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x, weight = case(shape, dtype)
    bias = 100 * torch.randn(len(weight))
    found = torch.ops.seq2seq.packed_projection(x, packed(weight), bias, len(weight))
    exact = x.double() @ weight.double().t() + bias.double()
    if dtype is torch.bfloat16:
        assert_near(found, exact, x.size(1))
    else:
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_float_weight_is_rounded_to_the_type_of_the_input(shape: tuple[int, int, int]) -> None:
    x, weight = case(shape, torch.float32)
    x, ops = x.bfloat16(), torch.ops.seq2seq
    for product in (ops.projection, ops.float_product):
        assert torch.equal(product(x, weight), product(x, weight.bfloat16()))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_float_input_is_rounded_to_the_type_of_a_packed_weight(
    shape: tuple[int, int, int],
) -> None:
    x, weight = case(shape, torch.float32)
    panels = packed(weight.bfloat16())
    found = torch.ops.seq2seq.packed_projection(x, panels, None, len(weight))
    rounded = torch.ops.seq2seq.packed_projection(x.bfloat16(), panels, None, len(weight))
    assert torch.equal(found, rounded)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_depends_on_no_other_row(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, weight = case(shape, dtype)
    panels = packed(weight)

    def product(rows: Tensor) -> Tensor:
        found: Tensor = torch.ops.seq2seq.packed_projection(rows, panels, None, len(weight))
        return found

    whole = product(x)
    assert torch.equal(torch.cat([product(x[i : i + 1]) for i in range(len(x))]), whole)
    assert torch.equal(torch.cat([product(part) for part in x.split(13)]), whole)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_gradient_of_a_weight_is_that_of_exact_arithmetic(
    shape: tuple[int, int, int], dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    inner, rows, columns = shape  # its sums run over rows
    d, x = case((columns, rows, inner), dtype)
    d, x = layout(d.t().contiguous()), layout(x.t().contiguous())
    found = torch.ops.seq2seq.weight_gradient(d, x)
    assert found.dtype is torch.float32
    assert found.shape == (d.size(1), x.size(1))
    if len(d) >= 16 or dtype is torch.float32:
        assert_near(found, d.double().t() @ x.double(), len(d))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(0, 5, 3), (20, 0, 3), (20, 5, 0)])
def test_an_empty_matrix_has_an_empty_or_a_zero_product(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x, weight = case(shape, dtype)
    d, ops = torch.ones(shape[0], shape[2], dtype=dtype), torch.ops.seq2seq
    assert torch.equal(ops.projection(x, weight), torch.zeros_like(d))
    assert torch.equal(ops.weight_gradient(d, x), torch.zeros(weight.shape))
    if weight.numel():
        assert ops.packed_projection(x, packed(weight), None, len(weight)).shape == d.shape


@pytest.mark.parametrize("dtype", TYPES)
def test_no_bit_depends_on_the_threads(dtype: torch.dtype) -> None:
    x, weight = case((300, 130, 700), dtype)
    d = torch.randn(300, 500).to(dtype)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        ops = torch.ops.seq2seq
        found.append((ops.projection(x, weight), ops.weight_gradient(d, x), packed(weight)))
    torch.set_num_threads(threads)
    for results in zip(*found, strict=True):
        assert all(torch.equal(results[0], other) for other in results)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0, 1e30])
@pytest.mark.parametrize("dtype", TYPES)
def test_values_that_are_not_ordinary_stay_in_their_row(value: float, dtype: torch.dtype) -> None:
    x, weight = case((20, 33, 40), dtype)
    expected = torch.ops.seq2seq.projection(x, weight)
    x[7, 5] = value
    found = torch.ops.seq2seq.projection(x, weight)
    torch.testing.assert_close(
        found[7].double(), x[7].double() @ weight.double().t(), rtol=0.02, atol=0.1, equal_nan=True
    )
    assert torch.equal(found[[*range(7), *range(8, 20)]], expected[[*range(7), *range(8, 20)]])


WRONG = ["columns", "inner", "unpacked", "float64", "bfloat16", "bias"]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused(wrong: str) -> None:
    x, weight, columns = torch.ones(3, 5 if wrong == "inner" else 4), torch.ones(40, 4), 40
    panels = weight if wrong == "unpacked" else packed(weight)
    bias = torch.ones(39) if wrong == "bias" else None
    x = x.to({"float64": torch.float64, "bfloat16": torch.bfloat16}.get(wrong, x.dtype))
    with pytest.raises(RuntimeError, match=r"expected .* got"):
        torch.ops.seq2seq.packed_projection(x, panels, bias, 65 if wrong == "columns" else columns)
