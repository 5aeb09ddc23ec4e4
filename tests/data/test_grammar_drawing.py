"""What is drawn: lengths, features that are bound, numbers, dates and times."""

import math
import random
from pathlib import Path

import pytest
from grammar_files import SMALL, write

from seq2seq.data.grammar import Grammar, drawing, load_grammar
from seq2seq.data.grammar.numerals import (
    GENERATORS,
    chinese_number,
    chinese_year,
    clock,
    english_number,
)

LIMITED = """\
start S
side en spaced
side zh unspaced
words Noun en zh
  dog 狗 n=sg
  dogs 狗 n=pl
  sheep 羊 n=sg|pl
words Verb en zh
  runs 跑 n=sg
  run 跑 n=pl
rule S
  with N=Noun(n=$n:sg) V=Verb(n=$n)
  en N V $n
  zh N V
"""


def small(folder: Path, text: str = SMALL) -> Grammar:
    return load_grammar(write(folder, text))


def test_a_sentence_may_have_the_least_and_the_most_words(tmp_path: Path) -> None:
    grammar = small(tmp_path, SMALL.replace("low=2 high=99", "low=2 high=20"))
    for words in (1, 2, 4):  # these sentences have three
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drawing, "MOST_ATTEMPTS", 5)
            with pytest.raises(ValueError, match=f"no sentence of {words} to {words} words in 5"):
                grammar.sample(random.Random(1), words, words)
    assert len(grammar.sample(random.Random(1), 3, 3).source.split()) == 3


def test_without_a_limit_a_sentence_has_up_to_20_words_more_than_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_ATTEMPTS", 5)
    with pytest.raises(ValueError, match="no sentence of 7 to 27 words in 5 draws"):
        small(tmp_path).sample(random.Random(1), min_words=7)


def test_a_variables_limit_holds_where_a_word_has_more_values(tmp_path: Path) -> None:
    grammar = small(tmp_path, LIMITED)
    rng = random.Random(1)
    assert {grammar.sample(rng).source for _ in range(40)} == {"dog runs sg", "sheep runs sg"}


def test_a_variable_of_two_features_has_what_both_allow(tmp_path: Path) -> None:
    nouns = LIMITED.replace("n=sg|pl\n", "n=sg|pl few=sg\n")
    for features in ("n=$n few=$n", "few=$n n=$n"):
        grammar = small(tmp_path, nouns.replace("n=$n:sg", features))
        rng = random.Random(1)
        sentences = {grammar.sample(rng).source for _ in range(40)}
        assert sentences == {"dog runs sg", "dogs run pl", "sheep runs sg"}


def test_the_weight_of_a_table_multiplies_those_of_its_entries(tmp_path: Path) -> None:
    heavy = SMALL.replace("class=book\n", "class=book weight=3\n").replace(
        "书 本", "书 本 weight=2"
    )
    weights = {a.line: a.weight for a in small(tmp_path, heavy).alternatives}
    assert weights == {5: 6, 6: 3, 7: 1}


# -- numbers, dates and times ---


def drawn(name: str, low: int, high: int, count: int = 4000) -> list[dict[str, str]]:
    rng = random.Random(1)
    return [GENERATORS[name](rng, low, high) for _ in range(count)]


def numbers(low: int, high: int) -> list[int]:
    """Return the values of numbers that were drawn."""
    values = {english_number(n): n for n in range(low, high + 1)}
    return [values[forms["en"]] for forms in drawn("number", low, high)]


@pytest.mark.parametrize(("low", "high"), [(2, 9), (7, 7), (19, 23), (98, 102)])
def test_every_number_between_the_bounds_is_drawn(low: int, high: int) -> None:
    assert set(numbers(low, high)) == set(range(low, high + 1))


def test_no_rounding_goes_beyond_the_largest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random.Random, "uniform", lambda _, low, high: high)
    monkeypatch.setattr(random.Random, "random", lambda _: 0.9)
    for high in range(1, 100):
        assert drawn("number", 1, high, 1)[0]["en"] in map(english_number, (high - 1, high))


def test_numbers_are_even_on_a_logarithmic_scale() -> None:
    found = numbers(1, 9999)
    for digits in range(1, 5):
        assert 0.22 < sum(len(str(n)) == digits for n in found) / len(found) < 0.28


def test_a_quarter_of_the_digits_but_the_first_become_zero() -> None:
    found = [str(n) for n in numbers(1000, 9999)]
    for place in (1, 2, 3):
        zeros = sum(n[place] == "0" for n in found) / len(found)
        assert zeros == pytest.approx(0.25 + 0.75 * 0.1, abs=0.04)


def test_the_least_number_is_drawn_or_comes_of_a_digit_that_becomes_zero() -> None:
    direct = math.log(21 / 20) / math.log(24 / 20)
    share = numbers(20, 23).count(20) / 4000
    assert share == pytest.approx(direct + 0.25 * (1 - direct), abs=0.04)


def test_a_number_is_that_of_things() -> None:
    forms = {"en": "two", "zh": chinese_number(2, before_measure=True)}
    assert drawn("number", 2, 2, 1) == [forms]


def test_every_day_of_the_year_is_drawn() -> None:
    days = {form["en"] for form in drawn("date", 0, 0, 8000)}
    assert len(days) == 365
    assert {"January 31", "February 28", "December 31"} <= days
    assert "February 29" not in days
    years = {form["en"].partition(", ")[2] for form in drawn("date", 0, 3)}
    assert years == {"0", "1", "2", "3"}


def test_every_year_between_the_bounds_is_drawn() -> None:
    years = [{"en": str(year), "zh": chinese_year(year)} for year in (1998, 1999, 2000)]
    found = drawn("year", 1998, 2000)
    assert all(year in found for year in years)
    assert all(form in years for form in found)


def test_every_time_between_the_bounds_is_drawn() -> None:
    times = {clock(h, m)["zh"] for h in (10, 11, 12) for m in range(0, 60, 5)}
    assert {form["zh"] for form in drawn("clock", 10, 12)} == times
