"""The format of grammar files."""

import random
import re
from pathlib import Path

import pytest
from grammar_files import SMALL, write

from seq2seq.data.grammar import Pair, load_grammar


def test_a_small_grammar(tmp_path: Path) -> None:
    small = load_grammar(write(tmp_path, SMALL.replace("low=2 high=99", "low=2 high=2")))
    rng = random.Random(1)
    assert {small.sample(rng) for _ in range(20)} == {
        Pair("Two books .", "两本书。"),
        Pair("Two letters .", "两封信。"),
    }


def test_forbidden_sentences_are_drawn_again(tmp_path: Path) -> None:
    text = SMALL.replace("low=2 high=99", "low=2 high=2").replace(
        "words Noun", 'forbid zh "信"\nwords Noun'
    )
    small = load_grammar(write(tmp_path, text))
    rng = random.Random(1)
    assert {small.sample(rng) for _ in range(20)} == {Pair("Two books .", "两本书。")}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("start S", "begin S", 1, "'begin S': expected start, side"),
        ("start S", "  start S", 1, "'start': expected a rule or a word table above"),
        ("side zh unspaced", "side zh narrow", 3, "'side zh narrow': expected"),
        ("side zh unspaced", 'rewrite en "(" => "x"', 3, "expected a regular expression"),
        ("side zh unspaced", 'forbid en "("', 3, "expected a regular expression"),
        (
            "  letter +s 信 封",
            "  letter +s 信",
            6,
            "'letter +s 信': expected 4 columns (sg pl zh mw)",
        ),
        (
            "  letter +s 信 封",
            "  book +s 书 本",
            6,
            "Noun: expected each entry once, line 5 has the same",
        ),
        ("  letter +s 信 封", "  letter +s 信 封 weight=two", 6, "'two': expected a number"),
        ("class=book\n  book", "class=\n  book", 4, "'class=': expected feature=value"),
        ("N=Noun(", "N=Nuon(", 7, "'Nuon': expected a category"),
        (
            "N=Noun(class=book)",
            "N=Noun(class=book",
            8,
            "expected 'with Name=Category(feature=value ...) ...'",
        ),
        ("N=Noun(class", "N=Noun(clas", 7, "'clas': expected a feature that Noun has"),
        ("N.mw", "N.measure", 7, "N.measure: expected an output of Noun (mw pl sg zh)"),
        ("N.mw", "M.mw", 10, "'M.mw': expected the name of a child"),
        ("N.mw", "N.$m", 7, "$m: expected a variable"),
        ("  en Q", "  zh Q", 10, "'zh': expected each output once"),
        ("low=2 high=99", "low=2", 7, "Q: expected number(low=NUMBER high=NUMBER)"),
        ("low=2", "low=two", 7, "low=two: expected a whole number"),
        ("start S", "start T", 10, "start 'T': expected a category that gives en and zh"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_grammar(path)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "grammar.txt"
    path.write_bytes(b"start S\nside \xff")
    with pytest.raises(
        ValueError, match=r"grammar.txt:2: invalid UTF-8 at byte 6 \(0xff\); expected UTF-8"
    ):
        load_grammar(path)
