"""Several translators as one, compared with enumeration of every translation."""

import itertools
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from typed import present

from seq2seq.config import Attention, CellConfig, DecodeConfig, ModelConfig, Sampling
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import NormConfig
from seq2seq.translation.ensemble import Ensemble
from seq2seq.translation.search import search_in_batches

SENTENCES = [[5, 6, 7], [4, 4, 9, 10, 11], [8]]
WORDS = (1, 4, 5)
END = 3


def member(seed: int, attention: Attention = Attention.general, words: int = 6) -> Translator:
    torch.manual_seed(seed)
    config = ModelConfig(8, 8 + 4 * seed, dropout=0.0, init_scale=1.0, attention=attention)
    return Translator(config, NormConfig(), CellConfig(), Vocabulary(20, words, False)).eval()


@cache
def log_prob_of_start(model: Translator, src: tuple[int, ...], tgt: tuple[int, ...]) -> float:
    """Return the log-probability of the first pieces of a translation under one member."""
    if not tgt:
        return 0.0
    ids = [*src, END]
    batch = ([ids], [len(ids)], [list(tgt)], [len(tgt)])
    return -float(model(*map(torch.tensor, batch))[1])


def log_prob(members: list[Translator], src: list[int], tgt: list[int]) -> float:
    """Return the log-probability under the mean of the members' probabilities of each piece."""
    total = 0.0
    for n in range(len(tgt)):
        starts = [
            [log_prob_of_start(model, tuple(src), tuple(tgt[:end])) for end in (n, n + 1)]
            for model in members
        ]
        total += math.log(sum(math.exp(after - before) for before, after in starts) / len(members))
    return total


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_best_translations_are_those_of_the_mean(count: int) -> None:
    members = [member(seed) for seed in range(count)]
    config = DecodeConfig(beam_size=40, max_length="3", batch_size=2)
    found = dict(search_in_batches(Ensemble(members), SENTENCES, config, 5))
    for i, src in enumerate(SENTENCES):
        every = []
        for length in range(4):
            for ids in itertools.product(WORDS, repeat=length):
                tgt = [*ids, *[END] * (length < 3)]
                every.append((log_prob(members, src, tgt) / len(tgt), list(ids)))
        best = sorted(every, reverse=True)[:5]
        assert [h.ids for h in found[i]] == [ids for _, ids in best]
        assert [h.score for h in found[i]] == pytest.approx([s for s, _ in best], abs=1e-4)


def test_copies_of_one_model_are_as_good_as_one() -> None:
    model = member(1)
    config = DecodeConfig(beam_size=3, max_length="2x+3", min_length=2, no_repeat_ngram=2)
    alone, together = (
        dict(search_in_batches(one, SENTENCES, config, 3, True))
        for one in (model, Ensemble([model, model]))
    )
    for i in range(len(SENTENCES)):
        for one, both in zip(alone[i], together[i], strict=True):
            assert one.ids == both.ids
            assert one.score == pytest.approx(both.score, abs=1e-5)
            torch.testing.assert_close(present(one.attention), present(both.attention))


def test_attention_is_the_mean_of_the_members_that_have_it() -> None:
    first, second = member(1), member(1, Attention.none)
    config = DecodeConfig(beam_size=2, max_length="3", min_length=3)
    for _, (found,) in search_in_batches(Ensemble([first, second]), SENTENCES, config, 1, True):
        torch.testing.assert_close(present(found.attention).sum(1), torch.ones(3))
    for _, (found,) in search_in_batches(Ensemble([second]), SENTENCES, config, 1, True):
        assert found.attention is None


def test_an_ensemble_draws_the_same_whatever_the_batch_is() -> None:
    both = Ensemble([member(1), member(2)])
    config = DecodeConfig(max_length="2x+3")
    draws = [
        dict(
            search_in_batches(both, SENTENCES, replace(config, batch_size=n), 4, False, Sampling())
        )
        for n in (1, 3)
    ]
    assert [[h.ids for h in draws[0][i]] for i in range(3)] == [
        [h.ids for h in draws[1][i]] for i in range(3)
    ]


def test_vocabularies_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"vocabularies of \[\(20, 6\), \(20, 7\)\] pieces"):
        Ensemble([member(1), member(2, words=7)])
