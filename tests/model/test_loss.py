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


@pytest.mark.parametrize("rows", [2, CHUNK_ROWS, 2 * CHUNK_ROWS + 4, BLOCK_ROWS + 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_r_drop_is_half_of_equation_4(rows: int, smoothing: float) -> None:
    """Equation 4 of Wu et al. 2021, with label smoothing as the likelihood's loss."""
    *parts, target = pairs(rows)
    x, weight, bias = inputs = [t.double().requires_grad_() for t in parts]
    loss, nll = linear_cross_entropy(x, weight, bias, target, smoothing, 1.0, 3.0)
    logits = x @ weight.T + bias
    log_p, log_r = (torch.log_softmax(half, dim=1) for half in (logits[::2], logits[1::2]))
    there = F.kl_div(log_r, log_p, log_target=True, reduction="sum")  # KL(p || r)
    back = F.kl_div(log_p, log_r, log_target=True, reduction="sum")
    likelihood = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    expected = (likelihood + 3 * (there + back) / 2) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="sum").detach() / 2)
    ours = torch.autograd.grad(loss * 0.37, inputs)
    theirs = torch.autograd.grad(expected * 0.37, inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_r_drop_of_equal_rows_is_the_loss_of_one() -> None:
    *parts, target = case(40)
    alone = losses_and_gradients([t.double() for t in parts], target, 0.1)
    parts[0], target = (t.repeat_interleave(2, dim=0) for t in (parts[0], target))
    twice = losses_and_gradients([t.double() for t in parts], target, 0.1, r_drop=4.0)
    twice[2] = twice[2][::2] + twice[2][1::2]
    for a, b in zip(alone, twice, strict=True):
        torch.testing.assert_close(a, b)


# -- the kernel, compared with plain torch in double precision ---


def case(rows: int, words: int = 90, features: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and targets."""
    torch.manual_seed(0)
    x, weight = torch.randn(rows, features), torch.randn(words, features) / 4
    return x, weight, torch.randn(words), torch.randint(words, (rows,))


def pairs(rows: int, words: int = 90) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and targets; two rows each have one target, and are alike."""
    x, weight, bias, target = case(rows, words)
    x[1::2] = x[::2] + 0.3 * x[1::2]
    return x, weight, bias, target[::2].repeat_interleave(2)


def losses_and_gradients(
    parts: Sequence[Tensor],
    target: Tensor,
    smoothing: float,
    divisor: float = 1.0,
    r_drop: float = 0.0,
) -> list[Tensor]:
    """Return loss, nll and the gradients of parts (x, weight, bias), in double precision."""
    x, weight, bias = inputs = [t.clone().requires_grad_() for t in parts]
    loss, nll = linear_cross_entropy(x, weight, bias, target, smoothing, divisor, r_drop)
    found = [loss.detach(), nll, *torch.autograd.grad(0.37 * loss, inputs)]
    return [t.double() for t in found]


def check_kernel(
    rows: tuple[Tensor, ...], smoothing: float, r_drop: float = 0.0, atol: float | None = None
) -> None:
    """Compare loss and gradients of the kernel with those of plain torch in double precision."""
    assert kernels.load()
    *parts, target = rows
    found = losses_and_gradients(parts, target, smoothing, 1.0, r_drop)
    expected = losses_and_gradients([t.double() for t in parts], target, smoothing, 1.0, r_drop)
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=1e-5, atol=atol or 2e-6 * scale)


@needs_compiler
@pytest.mark.parametrize("rows", [1, 63, 64, 200, BLOCK_ROWS + 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_kernel_gives_the_loss_and_gradients_of_torch(rows: int, smoothing: float) -> None:
    check_kernel(case(rows), smoothing)


@needs_compiler
@pytest.mark.parametrize("rows", [2, 64, 66, 200, BLOCK_ROWS + 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_kernel_gives_r_drop(rows: int, smoothing: float) -> None:
    check_kernel(pairs(rows), smoothing, r_drop=4.0)


@needs_compiler
@pytest.mark.parametrize("r_drop", [0.0, 4.0])
def test_large_logits_and_impossible_words_stay_finite(r_drop: float) -> None:
    *parts, target = pairs(70)
    parts[2][7:9] = torch.tensor([300.0, -300.0])
    target[:4] = torch.tensor([7, 7, 8, 8])
    check_kernel((*parts, target), 0.1, r_drop, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("r_drop", [0.0, 4.0])
def test_a_nan_in_a_row_makes_the_loss_one(r_drop: float) -> None:
    assert kernels.load()
    x, weight, bias, target = pairs(70)
    x[65, 3] = torch.nan
    loss, nll = linear_cross_entropy(x, weight, bias, target, 0.1, 1.0, r_drop)
    assert loss.isnan()
    assert nll.isnan()


@needs_compiler
@pytest.mark.parametrize("r_drop", [0.0, 4.0])
def test_the_kernel_in_bfloat16_is_that_of_torch_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, r_drop: float
) -> None:
    assert kernels.load()
    *parts, target = pairs(300)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_and_gradients(parts, target, 0.1, 1.0, r_drop)
        monkeypatch.setattr(kernels, "serves", lambda *_: False)
        expected = losses_and_gradients(parts, target, 0.1, 1.0, r_drop)
    close = 3e-2 if r_drop else 1e-2  # R-Drop takes four times the difference of rounded logits
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=close, atol=close * scale)


@needs_compiler
@pytest.mark.parametrize("r_drop", [0.0, 4.0])
@torch.no_grad()
def test_no_bit_of_the_kernel_depends_on_the_threads(r_drop: float) -> None:
    assert kernels.load()
    x, weight, bias, target = pairs(500)
    threads, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        layer = OutputLayer(weight, bias, 0.1, r_drop, 1.0)
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
    assert linear_cross_entropy(x, weight, bias, target, 0.1, 1.0, 0.0, "reference")[0].isfinite()


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
        torch.ops.seq2seq.softmax_loss(*arguments, 0.1, 0.0, 1.0, True)


@needs_compiler
@pytest.mark.parametrize("target", [[1, 1, 2], [1, 1, 2, 3]])
def test_rows_that_are_no_pairs_are_refused(target: list[int]) -> None:
    assert kernels.load()
    x, weight, bias, _ = case(len(target))
    with pytest.raises(RuntimeError, match=r"expected rows in pairs of one target"):
        linear_cross_entropy(x, weight, bias, torch.tensor(target), 0.1, 1.0, 4.0)
