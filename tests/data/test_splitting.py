"""One file of pairs is divided so that no sentence is in two splits."""

import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting_oracle import RULE, oracle

from seq2seq.config import SplitRule
from seq2seq.data.splitting import assign, sentence_key, split_by_components


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("seed", range(4))
def test_the_split_equals_that_of_a_slow_implementation(seed: int, side: str) -> None:
    chance = random.Random(seed)
    en = [
        f"{chance.choice(['The', 'the', 'THE'])} word{i}{chance.choice(['', '.', ' !'])}"
        for i in range(30)
    ]
    zh = [f"字{i}{chance.choice(['', '。', '！'])}" for i in range(40)]
    en, zh = [*en, "?!", "…"], [*zh, "１２", "12", "。"]
    pairs = [(chance.choice(en), chance.choice(zh)) for _ in range(45)]
    pairs += chance.sample(pairs, 5)
    rule = SplitRule(salt=RULE.salt, train_share=0.6, valid_share=0.2, name_side=side)
    divided = split_by_components(pairs, rule)
    assert divided == oracle(pairs, rule)
    for i in (0, 1):
        keys = [{sentence_key(pair[i]) for pair in part} for part in divided.values()]
        assert not keys[0] & keys[1]
        assert not keys[0] & keys[2]
        assert not keys[1] & keys[2]


@pytest.mark.parametrize(
    ("one", "other"), [("Straße?", "STRASSE"), ("１２ ﬁne", "12 fine!"), ("re-do", "redo")]
)
def test_sentences_that_differ_in_case_spacing_or_punctuation_have_one_key(
    one: str, other: str
) -> None:
    assert sentence_key(one) == sentence_key(other)


def test_marks_of_vowels_tell_sentences_apart() -> None:
    assert sentence_key("किताब!") == "किताब"
    assert sentence_key("की") != sentence_key("का")


def test_both_directions_split_the_same_way() -> None:
    pairs = [(f"w {i % 17}", f"字{i % 23}") for i in range(60)]
    back = split_by_components(
        [pair[::-1] for pair in pairs],
        SplitRule(salt=RULE.salt, train_share=0.6, valid_share=0.2, name_side="target"),
    )
    assert {
        name: [pair[::-1] for pair in part] for name, part in back.items()
    } == split_by_components(pairs, RULE)


def test_train_and_valid_leave_a_rest_for_test() -> None:
    with pytest.raises(ValueError, match=r"valid_share=0\.5: expected less than 0\.5"):
        SplitRule(train_share=0.5, valid_share=0.5)
    assert SplitRule(train_share=0.5, valid_share=0.25).valid_share == 0.25


def test_the_splits_have_their_shares() -> None:
    found = [assign(f"name {i}", RULE) for i in range(5000)]
    for name, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        assert found.count(name) / 5000 == pytest.approx(share, abs=0.03)


SENTENCES = st.text("aAbß. !字１", max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SENTENCES, SENTENCES), max_size=25), st.randoms(use_true_random=False))
def test_no_sentence_is_in_two_splits_for_any_order_of_pairs(
    pairs: list[tuple[str, str]], rng: random.Random
) -> None:
    divided = split_by_components(pairs, RULE)
    assert [pair for pair in dict.fromkeys(pairs) if pair in divided["test"]] == divided["test"]
    assert sorted(chain.from_iterable(divided.values())) == sorted(set(pairs))
    for side in (0, 1):
        keys = [{sentence_key(pair[side]) for pair in part} for part in divided.values()]
        assert len(set().union(*keys)) == sum(map(len, keys))
    shuffled = rng.sample(pairs, len(pairs))
    again = split_by_components(shuffled, RULE)
    assert {name: set(part) for name, part in again.items()} == {
        name: set(part) for name, part in divided.items()
    }
