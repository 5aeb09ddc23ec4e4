import hashlib
import random
import unicodedata
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import SplitRule
from seq2seq.data.splitting import assign, sentence_key, split_by_components

RULE = SplitRule(salt="test:v1:", train_share=0.6, valid_share=0.2)


def oracle_key(sentence):
    text = unicodedata.normalize("NFKC", sentence).casefold()
    kept = ""
    for char in text:
        if unicodedata.category(char).startswith(("L", "M", "N")):
            kept += char
    return kept if kept else sentence.strip()


def oracle(pairs, rule):
    """Spread the smallest name along shared keys until nothing changes."""
    unique = []
    for pair in pairs:
        if pair not in unique:
            unique.append(pair)
    names = [oracle_key(pair[0 if rule.name_side == "source" else 1]) for pair in unique]
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(unique):
            for j, b in enumerate(unique):
                linked = oracle_key(a[0]) == oracle_key(b[0]) or oracle_key(a[1]) == oracle_key(
                    b[1]
                )
                if linked and names[j] < names[i]:
                    names[i], changed = names[j], True
    divided = {"train": [], "valid": [], "test": []}
    for pair, name in zip(unique, names, strict=True):
        h = int(hashlib.sha256((rule.salt + name).encode()).hexdigest()[:16], 16) / 2**64
        below_valid = h < rule.train_share + rule.valid_share
        divided["train" if h < rule.train_share else "valid" if below_valid else "test"].append(
            pair
        )
    return divided


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("seed", range(4))
def test_the_split_is_the_one_of_a_slow_reading_of_the_rule(seed, side):
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
def test_sentences_that_differ_in_case_spacing_or_punctuation_have_one_key(one, other):
    assert sentence_key(one) == sentence_key(other)


def test_the_two_directions_split_alike():
    pairs = [(f"w {i % 17}", f"字{i % 23}") for i in range(60)]
    back = split_by_components(
        [pair[::-1] for pair in pairs],
        SplitRule(salt=RULE.salt, train_share=0.6, valid_share=0.2, name_side="target"),
    )
    assert {
        name: [pair[::-1] for pair in part] for name, part in back.items()
    } == split_by_components(pairs, RULE)


def test_the_shares_are_kept():
    found = [assign(f"name {i}", RULE) for i in range(5000)]
    for name, share in (("train", 0.6), ("valid", 0.2), ("test", 0.2)):
        assert found.count(name) / 5000 == pytest.approx(share, abs=0.03)


SENTENCES = st.text("aAbß. !字１", max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SENTENCES, SENTENCES), max_size=25), st.randoms(use_true_random=False))
def test_no_sentence_is_in_two_splits_in_whatever_order_pairs_come(pairs, rng):
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
