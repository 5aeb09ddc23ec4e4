"""Options of the search, compared with plain Python that enumerates every translation."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch

from seq2seq.config import CellConfig, DecodeConfig, ModelConfig, Sampling
from seq2seq.config.decode import LARGEST_EXTRA, LARGEST_FACTOR
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import NormConfig
from seq2seq.translation.constraints import forbid_repeats
from seq2seq.translation.history import Hypothesis
from seq2seq.translation.search import search_in_batches

SENTENCES = [[5, 6, 7], [4, 4, 9, 10, 11], [8]]
WORDS = (1, 4, 5)  # the target's ids without special ones: unk and two words
END = 3


@pytest.fixture(scope="module")
def model() -> Translator:
    torch.manual_seed(3)
    config = ModelConfig(embedding_size=8, hidden_size=12, dropout=0.0, init_scale=1.0)
    return Translator(config, NormConfig(), CellConfig(), Vocabulary(20, 6, False)).eval()


def log_prob(model: Translator, src: Sequence[int], tgt: Sequence[int]) -> float:
    """Return the log-probability of target ids given source ids without the end."""
    return computed_log_prob(model, tuple(src), tuple(tgt))


@cache
def computed_log_prob(model: Translator, src: tuple[int, ...], tgt: tuple[int, ...]) -> float:
    ids = [*src, END]
    batch = ([ids], [len(ids)], [list(tgt)], [len(tgt)])
    return -float(model(*(torch.tensor(part) for part in batch))[1])


def has_repeat(ids: Sequence[int], n: int) -> bool:
    """Return whether n pieces in a row occur twice."""
    found = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return n > 0 and len(set(found)) < len(found)


def allowed(longest: int, shortest: int, n: int) -> Iterator[tuple[list[int], bool]]:
    """Yield every translation that the rules allow, and whether it has ended.

    One that no word may continue may end before its shortest length.
    """
    for length in range(longest + 1):
        for ids in itertools.product(WORDS, repeat=length):
            stuck = all(has_repeat([*ids, word], n) for word in WORDS)
            if has_repeat(ids, n) or (length < shortest and not stuck):
                continue
            yield list(ids), length < longest


def search(
    model: Translator, config: DecodeConfig, n_best: int = 1, draw: Sampling | None = None
) -> list[list[Hypothesis]]:
    found = dict(search_in_batches(model, SENTENCES, config, n_best, sampling=draw))
    return [found[i] for i in range(len(SENTENCES))]


# -- rules ---


@pytest.mark.parametrize(
    ("shortest", "n"), [(0, 0), (2, 0), (4, 0), (0, 1), (0, 2), (3, 1), (4, 1), (3, 2), (2, 3)]
)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_a_wide_beam_finds_the_best_allowed_translations(
    model: Translator, shortest: int, n: int, alpha: float, together: int
) -> None:
    """Where two sentences are translated together, the third one joins them later."""
    config = DecodeConfig(
        beam_size=130,
        batch_size=together,
        length_penalty=alpha,
        max_length="4",
        min_length=shortest,
        no_repeat_ngram=n,
    )
    for src, found in zip(SENTENCES, search(model, config, 5), strict=True):
        every = []
        for ids, ended in allowed(4, shortest, n):
            tgt = [*ids, *[END] * ended]
            every.append((log_prob(model, src, tgt) / len(tgt) ** alpha, ids, ended))
        best = sorted(every, reverse=True)[:5]
        assert [(h.ids, h.ended) for h in found] == [(ids, ended) for _, ids, ended in best]
        assert [h.score for h in found] == pytest.approx([score for score, *_ in best], abs=1e-4)


@pytest.mark.parametrize(("shortest", "n"), [(0, 0), (5, 0), (0, 1), (6, 2), (5, 1)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_search_obeys_the_rules_at_each_step(
    model: Translator, shortest: int, n: int, batch_size: int
) -> None:
    config = DecodeConfig(
        1, max_length="7", min_length=shortest, no_repeat_ngram=n, batch_size=batch_size
    )
    for src, (found,) in zip(SENTENCES, search(model, config), strict=True):
        ids: list[int] = []
        while len(ids) < 7:
            words = [word for word in WORDS if not has_repeat([*ids, word], n)]
            if len(ids) >= shortest or not words:
                words.append(END)
            word = max(words, key=lambda word: log_prob(model, src, [*ids, word]))
            if word == END:
                break
            ids.append(word)
        assert found.ids == ids
        assert found.ended == (len(ids) < 7)


@pytest.mark.parametrize(("n", "forbidden"), [(1, [[4], [4, 5]]), (2, [[], [5]])])
def test_nothing_before_the_first_word_is_a_repetition(n: int, forbidden: list[list[int]]) -> None:
    """As of a sentence that joined a search under way; ids of -1 stand before its words."""
    logits = torch.zeros(2, 6)
    forbid_repeats(logits, torch.tensor([[-1, -1, 4], [4, 5, 4]]), n)
    assert [row.isneginf().nonzero().flatten().tolist() for row in logits] == forbidden


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_rules_without_effect_change_no_bit(model: Translator, beam: int) -> None:
    plain = DecodeConfig(beam, max_length="6")
    ruled = replace(plain, no_repeat_ngram=7)
    assert search(model, plain, beam) == search(model, ruled, beam)


def test_the_shortest_length_also_holds_for_short_sources(model: Translator) -> None:
    for (found,) in search(model, DecodeConfig(2, max_length="1x", min_length=6)):
        assert len(found.ids) >= 6


@pytest.mark.parametrize("limit", [f"{LARGEST_EXTRA}", f"{LARGEST_FACTOR}x+{LARGEST_EXTRA}"])
def test_no_limit_that_is_accepted_is_too_large(model: Translator, limit: str) -> None:
    config = DecodeConfig(1, min_length=8, no_repeat_ngram=3)
    assert search(model, config) == search(model, replace(config, max_length=limit))


# -- drawing ---


def probabilities(
    model: Translator, src: Sequence[int], longest: int, draw: Sampling
) -> dict[tuple[int, ...], float]:
    """Return the probability of drawing each translation, by multiplying over its pieces."""
    found: dict[tuple[int, ...], float] = {}

    def extend(ids: tuple[int, ...], probability: float) -> None:
        if len(ids) == longest:
            found[ids] = probability
            return
        logs = {word: log_prob(model, src, [*ids, word]) for word in (*WORDS, END)}
        likely = sorted(logs, key=logs.__getitem__)[-draw.top_k :]
        masses = {word: math.exp(logs[word] / draw.temperature) for word in likely}
        for word, mass in masses.items():
            next_probability = probability * mass / sum(masses.values())
            if word == END:
                found[ids] = next_probability
            else:
                extend((*ids, word), next_probability)

    extend((), 1.0)
    return found


@pytest.mark.parametrize(
    "draw", [Sampling(), Sampling(0.5), Sampling(2.0, seed=5), Sampling(top_k=2), Sampling(3, 3)]
)
def test_translations_are_drawn_with_their_probability(model: Translator, draw: Sampling) -> None:
    count, config = 3000, DecodeConfig(max_length="2")
    for src, found in zip(SENTENCES, search(model, config, count, draw), strict=True):
        drawn = Counter(tuple(h.ids) for h in found)
        expected = probabilities(model, src, 2, draw)
        assert drawn.keys() <= expected.keys()
        for ids, p in expected.items():
            sigma = math.sqrt(count * p * (1 - p))
            assert abs(drawn[ids] - count * p) < 4.5 * sigma + 1


def test_a_drawn_translation_has_the_models_log_probability(model: Translator) -> None:
    draw = Sampling(temperature=1.5, top_k=3)
    for src, found in zip(
        SENTENCES, search(model, DecodeConfig(max_length="5"), 4, draw), strict=True
    ):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            tgt = [*h.ids, *[END] * h.ended]
            assert h.log_prob == pytest.approx(log_prob(model, src, tgt), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_draws_do_not_depend_on_batches(model: Translator, batch_size: int) -> None:
    config = DecodeConfig(max_length="3x+4")
    together = search(model, config, 6, Sampling(seed=2))
    alone = search(model, replace(config, batch_size=batch_size), 6, Sampling(seed=2))
    assert [[h.ids for h in one] for one in together] == [[h.ids for h in one] for one in alone]


def test_draws_depend_on_seed_line_and_number_alone(model: Translator) -> None:
    config = DecodeConfig(max_length="12")

    def texts(seed: int, first: int = 0, count: int = 1, copies: int = 6) -> list[set[str]]:
        found = dict(
            search_in_batches(
                model, [SENTENCES[0]] * copies, config, count, False, Sampling(seed=seed), first
            )
        )
        return [{str(h.ids) for h in found[i]} for i in range(copies)]

    assert texts(1) == texts(1) != texts(2)
    assert len(set(map(str, texts(1)))) > 1  # equal lines are drawn independently
    assert texts(1, first=2)[:4] == texts(1)[2:]
    assert all(one <= four for one, four in zip(texts(1), texts(1, count=4), strict=True))


@pytest.mark.parametrize("temperature", [1e-9, 1e-320])
def test_a_cold_draw_is_greedy(model: Translator, temperature: float) -> None:
    config = DecodeConfig(1, max_length="6")
    drawn = search(model, config, 3, Sampling(temperature))
    for (greedy,), found in zip(search(model, config), drawn, strict=True):
        assert {str(h.ids) for h in found} == {str(greedy.ids)}


def test_a_hot_draw_is_uniform_over_what_is_allowed(model: Translator) -> None:
    config = DecodeConfig(max_length="1")
    for found in search(model, config, 4000, Sampling(1e300)):
        counts = Counter(tuple(h.ids) for h in found)
        assert counts.keys() == {(), *((word,) for word in WORDS)}
        assert max(counts.values()) - min(counts.values()) < 200


def test_draws_obey_the_rules(model: Translator) -> None:
    config = DecodeConfig(max_length="8", min_length=3, no_repeat_ngram=2)
    for found in search(model, config, 50, Sampling(temperature=2.0)):
        assert not any(has_repeat(h.ids, 2) for h in found)
        assert all(len(h.ids) >= 3 for h in found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: expected more than 0"),
        ({"temperature": math.inf}, "temperature=inf: expected more than 0"),
        ({"top_k": -1}, "top_k=-1: expected at least 0"),
        ({"seed": -1}, "seed=-1: expected at least 0"),
    ],
)
def test_sampling_out_of_range_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_length": -1}, "decode.min_length=-1: expected at least 0"),
        ({"no_repeat_ngram": -2}, "decode.no_repeat_ngram=-2: expected at least 0"),
        ({"min_length": 9, "max_length": "8"}, "decode.min_length=9: expected at most .*=8"),
    ],
)
def test_rules_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodeConfig(**wrong)  # type: ignore[arg-type]
