"""The format of grammar files."""

import random
import re
from pathlib import Path

import pytest
from corpus_files import config_of
from grammar_files import SMALL, write

from seq2seq.config import GrammarSplit
from seq2seq.data.corpora import locate
from seq2seq.data.grammar import Pair, load_grammar
from seq2seq.errors import DataError


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
        ("side zh unspaced", "start Noun", 3, "'start Noun': expected start"),
        (
            "spaced capital",
            "spaced capitals",
            2,
            "expected 'side NAME spaced' or unspaced, and maybe",
        ),
        ("side zh unspaced", "side en unspaced", 3, "side 'en': expected each side once"),
        ("side zh unspaced", "side", 3, "'side': expected 'side NAME spaced'"),
        (
            "side zh unspaced",
            "rewrite en a => b => c",
            3,
            "'a => b => c': expected PATTERN => TEXT",
        ),
        ("side zh unspaced", "rewrite en => x", 3, "'=> x': expected PATTERN => TEXT"),
        ("side zh unspaced", "rewrite en a b", 3, "'a b': expected PATTERN => TEXT"),
        (
            "side zh unspaced",
            r"rewrite en (a) => \2",
            3,
            r"'\\2': expected text with groups of its",
        ),
        ("side zh unspaced", r"rewrite en (a) => \g<x>", 3, "expected text with groups of its"),
        ("words Noun", "set a b\nset a c\nwords Noun", 5, "'set a c': expected start"),
        ("sg pl zh mw", "sg pl zh zh", 4, "'zh': expected each column once"),
        (
            "class=book\n  book",
            "class=book class=a\n  book",
            4,
            "'class': expected each feature once",
        ),
        ("N=Noun(", "Q=Noun(", 8, "'Q': expected each part once"),
        (
            "words Noun",
            "words number",
            4,
            "'number': expected another name than that of a built-in",
        ),
        ("rule S", "rule S weight=1|5", 7, "'1|5': expected a number"),
        ("rule S", "rule S weight=$w", 7, "'$w': expected a number"),
        ("rule S", "rule S grow=1.5", 7, "'1.5': expected a whole number"),
        (
            "rule S",
            "rule S\n  with N=S\n  en N\n  zh N\nrule T",
            7,
            "S: expected a rule or entry w",
        ),
        (
            "N=Noun(class=book)",
            "N=number(low=1 high=2)",
            7,
            "N.pl: expected an output of number (en zh)",
        ),
        ("low=2", "low=0", 7, "Q: low=0 high=99: expected 1 <= low <= high <= 99999"),
        ("low=2", "low=100", 7, "Q: low=100 high=99: expected 1 <= low <= high <= 99999"),
        ("high=99", "high=100000", 7, "Q: low=2 high=100000: expected 1 <= low"),
        ("number(low=2 high=99", "clock(low=2 high=9", 7, "expected 5 <= low <= high <= 23"),
        ("number(low=2 high=99", "date(low=2 high=1", 7, "expected 0 <= low <= high <= 99999"),
        ("low=2", "low=2|3", 7, "low=2|3: expected a whole number"),
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


def test_sides_in_languages_without_numbers(tmp_path: Path) -> None:
    text = re.sub(r"\bzh\b", "de", SMALL)
    with pytest.raises(ValueError, match=r":7: Q\.de: expected an output of number \(en zh\)"):
        load_grammar(write(tmp_path, text))


def test_a_date_without_a_year_has_any_low_bound(tmp_path: Path) -> None:
    small = load_grammar(
        write(tmp_path, SMALL.replace("number(low=2 high=99", "date(low=9 high=0"))
    )
    assert "号本书" in small.sample(random.Random(1)).target.replace("封信", "本书")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  zh Q N.mw N", "  zh Q N.$c N", "line 7: N.xx: expected an output of N (sg pl zh mw)"),
        ("  zh Q N.mw N", "  zh Q $d N", "line 7: $d: expected one value to write, got []"),
        (
            "  zh Q N.mw N",
            "  zh Q N\nrule S weight=9\n  with A=S B=S\n  en A B\n  zh A B",
            "line 11: repeats itself",
        ),
    ],
)
def test_mistakes_that_only_drawing_finds(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SMALL.replace("rule S", "rule S c=$c:xx d=$d").replace(old, new, 1)
    file = write(tmp_path, text)
    config = config_of("grammar_en_zh", f"data.root={tmp_path}", f"data.grammar={file}")
    config.grammar_splits = {"train": GrammarSplit(50, 1, 9)}
    with pytest.raises(DataError, match=re.escape(f"{file}: {message}")):
        locate(config, "train")


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "grammar.txt"
    path.write_bytes(b"start S\nside \xff")
    with pytest.raises(
        ValueError, match=r"grammar.txt:2: invalid UTF-8 at byte 6 \(0xff\); expected UTF-8"
    ):
        load_grammar(path)
