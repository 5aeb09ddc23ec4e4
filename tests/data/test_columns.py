"""Which columns of a TSV file are read, and its blank lines."""

import logging
from pathlib import Path
from typing import Any

import pytest
from corpus_files import own, write
from small_corpora import sentences

from seq2seq.config import DataConfig, SplitConfig, TokenizerConfig
from seq2seq.data import columns
from seq2seq.data.columns import Columns, columns_of
from seq2seq.data.corpora import numbered, read_split
from seq2seq.data.preparation import prepare
from seq2seq.errors import DataError

ENGLISH = sentences(60)
GERMAN = [line.upper().replace("E", "Ö") for line in ENGLISH]
CHINESE = [f"我看见了第{i}只小狗。" for i in range(60)]
LINES = list(zip(ENGLISH, GERMAN, strict=True))


def corpus(tmp_path: Path, text: str, target: str = "de", **options: Any) -> DataConfig:
    path = write(tmp_path / "pairs.tsv", text)
    return DataConfig(
        name="mine",
        root=str(tmp_path / "prepared"),
        source_language="en",
        target_language=target,
        train=SplitConfig(str(path)),
        **options,
    )


def found(data: DataConfig) -> Columns:
    assert data.train.source is not None
    return columns_of(Path(data.train.source), data)


def tatoeba(pairs: list[tuple[str, str]]) -> str:
    """Return pairs as Tatoeba exports them: id, text, id, text."""
    return "".join(f"{1276 + i}\t{a}\t{4000000 + i}\t{b}\n" for i, (a, b) in enumerate(pairs))


def test_numbers_are_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    columns._log_once.cache_clear()
    data = corpus(tmp_path, tatoeba(LINES))
    assert read_split(data, "train") != (ENGLISH, GERMAN)  # a part is held out
    assert set(read_split(data, "train")[0]) <= set(ENGLISH)
    assert set(read_split(data, "train")[1]) <= set(GERMAN)
    [record] = caplog.records
    assert record.getMessage() == (
        f"{data.train.source}: source is column 2, target is column 4 of 4 ({ENGLISH[0][:25]!r} ->"
        f" {GERMAN[0][:25]!r}); data.source_column and data.target_column choose others"
    )


@pytest.mark.parametrize("before", ["\n", " \n\n", "\n" * 1500, "\ufeff\r\n"])
@pytest.mark.parametrize("column", [None, "source"])
def test_a_line_of_names_after_blank_lines_is_no_pair(
    tmp_path: Path, before: str, column: str | None
) -> None:
    path = write(tmp_path / "pairs.tsv", f"{before}source\ttarget\none\teins\n")
    data = DataConfig(valid=SplitConfig(str(path)), source_column=column)
    assert list(numbered(data, "valid")) == [(path.read_text().count("\n"), ("one", "eins"))]


def test_a_guess_between_two_columns_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing tells the source of two languages in one script, so that a person has to look."""
    caplog.set_level(logging.INFO)
    columns._log_once.cache_clear()
    data = corpus(tmp_path, "".join(f"{de}\t{en}\n" for en, de in LINES))
    assert found(data) == Columns(0, 1)
    [record] = caplog.records
    assert ": source is column 1, target is column 2 of 2 (" in record.getMessage()
    assert record.getMessage().endswith("data.source_column and data.target_column choose others")
    caplog.clear()
    data.source_column, data.target_column = "2", "1"
    assert found(data) == Columns(1, 0)
    assert caplog.records == []


def test_the_name_of_the_file_is_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = corpus(tmp_path, tatoeba(LINES))
    odd = write(tmp_path / "a\x1b[31m[red]\r.tsv", tatoeba(LINES))
    columns_of(odd, data)
    [record] = caplog.records
    assert record.getMessage().startswith(f"{tmp_path}/a\\x1b[31m[red]\\r.tsv: source is")


@pytest.mark.parametrize(
    ("line", "target", "expected"),
    [
        ("{en}\t{de}\tCC-BY 2.0 (France) #{i}", "de", (0, 1)),
        ("{i}\teng\t{en}\tdeu\t{de}\tCK\t2020-01-01 10:00:00", "de", (2, 4)),
        ("https://example.org/{i}\t{en}\t0.98{i}\t{de}", "de", (1, 3)),
        ("{zh}\t{en}\t{i}", "zh", (1, 0)),
        ("{i}\t{zh}\t{en}", "zh", (2, 1)),
        ("{i}\t{en}\t{zh}", "zh", (1, 2)),
        ("{en}\t{de}\t{zh}", "zh", (0, 2)),
        ("{de}\t{mixed}\t{zh}", "zh", (0, 2)),
        ("{i}\t{i}{i}\t{i}", "zh", (0, 1)),
        ("{i}\t{i}", "zh", (0, 1)),
        ("{en}\t{de}", "de", (0, 1)),
        ("{zh}\t{en}", "zh", (1, 0)),
        ("{en}\t{zh}", "zh", (0, 1)),
    ],
)
def test_the_likely_columns(
    tmp_path: Path, line: str, target: str, expected: tuple[int, int]
) -> None:
    rows = zip(range(60), ENGLISH, GERMAN, CHINESE, strict=True)
    text = "".join(
        line.format(i=i, en=en, de=de, zh=zh, mixed=en if i % 10 else zh) + "\n"
        for i, en, de, zh in rows
    )
    assert found(corpus(tmp_path, text, target)) == Columns(*expected)


@pytest.mark.parametrize(
    ("header", "has_header"),
    [
        ("id\ten\tid2\tde\n", True),
        ("#id\tsource\tscore\ttarget\n", True),
        ("sentence_id\tsentence\tid\ttranslation\n", True),
        ("id\tEnglish\tid\tGerman\n", True),
        ("id\teng\tid\tDeutsch\n", True),
        ("id\tEnglish\tid\tFrench\n", False),
        ("1\tthe source\t2\tthe target\n", False),
    ],
)
def test_a_line_of_names_is_no_pair(tmp_path: Path, header: str, has_header: bool) -> None:
    data = corpus(tmp_path, header + tatoeba(LINES))
    assert found(data) == Columns(1, 3, has_header)
    data.valid = SplitConfig(data.train.source)
    source, target = read_split(data, "train")
    assert source[-60:] == ENGLISH
    assert target[-60:] == GERMAN
    assert len(source) == 60 + (not has_header)


def test_the_remark_shows_a_pair_and_no_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    columns._log_once.cache_clear()
    found(corpus(tmp_path, "id\tsource\tid\ttarget\n" + tatoeba(LINES)))
    shown = f"after a line of names ({ENGLISH[0][:25]!r} -> {GERMAN[0][:25]!r})"
    assert shown in caplog.records[0].getMessage()


def test_two_columns_of_a_few_lines_are_source_and_target(tmp_path: Path) -> None:
    """Even where another script says otherwise: so few lines may all be names."""
    rows = [f"{zh}\t{en}\n" for zh, en in zip(CHINESE, ENGLISH, strict=True)]
    assert found(corpus(tmp_path, "".join(rows[:19]), "zh")) == Columns(0, 1)
    assert found(corpus(tmp_path, "".join(rows[:20]), "zh")) == Columns(1, 0)


def test_columns_are_chosen_by_number_or_name(tmp_path: Path) -> None:
    text = tatoeba(LINES)
    assert found(corpus(tmp_path, text, source_column="4")) == Columns(3, 1)
    assert found(corpus(tmp_path, text, target_column="2")) == Columns(3, 1)
    both = corpus(tmp_path, text, source_column="4", target_column="3")
    assert found(both) == Columns(3, 2)
    named = corpus(
        tmp_path, "n\tEnglisch\tm\tDeutsch (neu)\n" + text, source_column="Deutsch (neu)"
    )
    assert found(named) == Columns(3, 1, has_header=True)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("5", r"pairs\.tsv: has no column '5'; expected a number from 1 to 4 \(data"),
        ("German", r"has no column 'German'; .* or a name of line 1 \(id, en, id2, de\)"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, column: str, message: str) -> None:
    header = "" if column.isdecimal() else "id\ten\tid2\tde\n"
    with pytest.raises(DataError, match=message):
        found(corpus(tmp_path, header + tatoeba(LINES), target_column=column))


def test_tsv_beside_a_target_file_is_refused(tmp_path: Path) -> None:
    """Else the source would hold the answer."""
    data = own(tmp_path, train="\na\n" + "a b\tx y\n" * 3 + "|" + "x y\n" * 5)
    with pytest.raises(DataError, match=r"train\.0:3: has a tab, .*alone, as data\.train\.source"):
        read_split(data, "train")
    data = own(tmp_path, train="a\n" * 4 + "|" + "a\tx\n" * 4)
    with pytest.raises(DataError, match=r"train\.1:1: has a tab, as most"):
        read_split(data, "train")
    data = own(tmp_path, valid="a\n" + "a\tb\n" + "|x\ny\n")
    assert read_split(data, "valid") == (["a", "a\tb"], ["x", "y"])


def test_a_target_file_that_is_missing_is_named(tmp_path: Path) -> None:
    data = own(tmp_path, train="a b\nc d\n")
    with pytest.raises(DataError, match=r"train\.0: no line has a tab; .*data\.train\.target=FILE"):
        read_split(data, "train")
    data = DataConfig(more_tests={"new": data.train})
    with pytest.raises(DataError, match=r"data\.more_tests\.new\.target=FILE"):
        read_split(data, "new")


def test_columns_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for wrong in ({"source_column": "0"}, {"target_column": " "}):
        with pytest.raises(ValueError, match=r"_column=.*: expected a number from 1, or a name"):
            corpus(tmp_path, "a\tb\n", **wrong)
    with pytest.raises(ValueError, match=r"data\.target_column=2: expected another column"):
        corpus(tmp_path, "a\tb\n", source_column="2", target_column="2")
    with pytest.raises(ValueError, match=r"data\.source_column=2: .* TSV file"):
        DataConfig(train=SplitConfig("a", "b"), source_column="2")


def test_a_line_of_fewer_columns_is_named(tmp_path: Path) -> None:
    data = corpus(tmp_path, tatoeba(LINES) + "7\tlast line\n")
    with pytest.raises(
        DataError, match=r"pairs\.tsv:61: found 2 .* column 2 and target in column 4"
    ):
        read_split(data, "train")


def test_other_columns_are_another_corpus(tmp_path: Path) -> None:
    small = TokenizerConfig(vocab_size=60)
    folders = {
        prepare(corpus(tmp_path, tatoeba(LINES), **options), small, progress=False).folder
        for options in ({}, {"source_column": "4"})
    }
    assert len(folders) == 2


# -- blank lines ---


def test_blank_lines_of_a_tsv_file_are_skipped_and_counted(tmp_path: Path) -> None:
    documents = "".join(f"{a}\t{b}\n" + "\n \n" * (i % 10 == 9) for i, (a, b) in enumerate(LINES))
    data = corpus(tmp_path, documents + "\u3000\n")
    split = prepare(data, TokenizerConfig(vocab_size=60), progress=False).manifest.splits
    assert (split["train"].blank, split["valid"].blank) == (13, 0)
    assert split["train"].pairs + split["valid"].pairs == 60
    data.valid = SplitConfig(data.train.source)
    again = prepare(data, TokenizerConfig(vocab_size=60), progress=False)
    assert again.manifest.splits["valid"].blank == 13
    assert again.split("valid").lines("source") == ENGLISH


def test_a_blank_line_in_one_of_two_files_drops_its_pair_alone(tmp_path: Path) -> None:
    source, target = list(ENGLISH), list(GERMAN)
    source[7] = target[11] = source[20] = target[20] = ""
    text = "|".join("".join(f"{line}\n" for line in side) for side in (source, target))
    data = own(tmp_path, train=text, valid=text)
    data.target_language = "de"
    prepared = prepare(data, TokenizerConfig(vocab_size=60), progress=False)
    train, valid = prepared.manifest.splits["train"], prepared.manifest.splits["valid"]
    assert (train.pairs, train.empty, train.kept, train.blank) == (60, 3, 57, 0)
    assert (valid.pairs, valid.kept) == (60, 60)
    kept = [i for i in range(60) if source[i] and target[i]]
    for place, i in enumerate(kept):
        tgt = prepared.split("train").tgt(place).tolist()
        assert prepared.tokenizers.target.decode(tgt) == GERMAN[i]
