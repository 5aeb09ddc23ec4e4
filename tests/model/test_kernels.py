"""The kernels of a search step compared with plain torch."""

import math
from collections.abc import Iterator

import pytest
import torch
from kernel_cases import needs_compiler
from torch import Tensor

from seq2seq.model import kernels


@pytest.fixture(autouse=True)
def loaded() -> None:
    assert kernels.load()


pytestmark = needs_compiler


def attention_case(
    sentences: int = 5, hypotheses: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return query, keys, states and mask; the memory is a view of a larger one."""
    torch.manual_seed(0)
    block = torch.randn(2, sentences + 2, 12, 40)
    keys, states = block[0, :sentences, :9], block[1, :sentences, :9]
    lengths = torch.tensor([9, 1, 4, 7, 5])[:sentences]
    return torch.randn(sentences, hypotheses, 40), keys, states, torch.arange(9) < lengths[:, None]


def by_torch(query: Tensor, keys: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return what double precision gives, which the kernels do not take."""
    parts = (query.double(), keys.double(), states.double(), mask)
    context, weights = kernels.attend(*parts)
    assert context.dtype == torch.double
    return context, weights


@pytest.mark.parametrize("hypotheses", [1, 3])
def test_attention_is_that_of_torch(hypotheses: int) -> None:
    case = attention_case(hypotheses=hypotheses)
    context, weights = kernels.attend(*case)
    expected, expected_weights = by_torch(*case)
    torch.testing.assert_close(context.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.double(), expected_weights, rtol=1e-5, atol=1e-7)
    assert weights[~case[3][:, None].expand_as(weights)].eq(0).all()


def test_attention_of_a_sentence_depends_on_that_sentence_alone() -> None:
    query, keys, states, mask = attention_case()
    context, weights = kernels.attend(query, keys, states, mask)
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        alone = kernels.attend(
            query[i : i + 1],
            keys[i : i + 1, :length],
            states[i : i + 1, :length],
            mask[i : i + 1, :length],
        )
        assert torch.equal(alone[0], context[i : i + 1])
        assert torch.equal(alone[1], weights[i : i + 1, :, :length])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("words", [1, 7, 16, 1000])
def test_the_normaliser_is_that_of_torch(scale: float, words: int) -> None:
    torch.manual_seed(0)
    logits = scale * torch.randn(20, words)
    found = kernels.log_sum_exp(logits)
    torch.testing.assert_close(found.double(), logits.double().logsumexp(1), rtol=1e-6, atol=1e-6)


def test_a_word_without_probability_adds_nothing_and_a_nan_stays_one() -> None:
    logits = torch.tensor([[0.0, -math.inf, 1.0], [0.0, math.nan, 1.0]])
    first, second = kernels.log_sum_exp(logits).tolist()
    assert first == pytest.approx(math.log(1 + math.e), abs=1e-6)
    assert math.isnan(second)


@pytest.mark.parametrize("words", [5, 15, 16, 17, 1023, 1024, 1025, 8000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_best_words_are_those_of_a_stable_sort(words: int, count: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(30, words).round(decimals=1)  # many are equal
    logits[0] = -math.inf
    logits[1, 3:] = -math.inf
    values, ids = kernels.best_words(logits, count)
    expected = logits.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :count])
    assert torch.equal(ids, expected.indices[:, :count])


def wrong_calls() -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield calls that the operators refuse."""
    query, keys, states, mask = attention_case()
    logits = torch.randn(3, 4)
    yield "attention_step", (query.double(), keys, states, mask)
    yield "attention_step", (query[:2], keys, states, mask)
    yield "attention_step", (query, keys, states[:, :3], mask)
    yield "attention_step", (query, keys, states, mask.float())
    yield "log_sum_exp", (logits.double(),)
    yield "log_sum_exp", (logits.t(),)
    yield "best_words", (logits, 5)
    yield "best_words", (logits, 0)
    yield "best_words", (logits[0], 1)


@pytest.mark.parametrize(("name", "arguments"), list(wrong_calls()))
def test_wrong_arguments_are_refused(name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"expected .* got"):
        getattr(torch.ops.seq2seq, name)(*arguments)


def test_the_kernels_leave_gradients_and_other_types_to_torch() -> None:
    logits = torch.randn(2, 6)
    assert kernels.serves("auto", logits)
    assert not kernels.serves("reference", logits)
    assert not kernels.serves("auto", logits.double())
    assert not kernels.serves("auto", logits, logits.bfloat16())
    assert not kernels.serves("auto", logits.requires_grad_())
    with torch.no_grad():
        assert kernels.serves("fused", logits)
    query, keys, states, mask = attention_case()
    context, _ = kernels.attend(query.requires_grad_(), keys, states, mask)
    assert context.requires_grad
    assert kernels.best_words(logits.double(), 2)[0].dtype == torch.double
    assert kernels.log_sum_exp(logits.double()).dtype == torch.double
