"""Sentences drawn from a grammar: sizes, seeds, and one translation for each sentence."""

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from grammar_files import GRAMMAR_FILE, SMALL, write

from seq2seq.config import GrammarSplit
from seq2seq.data.grammar import Grammar, Pair, generate_splits, load_grammar
from seq2seq.data.grammar.rules import Alternative

pytest_plugins = ["grammar_fixtures"]


def words(text: str) -> int:
    return len(text.split())


# ------------------------------------------------------------------------------------ the sampler


def test_splits_have_the_sizes_and_lengths_asked_for(
    splits: dict[str, list[Pair]], sizes: dict[str, GrammarSplit]
) -> None:
    for name, size in sizes.items():
        assert len(splits[name]) == size.count
        assert all(size.min_words <= words(pair.source) <= size.max_words for pair in splits[name])


def test_no_source_occurs_twice(splits: dict[str, list[Pair]]) -> None:
    sources = [pair.source for pairs in splits.values() for pair in pairs]
    assert len(set(sources)) == len(sources)


def test_lengths_are_spread_evenly(splits: dict[str, list[Pair]]) -> None:
    lengths = Counter(words(pair.source) for pair in splits["train"])
    assert 10 <= sum(n * count for n, count in lengths.items()) / 3000 <= 12
    assert all(lengths[n] >= 3000 * 0.02 for n in range(4, 21)), sorted(lengths.items())
    long = Counter(words(pair.source) // 10 for pair in splits["test_long"])
    assert all(long[tens] >= 200 * 0.15 for tens in range(2, 6)), sorted(long.items())


def test_only_the_seed_determines_the_sentences(grammar: Grammar) -> None:
    sizes = {"train": GrammarSplit(300, 1, 20)}
    first = generate_splits(grammar, sizes, seed=7)
    assert generate_splits(load_grammar(GRAMMAR_FILE), sizes, seed=7) == first
    assert generate_splits(grammar, sizes, seed=8) != first


def test_earlier_sampling_changes_nothing(grammar: Grammar) -> None:
    pairs = [load_grammar(GRAMMAR_FILE).sample(random.Random(3), 20) for _ in range(2)]
    assert pairs[0] == pairs[1] == grammar.sample(random.Random(3), 20)


def test_sampling_is_fast_enough(grammar: Grammar) -> None:
    start = time.process_time()
    generate_splits(
        grammar, {"train": GrammarSplit(2000, 1, 20), "long": GrammarSplit(100, 21, 60)}, seed=2
    )
    assert (
        time.process_time() - start < 3
    )  # the whole corpus is ten times as large, and should take less than 15 s


def test_impossible_sizes_are_refused(grammar: Grammar, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="min_words 9, max_words 4"):
        grammar.sample(random.Random(1), max_words=4, min_words=9)
    small = write(tmp_path, SMALL.replace("high=99", "high=3"))
    with pytest.raises(ValueError, match="split 'train': 50 different sentences"):
        generate_splits(load_grammar(small), {"train": GrammarSplit(50, 1, 20)}, seed=1)


# ------------------------------------------------------------------------- one right translation


def test_a_sentence_has_one_translation(grammar: Grammar) -> None:
    rng = random.Random(11)
    assert_is_function(grammar.sample(rng, 9) for _ in range(12_000))


def test_a_sentence_has_one_translation_with_few_words(grammar: Grammar) -> None:
    """With one word for each set of features, an ambiguous structure soon gives two translations."""
    rng = random.Random(12)
    for _ in range(2):
        thin = thinned(grammar, rng)
        assert_is_function(thin.sample(rng, 12) for _ in range(8_000))


def test_the_thinned_grammar_finds_an_ambiguity(tmp_path: Path) -> None:
    """The two tests above can fail: 'the sheep' is singular or plural, with two translations."""
    text = GRAMMAR_FILE.read_text(encoding="utf-8").replace("goat     +s", "sheep sheep")
    ambiguous = thinned(load_grammar(write(tmp_path, text)), random.Random(1), keep="sheep")
    rng = random.Random(1)
    with pytest.raises(AssertionError, match="sheep"):
        assert_is_function(ambiguous.sample(rng, 6) for _ in range(30_000))


def thinned(grammar: Grammar, rng: random.Random, keep: str = "") -> Grammar:
    """Keep all rules, and one entry of each table for each set of features."""
    rules = [a for a in grammar.alternatives if a.children]
    entries: dict[str, list[Alternative]] = {}
    for a in grammar.alternatives:
        if not a.children:
            entries.setdefault(a.category + features_text(a), []).append(a)
    chosen = [
        next((a for a in same if (keep,) in a.outputs.values()), rng.choice(same))
        for same in entries.values()
    ]
    return replace(grammar, alternatives=(*rules, *chosen))


def features_text(a: Alternative) -> str:
    """Return an entry's features as text, the same for the same features."""
    return str(
        sorted(
            (name, sorted(values))
            for name, values in a.features.items()
            if isinstance(values, frozenset)
        )
    )


def assert_is_function(pairs: Iterable[Pair]) -> None:
    seen: dict[str, str] = {}
    for pair in pairs:
        assert seen.setdefault(pair.source, pair.target) == pair.target, pair.source


def test_words_have_one_translation_for_the_same_features(grammar: Grammar) -> None:
    seen: dict[str, Alternative] = {}
    for a in grammar.alternatives:
        if a.children or "zh" not in a.outputs:
            continue
        first = next(iter(a.outputs.values()))
        other = seen.setdefault(f"{a.category} {first} {features_text(a)}", a)
        assert other.outputs["zh"] == a.outputs["zh"], f"{GRAMMAR_FILE}:{a.line}"
