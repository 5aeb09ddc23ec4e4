import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from typed import present

from seq2seq.config import Attention, CellConfig, DecodeConfig, ModelConfig, length_limit
from seq2seq.model import Memory, Translator, Vocabulary
from seq2seq.rnn import NormConfig
from seq2seq.translation import search
from seq2seq.translation.search import search_in_batches

SENTENCES = [[5, 6, 7], [4, 4, 9, 10, 11], [], [8]]
WORDS = (1, 4, 5)  # the ids of a target vocabulary of 6 without special ones: unk and two words


def translator(**changes: Any) -> Translator:
    torch.manual_seed(3)
    settings = {"embedding_size": 8, "hidden_size": 12, "dropout": 0.0, "init_scale": 1.0} | changes
    return Translator(
        ModelConfig(**settings), NormConfig(), CellConfig(), Vocabulary(20, 6, False)
    ).eval()


def one(
    src: list[int], tgt: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a batch of one pair."""
    src = [*src, 3]
    return (
        torch.tensor([src]),
        torch.tensor([len(src)]),
        torch.tensor([tgt]),
        torch.tensor([len(tgt)]),
    )


def log_prob(model: Translator, src: list[int], tgt: list[int]) -> float:
    """Return the log-probability of target ids given source ids without eos."""
    return -float(model(*one(src, tgt))[1])


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_a_wide_beam_equals_exhaustive_search(feeding: bool, alpha: float) -> None:
    model, longest = translator(input_feeding=feeding), 3
    config = DecodeConfig(beam_size=60, length_penalty=alpha, max_length=str(longest))
    found = dict(search_in_batches(model, SENTENCES, config, n_best=5))
    for i, src in enumerate(SENTENCES):
        if not src:
            continue
        every = []
        for n in range(longest + 1):
            for ids in itertools.product(WORDS, repeat=n):
                tgt = [*ids, 3] if n < longest else list(ids)
                every.append((log_prob(model, src, tgt) / len(tgt) ** alpha, list(ids)))
        best = sorted(every, reverse=True)[:5]
        assert [h.ids for h in found[i]] == [ids for _, ids in best]
        assert [h.score for h in found[i]] == pytest.approx([score for score, _ in best], abs=1e-4)


def test_greedy_search_takes_the_most_likely_word_each_time() -> None:
    model = translator()
    found = dict(search_in_batches(model, SENTENCES, DecodeConfig(beam_size=1, max_length="6")))
    for i, src in enumerate(SENTENCES):
        ids: list[int] = []
        while src and len(ids) < 6:
            scores = {word: log_prob(model, src, [*ids, word]) for word in (*WORDS, 3)}
            word = max(scores, key=scores.__getitem__)
            if word == 3:
                break
            ids.append(word)
        assert found[i][0].ids == ids


def beam_search(
    model: Translator, src: list[int], config: DecodeConfig, longest: int, n_best: int
) -> list[tuple[float, list[int]]]:
    """Return score and ids of the n_best hypotheses of a beam search in plain Python, best first."""
    size, alpha = config.beam_size, config.length_penalty
    beam: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, longest + 1):
        ids = [[*before, word] for _, before in beam for word in (*WORDS, 3)]
        found = sorted(((log_prob(model, src, each), each) for each in ids), reverse=True)
        ended += [(s / length**alpha, each[:-1]) for s, each in found[:size] if each[-1] == 3]
        beam = [(s, each) for s, each in found if each[-1] != 3][:size]
        scores = sorted((s for s, _ in ended), reverse=True)
        unbeaten = scores[n_best - 1 :] and scores[n_best - 1] >= beam[0][0] / longest**alpha
        if len(ended) >= size or unbeaten:
            break
        if length == longest:
            ended += [(s / length**alpha, each) for s, each in beam]
    return sorted(ended, reverse=True)[:n_best]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize(("beam", "n_best"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_a_narrow_beam_returns_what_a_plain_search_finds(
    beam: int, n_best: int, alpha: float
) -> None:
    """What has not ended counts at the largest length alone."""
    model = translator()
    with torch.no_grad():
        model.output.bias[3] += 0.5  # more of the hypotheses end
    config = DecodeConfig(beam_size=beam, length_penalty=alpha, max_length="5")
    for i, found in search_in_batches(model, SENTENCES, config, n_best):
        if not SENTENCES[i]:
            continue
        expected = beam_search(model, SENTENCES[i], config, 5, n_best)
        assert [h.ids for h in found] == [ids for _, ids in expected]
        assert [h.score for h in found] == pytest.approx([s for s, _ in expected], abs=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("attention", [Attention.general, Attention.none])
def test_results_do_not_depend_on_batches(beam: int, attention: Attention) -> None:
    model = translator(attention=attention)
    config = DecodeConfig(beam_size=beam, max_length="1.5x+3")
    together = dict(search_in_batches(model, SENTENCES, config, n_best=beam))
    alone = dict(search_in_batches(model, SENTENCES, replace(config, batch_size=1), n_best=beam))
    for i in range(len(SENTENCES)):
        assert [h.ids for h in together[i]] == [h.ids for h in alone[i]]
        assert [h.score for h in together[i]] == pytest.approx(
            [h.score for h in alone[i]], abs=1e-5
        )


def test_attention_has_a_row_for_each_piece_and_sums_to_one() -> None:
    model = translator()
    for i, hypotheses in search_in_batches(
        model, SENTENCES, DecodeConfig(beam_size=3, max_length="4"), 2, True
    ):
        for h in hypotheses:
            if SENTENCES[i]:
                attention = present(h.attention)
                assert attention.size(0) in (len(h.ids), len(h.ids) + 1)
                torch.testing.assert_close(attention.sum(1), torch.ones(attention.size(0)))
                assert attention[:, len(SENTENCES[i]) + 1 :].abs().sum() == 0


def test_attention_equals_that_of_teacher_forcing() -> None:
    model = translator()
    ((_, [best, *_]),) = search_in_batches(
        model, [SENTENCES[1]], DecodeConfig(beam_size=4, max_length="7"), 1, True
    )
    expected = present(model.attention(*one(SENTENCES[1], [*best.ids, 3])))
    found = present(best.attention)
    torch.testing.assert_close(found, expected[0, : found.size(0)], rtol=1e-5, atol=1e-6)


def test_an_empty_sentence_has_the_empty_translation() -> None:
    ((_, [only]),) = search_in_batches(translator(), [[]], DecodeConfig())
    assert only.ids == []


def test_length_limits_are_parsed() -> None:
    assert length_limit("2.0x+10") == (2.0, 10)
    assert length_limit("3x") == (3.0, 0)
    assert length_limit("50") == (0.0, 50)
    for wrong in ("", "x+1x", "-3", "2.0x-1", "many"):
        with pytest.raises(ValueError, match="max_length"):
            length_limit(wrong)


def test_no_translation_is_longer_than_the_limit() -> None:
    model = translator()
    with torch.no_grad():
        model.output.bias[3] = -1e4  # eos has almost no probability
    for i, [h] in search_in_batches(model, SENTENCES, DecodeConfig(beam_size=2, max_length="2x+1")):
        assert len(h.ids) == (2 * len(SENTENCES[i]) + 1 if SENTENCES[i] else 0)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="beam_size=0"):
        DecodeConfig(beam_size=0)
    with pytest.raises(ValueError, match="n_best=3"):
        list(search_in_batches(translator(), [[5]], DecodeConfig(beam_size=2), n_best=3))
    with pytest.raises(ValueError, match="batch_size=0"):
        DecodeConfig(batch_size=0)


@pytest.mark.parametrize(
    ("bound", "most", "attends", "expected"),
    [
        ("MOST_PLACES", 100, False, [(1, 91), (2, 42), (2, 4)]),
        ("MOST_KEPT_WEIGHTS", 1200, True, [(1, 91), (2, 42), (2, 4)]),
        ("MOST_KEPT_WEIGHTS", 1200, False, [(5, 91)]),
    ],
)
def test_very_long_sentences_are_searched_for_apart(
    bound: str,
    most: int,
    attends: bool,
    expected: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their memory is not that of as many sentences as fit otherwise; the translations are the same."""
    model, config = translator(), DecodeConfig(beam_size=2, max_length="6")
    sentences = [[5, 6, 7], [4] * 90, [8], [9, 4] * 20, [], [7] * 41]
    whole = dict(search_in_batches(model, sentences, config, n_best=2))
    monkeypatch.setattr(search, bound, most)
    rooms = []
    empty = Memory.empty

    def counted(memory: Memory, capacity: int) -> Memory:
        rooms.append((capacity, memory.states.size(1)))
        return empty(memory, capacity)

    monkeypatch.setattr(Memory, "empty", counted)
    found = dict(search_in_batches(model, sentences, config, 2, return_attention=attends))
    assert rooms == expected
    assert found.keys() == whole.keys()
    for i, best in whole.items():
        assert [h.ids for h in found[i]] == [h.ids for h in best]
        assert [h.score for h in found[i]] == pytest.approx([h.score for h in best], abs=1e-4)


def test_no_more_memory_is_taken_than_there_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = []
    empty = Memory.empty

    def counted(memory: Memory, capacity: int) -> Memory:
        rooms.append(capacity)
        return empty(memory, capacity)

    monkeypatch.setattr(Memory, "empty", counted)
    assert len(list(search_in_batches(translator(), SENTENCES, DecodeConfig(beam_size=1)))) == 4
    assert rooms == [3]
