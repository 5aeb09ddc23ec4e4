"""Sentences join a search as others end: what they become does not depend on their company."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from combinations import few
from search_cases import NORMS, sentences, translator

from seq2seq.config import DecodeConfig
from seq2seq.model import Translator
from seq2seq.model.decoder import DecoderState
from seq2seq.rnn import packs
from seq2seq.translation.beams import Beams, kept_first
from seq2seq.translation.ensemble import Ensemble
from seq2seq.translation.history import Chosen, History, Hypothesis
from seq2seq.translation.search import search_in_batches


def search(
    model: Translator | Ensemble, config: DecodeConfig, n_best: int = 1, attention: bool = False
) -> list[list[Hypothesis]]:
    found = dict(search_in_batches(model, sentences(), config, n_best, attention))
    return [found[i] for i in range(len(found))]


@pytest.mark.skipif(not packs(torch.float32), reason="products of PyTorch depend on the batch")
@few({"changes": [{}, {"input_feeding": True}], "norm": NORMS, "beam": [1, 5]}, rounds=2)
def test_no_bit_depends_on_the_batch_or_the_threads(
    norm: str, beam: int, changes: dict[str, Any]
) -> None:
    model = translator(NORMS[norm], **changes)
    config = DecodeConfig(beam, max_length="2x+5")
    expected = search(model, config, beam)
    assert len({len(found[0].ids) for found in expected}) > 3
    for size in (1, 7, 16):
        assert search(model, replace(config, batch_size=size), beam) == expected
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    assert search(model, config, beam) == expected
    torch.set_num_threads(threads)


@pytest.mark.skipif(not packs(torch.bfloat16), reason="a CPU without bfloat16 products")
@few({"norm": NORMS, "beam": [1, 5]})
def test_no_bit_depends_on_the_batch_in_bfloat16(norm: str, beam: int) -> None:
    model, config = translator(NORMS[norm]), DecodeConfig(beam, max_length="2x+5")
    with torch.autocast("cpu", torch.bfloat16):
        expected = search(model, config, beam)
        for size in (1, 7, 16):
            assert search(model, replace(config, batch_size=size), beam) == expected
    assert expected != search(model, config, beam)


@pytest.mark.skipif(not packs(torch.float32), reason="products of PyTorch depend on the batch")
@pytest.mark.parametrize("norm", NORMS)
def test_the_order_of_the_input_does_not_matter(norm: str) -> None:
    model, config = translator(NORMS[norm]), DecodeConfig(3, batch_size=8)
    forward = dict(search_in_batches(model, sentences(), config))
    backward = dict(search_in_batches(model, sentences()[::-1], config))
    last = len(forward) - 1
    assert [forward[i] for i in range(last + 1)] == [backward[last - i] for i in range(last + 1)]


def test_attention_is_that_of_a_sentence_alone() -> None:
    model = translator(NORMS["layer"])
    config = DecodeConfig(4, max_length="2x+5", batch_size=6)
    together = search(model, config, 4, attention=True)
    alone = search(model, replace(config, batch_size=1), 4, attention=True)
    for source, these, those in zip(sentences(), together, alone, strict=True):
        for one, other in zip(these, those, strict=True):
            assert one.attention is not None
            assert other.attention is not None
            assert one.attention.shape == (len(one.ids) + one.ended, len(source) + 1)
            torch.testing.assert_close(one.attention, other.attention)


def test_rules_and_ensembles_also_take_sentences_at_any_step() -> None:
    model = Ensemble([translator(NORMS["layer"]), translator(NORMS["per step"], seed=4)])
    config = DecodeConfig(3, max_length="12", min_length=3, no_repeat_ngram=2, batch_size=5)
    together, alone = (search(model, c, 2) for c in (config, replace(config, batch_size=1)))
    for these, those in zip(together, alone, strict=True):
        assert [h.ids for h in these] == [h.ids for h in those]
        for h in these:
            assert len(h.ids) >= 3
            pairs = list(zip(h.ids, h.ids[1:], strict=False))
            assert len(set(pairs)) == len(pairs)


def test_sentences_join_a_search_with_statistics_per_step_before_the_others_end() -> None:
    model, found = translator(NORMS["per step"]), set[int]()
    step = model.best_step

    def noting(tokens: Any, state: DecoderState, *others: Any) -> Any:
        found.add(len(set(state.steps().tolist())))
        return step(tokens, state, *others)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "best_step", noting)
        search(model, DecodeConfig(2, batch_size=8))
    assert max(found) > 3


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n_best", [1, 3])
def test_stopping_early_changes_no_translation(
    alpha: float, n_best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = translator(NORMS["layer"])
    config = DecodeConfig(6, length_penalty=alpha, max_length="1x+2")
    steps: list[int] = []
    advance = Beams.advance

    def counted(self: Beams, *arguments: Any) -> Any:
        steps[-1] += len(self)
        return advance(self, *arguments)

    monkeypatch.setattr(Beams, "advance", counted)
    steps.append(0)
    early = search(model, config, n_best)
    monkeypatch.setattr(
        Beams, "_decided", lambda self: self.table["count"] >= self.config.beam_size
    )
    steps.append(0)
    assert search(model, config, n_best) == early
    assert steps[0] < steps[1] or (alpha == 1 and steps[0] == steps[1])


def test_places_that_become_free_are_filled_from_the_end() -> None:
    over = np.array([False, True, False, True, False, False])
    assert kept_first(over).tolist() == [0, 4, 2, 5, 1, 3]
    assert kept_first(np.zeros(3, np.bool_)).tolist() == [0, 1, 2]
    assert kept_first(np.ones(2, np.bool_)).tolist() == [0, 1]


def test_a_history_reads_back_hypotheses_that_began_at_different_steps() -> None:
    history = History()
    history.append(Chosen(np.array([7, 8]), np.array([0, 0]), None))
    history.append(Chosen(np.array([5, 6, 9]), np.array([1, 0, 2]), None))
    assert history.read(0, start=0, end=2) == ([8, 5], [])
    assert history.read(2, start=1, end=2) == ([9], [])
    assert history.read(1, start=0, end=1) == ([8], [])
    assert history.words(np.array([0, 0, 1])).tolist() == [[8, 5], [7, 6], [-1, 9]]
    history.forget(before=1)
    assert (history.first, len(history.steps), history.end) == (1, 1, 2)
    assert history.read(2, start=1, end=2) == ([9], [])


def test_hypotheses_with_their_first_words_join_the_last_step() -> None:
    rows = np.array([0, 0])
    first = Chosen(np.array([3, 4]), rows, torch.tensor([[0.5, 0.5, 0.0]]))
    history = History()
    assert history.join(first.of(slice(0, 2)), kept=0) == 0
    last = Chosen(np.array([5, 6, 7]), np.array([1, 0, 0]), torch.tensor([[1.0], [0.9]]))
    history.append(last)
    assert history.join(first.of(slice(0, 2)), kept=2) == 2  # the third hypothesis was over
    assert history.end == 2
    assert history.read(0, start=0, end=2)[0] == [4, 5]
    words, attention = history.read(3, start=1, end=2)
    assert (words, [a.tolist() for a in attention]) == ([4], [[0.5, 0.5, 0.0]])
    assert history.read(0, start=1, end=2)[1][0].tolist() == pytest.approx([0.9, 0.0, 0.0])
