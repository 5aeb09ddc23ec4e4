"""The counts of scripts/data_report.py: each of its own side, split and rule."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_files import write
from rich.console import Console
from rich.table import Table

from seq2seq.app.data_report import length_table, pairs_table
from seq2seq.config import (
    CleaningConfig,
    DataConfig,
    NormalForm,
    NormalizationConfig,
    SplitConfig,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.data_report.advice import advice
from seq2seq.data_report.survey import Overlap, Side, Split, Survey

Pairs = Sequence[tuple[str, str]]


def surveyed(
    tmp_path: Path,
    train: Pairs,
    valid: Pairs = (("x", "x"),),
    tokenizers: Sequence[Tokenizer] | None = None,
    **settings: object,
) -> list[Split]:
    """Return the survey of train and valid, English and German unless settings say otherwise."""
    data = DataConfig(name="mine", source_language="en", target_language="de")
    data = replace(data, **settings)  # type: ignore[arg-type]
    for name, pairs in (("train", train), ("valid", valid)):
        text = "".join(f"{src}\t{tgt}\n" for src, tgt in pairs)
        setattr(data, name, SplitConfig(str(write(tmp_path / name, text))))
    return Survey(data, tokenizers, lambda text: None).splits


# -- counts ---


def test_lengths_are_in_words_or_in_characters_without_spaces(tmp_path: Path) -> None:
    pairs = [(" ".join(["word"] * n), "一" * (10 * n)) for n in (4, 1, 3, 2)]
    train = surveyed(tmp_path, pairs, target_language="zh")[0]
    assert (train.source.unit, train.target.unit) == ("words", "characters")
    shown = ("0", "50", "95", "100")
    assert [train.source.words[p] for p in shown] == [1, 3, 4, 4]
    assert [train.target.words[p] for p in shown] == [10, 30, 40, 40]


def test_outliers_are_far_from_the_usual_ratio_in_either_direction(tmp_path: Path) -> None:
    usual = [(f"{n:020}", f"{n:040}") for n in range(20)]
    odd = [
        ("a" * 20, "b" * 120),
        ("a" * 80, "b" * 40),
        ("a" * 5, "b" * 100),
        ("a" * 2, "b" * 14),  # too short to say anything
        ("a" * 20, "b" * 80),  # twice the usual ratio is no outlier
    ]
    train = surveyed(tmp_path, [*usual, *odd])[0]
    assert train.outliers == 3
    assert [(e.line, e.found) for e in train.worst] == [
        (23, "target 10.0 times as long as usual"),
        (22, "source 4.0 times as long as usual"),
        (21, "target 3.0 times as long as usual"),
    ]


def test_repetitions_are_counted_by_source_and_by_pair(tmp_path: Path) -> None:
    pairs = [("a", "b"), ("a", "b "), ("a", "c"), ("ab", "c"), ("a", "bc"), ("1", "1"), ("x", "x")]
    train, valid = surveyed(tmp_path, pairs, [(" a", "b"), ("abc", ""), ("2", "2")])
    assert (train.repeated_sources, train.repeated, train.copies) == (3, 1, 1)
    assert valid.in_train is not None
    assert (valid.in_train.source, valid.in_train.target, valid.in_train.pair) == (1, 1, 1)


def test_lines_in_another_script_are_counted(tmp_path: Path) -> None:
    pairs = [("eins", "one"), ("два", "two"), ("123", "drei"), ("four", "четыре"), ("v", "пять")]
    train = surveyed(tmp_path, pairs)[0]
    assert (train.source.letters_from, train.source.other_script) == (4, 1)
    assert (train.target.letters_from, train.target.other_script) == (5, 2)


def test_pieces_are_counted_as_training_counts_them(tmp_path: Path) -> None:
    """A pair is too long by its longer side, and each unknown piece counts."""
    text = ["abcdefgh", "ABCDEFGH"]
    form = NormalizationConfig(NormalForm.nfkc, NormalForm.nfkc)
    config = TokenizerConfig(TokenizerKind.char, vocab_size=30, normalization=form)
    both = Tokenizers.train((text, text), config, ("en", "de"))
    space = len(both.source.encode("a")) - 1
    train, valid = surveyed(
        tmp_path,
        [("abcd", "a"), ("a", "abcde"), ("abcde", "a"), ("ab", "ab")],
        [("xayax", "a"), ("a", "ｂz")],
        [both.source, both.target],
        max_length=4 + space,
    )
    assert train.longer_than_limit == 2
    assert (train.source.pieces["100"], train.target.pieces["0"]) == (5 + space, 1 + space)
    assert (valid.source.unknown_pieces, valid.target.unknown_pieces) == (3, 1)
    assert valid.source.unknown_characters == {"x": 2, "y": 1}
    assert valid.target.unknown_characters == {"z": 1}  # the wide b is a b


# -- tables ---


def lines_of(table: Table) -> list[list[str]]:
    """Return the rows of a table, as cells."""
    out = Console(file=io.StringIO(), width=200)
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    out.print(table)
    return [list(row) for row in zip(*columns, strict=True)]


def test_each_row_of_the_table_shows_its_own_count() -> None:
    sides = [
        Side(
            language,
            "words",
            {"0": first, "50": first + 1},
            {"0": first + 2, "50": first + 3},
            empty=first + 4,
            damaged=first + 5,
            other_script=first + 6,
            unknown_characters=dict.fromkeys(map(chr, range(65, 66 + first)), 1),
            unknown_pieces=first + 7,
        )
        for language, first in (("en", 10), ("de", 30))
    ]
    split = Split("train", 1, 2, 3, 4, 5, 6, source=sides[0], target=sides[1])
    other = replace(split, name="valid", in_train=Overlap(7, 8, 9))
    rows = {title: cells for title, *cells in lines_of(pairs_table([split, other]))}
    assert {title: cells[1] for title, cells in rows.items()} == {
        "pairs": "1",
        "source empty": "14",
        "target empty": "34",
        "repeated pairs": "2",
        "repeated sources": "3",
        "source = target": "4",
        "unusual length ratio": "6",
        "more pieces than data.max_length": "5",
        "source is in train": "7",
        "target is in train": "8",
        "pair is in train": "9",
        "source not in its script": "16",
        "target not in its script": "36",
        "source characters not in train": "11",
        "target characters not in train": "31",
        "unknown source pieces": "17",
        "unknown target pieces": "37",
        "lines with U+FFFD": "50",
    }
    assert rows["pair is in train"] == ["", "9"]
    assert lines_of(length_table([split], "words")) == [
        ["train", "en", "10", "11"],
        ["train", "de", "30", "31"],
    ]
    assert lines_of(length_table([split], "pieces"))[1] == ["train", "de", "32", "33"]


# -- advice ---


@pytest.mark.parametrize(
    ("more", "cleaning", "said"),
    [
        ({"outliers": 1}, {}, "Nothing unusual"),
        ({"outliers": 2}, {}, "train: a length ratio far from the usual one in 2 pairs"),
        ({"longer_than_limit": 1}, {}, "Nothing unusual"),
        ({"longer_than_limit": 2}, {}, "train: more pieces than data.max_length=100 in 2 pairs"),
        ({"repeated": 10}, {}, "Nothing unusual"),
        ({"repeated": 11}, {}, "train: 11 repeated pairs, dropped in training"),
        ({"repeated": 11}, {"drop_duplicates": False}, "train: 11 repeated pairs, kept in"),
        ({"copies": 10}, {}, "Nothing unusual"),
        ({"copies": 11}, {}, "train: the same text on both sides of 11 pairs"),
        ({"source": Side("en", "words", letters_from=100, other_script=1)}, {}, "Nothing unusual"),
        (
            {"source": Side("en", "words", letters_from=100, other_script=2)},
            {},
            "train, source: of the first 100 lines with letters, 2 are not written as en is",
        ),
    ],
)
def test_advice_begins_at_a_share_of_the_pairs(
    more: dict[str, object], cleaning: dict[str, bool], said: str
) -> None:
    train = replace(Split("train", 1000), **more)  # type: ignore[arg-type]
    data = DataConfig(cleaning=CleaningConfig(**cleaning))
    [found] = advice([train], data, TokenizerConfig())
    assert found.startswith(said)


def test_unknown_characters_are_no_matter_where_none_becomes_unk() -> None:
    sides = [
        Side("en", "words", {}, {"50": 3}, unknown_characters={"q": 1}, unknown_pieces=count)
        for count in (0, 1)
    ]
    valid = Split("valid", 10, source=sides[0], target=sides[1])
    [found] = advice([Split("train", 10), valid], DataConfig(), TokenizerConfig())
    assert found.startswith("valid, target: 1 character that train does not have (q)")
