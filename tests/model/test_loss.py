from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import needs_compiler
from torch import Tensor

from seq2seq.model import kernels
from seq2seq.model.loss import (
    BLOCK_ROWS,
    CHUNK_ROWS,
    OutputLayer,
    linear_cross_entropy,
    over_blocks,
)


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS, 2 * CHUNK_ROWS + 3, BLOCK_ROWS + 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_cross_entropy_of_all_logits(rows: int, smoothing: float) -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*s, dtype=torch.double, requires_grad=True) for s in ((rows, 5), (9, 5), (9,))
    )
    target = torch.randint(9, (rows,))
    loss, nll = linear_cross_entropy(x, weight, bias, target, smoothing)
    logits = x @ weight.T + bias
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="sum").detach())
    upstream = 0.37
    ours = torch.autograd.grad(loss * upstream, (x, weight, bias))
    theirs = torch.autograd.grad(expected * upstream, (x, weight, bias))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_there_are_gradients_only_where_required() -> None:
    x, weight, bias = torch.randn(4, 5, requires_grad=True), torch.randn(9, 5), torch.randn(9)
    loss, _ = linear_cross_entropy(x, weight, bias, torch.randint(9, (4,)))
    loss.backward()
    assert x.grad is not None
    with torch.no_grad():
        assert not linear_cross_entropy(x, weight, bias, torch.randint(9, (4,)))[0].requires_grad


def test_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 64), torch.randn(100, 64) / 8, torch.zeros(100)
    target = torch.randint(100, (50,))
    exact, _ = linear_cross_entropy(x, weight, bias, target)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = linear_cross_entropy(x, weight, bias, target)
    assert rounded.dtype is torch.float32
    # Logits of size 1 carry bfloat16's relative error of 2^-9; their errors average out over 50
    # rows.
    assert abs(rounded - exact) / exact < 2**-8
    assert rounded != exact


# -- the kernel, compared with plain torch in double precision ---


def case(rows: int, words: int = 90, features: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and targets."""
    torch.manual_seed(0)
    x, weight = torch.randn(rows, features), torch.randn(words, features) / 4
    return x, weight, torch.randn(words), torch.randint(words, (rows,))


def losses_and_gradients(
    parts: Sequence[Tensor], target: Tensor, smoothing: float, divisor: float = 1.0
) -> list[Tensor]:
    """Return loss, nll and the gradients of parts (x, weight, bias), in double precision."""
    x, weight, bias = inputs = [t.clone().requires_grad_() for t in parts]
    loss, nll = linear_cross_entropy(x, weight, bias, target, smoothing, divisor)
    found = [loss.detach(), nll, *torch.autograd.grad(0.37 * loss, inputs)]
    return [t.double() for t in found]


@needs_compiler
@pytest.mark.parametrize("rows", [1, 63, 64, 200, BLOCK_ROWS + 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_kernel_gives_the_loss_and_gradients_of_torch(rows: int, smoothing: float) -> None:
    assert kernels.load()
    *parts, target = case(rows)
    found = losses_and_gradients(parts, target, smoothing)
    expected = losses_and_gradients([t.double() for t in parts], target, smoothing)
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * scale)


@needs_compiler
def test_large_logits_and_impossible_words_stay_finite() -> None:
    assert kernels.load()
    *parts, target = case(70)
    parts[2][7:9] = torch.tensor([300.0, -300.0])
    target[:2] = torch.tensor([7, 8])
    found = losses_and_gradients(parts, target, 0.1)
    expected = losses_and_gradients([t.double() for t in parts], target, 0.1)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@needs_compiler
def test_a_nan_in_a_row_makes_the_loss_one() -> None:
    assert kernels.load()
    x, weight, bias, target = case(70)
    x[65, 3] = torch.nan
    loss, nll = linear_cross_entropy(x, weight, bias, target, 0.1)
    assert loss.isnan()
    assert nll.isnan()


@needs_compiler
def test_the_kernel_in_bfloat16_is_that_of_torch_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kernels.load()
    *parts, target = case(300)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_and_gradients(parts, target, 0.1)
        monkeypatch.setattr(kernels, "serves", lambda *_: False)
        expected = losses_and_gradients(parts, target, 0.1)
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2 * scale)


@needs_compiler
@torch.no_grad()
def test_no_bit_of_the_kernel_depends_on_the_threads() -> None:
    assert kernels.load()
    x, weight, bias, target = case(500)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        layer = OutputLayer(weight, bias, 0.1, 1.0)
        found.append(over_blocks(layer, x, target, True, True))
    torch.set_num_threads(threads)
    for results in zip(*found, strict=True):
        assert all(torch.equal(results[0], other) for other in results)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divisor_divides_the_loss_and_its_gradients(dtype: torch.dtype) -> None:
    *parts, target = case(200)
    parts = [t.to(dtype).requires_grad_() for t in parts]
    loss, nll = linear_cross_entropy(parts[0], parts[1], parts[2], target, 0.1, 7.0)
    whole, whole_nll = linear_cross_entropy(parts[0], parts[1], parts[2], target, 0.1)
    assert torch.equal(nll, whole_nll)
    torch.testing.assert_close(7 * loss, whole)
    gradients = torch.autograd.grad(loss, parts), torch.autograd.grad(whole / 7, parts)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@needs_compiler
def test_no_bit_depends_on_what_ran_before() -> None:
    kernels.load.cache_clear()
    *parts, target = case(70)
    first = losses_and_gradients(parts, target, 0.1)
    assert kernels.load()
    second = losses_and_gradients(parts, target, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_reference_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "load", lambda: pytest.fail("the kernels are loaded"))
    x, weight, bias, target = case(4)
    assert linear_cross_entropy(x, weight, bias, target, 0.1, 1.0, "reference")[0].isfinite()


def wrong_arguments() -> Iterator[tuple[Tensor, ...]]:
    """Yield arguments that the operator refuses."""
    x, weight, bias, target = case(4)
    logits = x @ weight.t()
    yield logits[:, :-1], bias, target, bias
    yield logits.double(), bias, target, bias
    yield logits.t(), bias, target, bias
    yield logits, bias.double(), target, bias
    yield logits, bias[:-1], target, bias
    yield logits, bias, target, bias.double()
    yield logits, bias, target, bias[:-1]
    yield logits, bias, target.int(), bias
    yield logits, bias, target[:-1], bias
    yield logits, bias, target + 90, bias
    yield logits, bias, target - 90, bias


@needs_compiler
@pytest.mark.parametrize("arguments", list(wrong_arguments()))
def test_wrong_arguments_are_refused(arguments: tuple[Tensor, ...]) -> None:
    assert kernels.load()
    with pytest.raises(RuntimeError, match=r"expected .* got"):
        torch.ops.seq2seq.softmax_loss(*arguments, 0.1, 1.0, True)
