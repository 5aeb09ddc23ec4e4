"""The best next words from the output layer's product, compared with plain torch."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kernel_cases import needs_compiler
from torch import Tensor

from seq2seq.model import kernels
from seq2seq.model.linear import Linear
from seq2seq.rnn import frozen, packed, packs

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not packs(torch.float32), reason="a CPU without products of our own"),
]
FORBIDDEN = [0, 2]


@pytest.fixture(autouse=True)
def loaded() -> None:
    assert kernels.load()


def layer(inner: int, words: int, backend: str = "auto") -> Linear:
    torch.manual_seed(1)
    return Linear(inner, words, backend=backend).eval().requires_grad_(False)


def best(output: Linear, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), frozen(output):
        found = output.best_words(x, FORBIDDEN, count)
        assert output.kept()  # of the packed weight, which the kernel reads
    return found


@pytest.mark.parametrize("rows", [1, 13, 14, 15, 300])
@pytest.mark.parametrize("words", [12, 255, 256, 257, 1000])
@pytest.mark.parametrize("inner", [7, 64, 1030])
def test_they_are_those_of_a_softmax_in_double_precision(rows: int, words: int, inner: int) -> None:
    output, x = layer(inner, words), torch.randn(rows, inner)
    log_probs, found = best(output, x, 10)
    expected = torch.log_softmax(
        torch.addmm(output.bias.double(), x.double(), output.weight.double().t()), dim=1
    )
    expected[:, FORBIDDEN] = -math.inf
    values, _ = expected.topk(10, dim=1)
    torch.testing.assert_close(log_probs.double(), values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(expected.gather(1, found), values, rtol=1e-5, atol=1e-5)


def test_equal_ones_come_in_the_order_of_the_words() -> None:
    output = layer(3, 700)
    output.weight.zero_()
    output.bias.zero_()
    output.bias[[600, 300, 5]] = 1.0
    _, found = best(output, torch.randn(20, 3), 6)
    assert found.tolist() == [[5, 300, 600, 1, 3, 4]] * 20


def test_a_row_depends_on_that_row_alone_whatever_the_threads() -> None:
    output, x = layer(40, 2000), torch.randn(50, 40)
    expected = best(output, x, 10)
    for rows in (slice(0, 1), slice(3, 20)):
        for found, whole in zip(best(output, x[rows], 10), expected, strict=True):
            assert torch.equal(found, whole[rows])
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    for found, whole in zip(best(output, x, 10), expected, strict=True):
        assert torch.equal(found, whole)
    torch.set_num_threads(threads)


def test_no_rows_have_no_words() -> None:
    log_probs, found = best(layer(5, 300), torch.randn(0, 5), 4)
    assert log_probs.shape == found.shape == (0, 4)


def test_few_words_leave_places_without_one() -> None:
    output = layer(3, 4)
    log_probs, found = best(output, torch.randn(5, 3), 4)
    assert log_probs[:, :2].isfinite().all()
    assert log_probs[:, 2:].eq(-math.inf).all()
    assert found[:, :2].sort(dim=1).values.tolist() == [[1, 3]] * 5


def test_a_word_without_probability_adds_nothing_and_a_nan_stays_one() -> None:
    output, x = layer(3, 600), torch.randn(4, 3)
    output.bias[300:] = -math.inf  # a whole chunk of words
    log_probs, found = best(output, x, 5)
    expected = torch.log_softmax(output(x), dim=1)
    torch.testing.assert_close(log_probs, expected.gather(1, found), rtol=1e-5, atol=1e-5)
    x[1, 1] = math.nan
    log_probs, _ = best(output, x, 5)
    assert log_probs[1].isnan().all()
    assert log_probs[[0, 2, 3]].isfinite().all()
    output.bias[:] = -math.inf
    assert not best(output, torch.randn(4, 3), 5)[0].isfinite().any()


@pytest.mark.skipif(not packs(torch.bfloat16), reason="a CPU without bfloat16 products")
def test_products_are_in_bfloat16_under_autocast() -> None:
    output, x = layer(65, 500), torch.randn(30, 65)
    with torch.autocast("cpu", torch.bfloat16):
        log_probs, _ = best(output, x, 8)
    rounded = [t.bfloat16().double() for t in (x, output.weight)]
    logits = torch.addmm(output.bias.double(), rounded[0], rounded[1].t())
    expected = torch.log_softmax(logits, dim=1)
    expected[:, FORBIDDEN] = -math.inf
    torch.testing.assert_close(log_probs.double(), expected.topk(8).values, rtol=1e-5, atol=1e-5)


def test_without_kept_weights_or_kernels_torch_finds_the_same() -> None:
    x = torch.randn(9, 20)
    expected = best(layer(20, 300), x, 6)
    for output in (layer(20, 300), layer(20, 300, "reference")):
        found = output.best_words(x, FORBIDDEN, 6)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def wrong_calls() -> Iterator[tuple[Any, ...]]:
    """Yield arguments that the operator refuses."""
    x, bias = torch.randn(3, 8), torch.zeros(40)
    weight = packed(torch.randn(40, 8))
    yield x[0], weight, bias, FORBIDDEN, 5
    yield x[:, :7], weight, bias, FORBIDDEN, 5
    yield x, torch.randn(40, 8), bias, FORBIDDEN, 5
    yield x, weight, torch.zeros(400), FORBIDDEN, 5
    yield x, weight, bias.double(), FORBIDDEN, 5
    yield x, weight, bias, FORBIDDEN, 0
    yield x, weight, bias, FORBIDDEN, 41
    yield x, weight.transpose(1, 2), bias, FORBIDDEN, 5
    yield x[:, :0], weight, bias, FORBIDDEN, 5


@pytest.mark.parametrize("case", range(9))
def test_wrong_arguments_are_refused(case: int) -> None:
    with pytest.raises(RuntimeError, match=r"expected .* got"):
        torch.ops.seq2seq.best_next_words(*list(wrong_calls())[case])
