"""A word that is not among the names: all of a few, the nearest ones of many."""

from seq2seq.app.overrides import choices
from seq2seq.config.choices import expected_one_of
from seq2seq.config.languages import BLEU_TOKENIZERS

MANY = [f"corpus_{first}{second}" for first in "abcdef" for second in "ghijkl"]


def test_few_names_are_all_listed() -> None:
    assert expected_one_of("c", ["a", "b"], "--help lists") == "expected one of a, b"
    found = expected_one_of("lyer", ["none", "layer"], "--help lists")
    assert found == "expected one of none, layer; did you mean layer?"


def test_of_many_names_the_nearest_three_are_given_after_the_question() -> None:
    found = expected_one_of("corpus_bk2", MANY, "--help lists")
    assert found.startswith("did you mean corpus_bk? expected corpus_bk, corpus_")
    assert found.endswith(" or another of the 36 that --help lists")
    assert found.count("corpus_") == 4


def test_nothing_is_asked_where_no_name_is_near() -> None:
    found = expected_one_of("8", MANY, "--help lists")
    assert found.startswith("expected corpus_")
    assert found.count("corpus_") == 3


def test_a_very_long_word_is_compared_at_once() -> None:
    assert "did you mean" not in expected_one_of("x" * 10_000_000, MANY, "--help lists")


def test_every_choice_of_this_program_is_short() -> None:
    for known in (choices("data"), choices("experiment"), choices("norm"), BLEU_TOKENIZERS):
        assert len(expected_one_of(known[0] + "x", known, "--help lists")) < 160
