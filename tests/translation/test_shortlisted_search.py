"""A search among the words of a shortlist."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import needs_compiler
from search_cases import NORMS, sentences, translator

from seq2seq.config import DecodeConfig, Sampling
from seq2seq.data.shortlist import Shortlist
from seq2seq.model import Translator, kernels
from seq2seq.rnn import packs
from seq2seq.translation.ensemble import Ensemble
from seq2seq.translation.history import Hypothesis
from seq2seq.translation.search import search_in_batches

WORDS, PIECES = 40, 30
PAD, UNKNOWN, BOS, EOS = 0, 1, 2, 3


def shortlist(candidates: int) -> Shortlist:
    """Return a shortlist with some words for each piece; all of them with 40."""
    random = np.random.default_rng(1)
    table = np.stack([random.permutation(WORDS)[:candidates] for _ in range(PIECES)])
    table[np.isin(table, (PAD, BOS))] = 5  # neither is ever learnt
    return Shortlist(table.astype(np.int32), np.array([EOS, UNKNOWN], np.int32), copies=False)


def search(
    model: Translator | Ensemble, config: DecodeConfig, n_best: int = 1, **options: Any
) -> list[list[Hypothesis]]:
    found = dict(search_in_batches(model, sentences(), config, n_best, **options))
    return [found[i] for i in range(len(found))]


def assert_allowed(found: list[list[Hypothesis]], given: Shortlist, count: int) -> None:
    for source, words, hypotheses in zip(
        sentences(), given.words(sentences(), count), found, strict=True
    ):
        for hypothesis in hypotheses:
            assert set(hypothesis.ids) <= set(words.tolist()), source


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_with_all_words_the_translations_are_those_of_an_exact_search(
    beam: int, backend: str
) -> None:
    model = translator(NORMS["layer"])
    model.backend = backend
    with torch.no_grad():  # no shortlist has them
        model.output.bias[[PAD, BOS]] = -1e4
    config = DecodeConfig(beam, max_length="2x+5", shortlist=40)
    exact = search(model, config, beam)
    found = search(model, config, beam, shortlist=shortlist(40))
    assert [[h.ids for h in best] for best in found] == [[h.ids for h in best] for best in exact]
    for mine, theirs in zip(found, exact, strict=True):
        expected = [h.log_prob for h in theirs]
        assert [h.log_prob for h in mine] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("beam", [1, 5])
def test_a_sentence_becomes_words_of_its_own_shortlist(beam: int) -> None:
    model, given = translator(NORMS["layer"]), shortlist(3)
    config = DecodeConfig(beam, max_length="2x+5", shortlist=2)
    found = search(model, config, beam, shortlist=given)
    assert_allowed(found, given, 2)
    assert len({len(best[0].ids) for best in found}) > 2
    assert found != search(model, replace(config, shortlist=3), beam, shortlist=given)


@pytest.mark.skipif(not packs(torch.float32), reason="products of PyTorch depend on the batch")
@pytest.mark.parametrize("beam", [1, 5])
def test_no_bit_depends_on_the_batch(beam: int) -> None:
    model, given = translator(NORMS["layer"]), shortlist(3)
    config = DecodeConfig(beam, max_length="2x+5", shortlist=3)
    expected = search(model, config, beam, shortlist=given)
    for size in (1, 7, 16):
        smaller = replace(config, batch_size=size)
        assert search(model, smaller, beam, shortlist=given) == expected


@pytest.mark.parametrize("changes", [{"min_length": 4}, {"no_repeat_ngram": 2, "min_length": 3}])
def test_rules_hold_too(changes: dict[str, Any]) -> None:
    model, given = translator(NORMS["layer"]), shortlist(4)
    config = replace(DecodeConfig(3, max_length="2x+9", shortlist=4), **changes)
    found = search(model, config, 3, shortlist=given)
    assert_allowed(found, given, 4)
    for best in found:
        for hypothesis in best:
            assert len(hypothesis.ids) >= changes["min_length"] or hypothesis.ended
            pairs = list(zip(hypothesis.ids, hypothesis.ids[1:], strict=False))
            assert "no_repeat_ngram" not in changes or len(set(pairs)) == len(pairs)


def test_a_double_model_searches_among_them() -> None:
    model, given = translator(NORMS["layer"]).double(), shortlist(4)
    config = DecodeConfig(3, max_length="2x+5", shortlist=4)
    assert_allowed(search(model, config, 3, shortlist=given), given, 4)


def test_drawn_words_are_allowed_ones() -> None:
    model, given = translator(NORMS["layer"]), shortlist(4)
    config = DecodeConfig(shortlist=4, max_length="2x+5")
    found = search(model, config, 3, shortlist=given, sampling=Sampling(temperature=2.0))
    assert_allowed(found, given, 4)
    assert any(best[0].ids != best[1].ids for best in found)


def test_an_ensemble_searches_among_them() -> None:
    members, given = [translator(NORMS["none"], seed) for seed in (3, 4)], shortlist(4)
    config = DecodeConfig(3, max_length="2x+5", shortlist=4)
    found = search(Ensemble(members), config, 3, shortlist=given)
    assert_allowed(found, given, 4)
    assert found != search(members[0], config, 3, shortlist=given)


# -- the kernel ---


def case() -> tuple[torch.Tensor, ...]:
    """Return x, weight, bias and words of 3 sentences with 2 hypotheses each."""
    torch.manual_seed(0)
    words = torch.tensor([[0, 3, 4, 9, 11, 12], [5, 6, 7, -1, -1, -1], [2, -1, -1, -1, -1, -1]])
    return torch.randn(6, 37), torch.randn(13, 37), torch.randn(13), words.int()


@needs_compiler
def test_the_kernel_has_the_logits_of_the_whole_product() -> None:
    x, weight, bias, words = case()
    with torch.no_grad():
        found = kernels.shortlist_logits(x, weight, bias, words)
        plain = kernels.shortlist_logits(x, weight, bias, words, "reference")
    whole = x @ weight.t() + bias
    for row in range(6):
        for place, word in enumerate(words[row // 2].tolist()):
            expected = whole[row, word] if word >= 0 else torch.tensor(float("-inf"))
            torch.testing.assert_close(found[row, place], expected)
            torch.testing.assert_close(plain[row, place], expected)


@needs_compiler
def test_a_logit_of_the_kernel_has_the_same_bits_in_any_company() -> None:
    x, weight, bias, words = case()
    with torch.no_grad():
        together = kernels.shortlist_logits(x, weight, bias, words)
        for row in range(6):
            for place, word in enumerate(words[row // 2].tolist()):
                if word >= 0:
                    one = torch.tensor([[word]]).int()
                    alone = kernels.shortlist_logits(x[row : row + 1], weight, bias, one)
                    assert torch.equal(alone[0, 0], together[row, place])


@needs_compiler
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(6, 5), r"expected contiguous float x \(R, H\) and weight"),
        (1, torch.zeros(13, 37).double(), "expected contiguous float x"),
        (2, torch.zeros(4), r"expected a contiguous float bias \(13\)"),
        (3, torch.zeros(4, 2).int(), r"expected contiguous int32 words \(B, W\) for 6 rows"),
        (3, torch.zeros(3, 2).long(), "expected contiguous int32 words"),
        (3, torch.full((3, 2), 13).int(), "expected words below 13"),
    ],
)
def test_the_kernel_checks_what_it_is_given(place: int, value: torch.Tensor, message: str) -> None:
    assert kernels.load()
    given = list(case())
    given[place] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.seq2seq.shortlist_logits(*given)
