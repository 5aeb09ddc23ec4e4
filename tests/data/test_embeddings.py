"""Pretrained embeddings in the text formats of word2vec, fastText and GloVe."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from seq2seq.config import TokenizerConfig, TokenizerKind
from seq2seq.data.embeddings import read_embeddings, vocabulary
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import DataError

IDS = {"bird": 4, "tree": 5, "7": 6, "new york": 7, "missing": 8}
LINES = ["bird 1 2.5 -3", "tree 1e-1 .5 -0.25", "7 7 8 9", "new york 4 5 6", "other 0 0 0"]
EXPECTED = {4: [1, 2.5, -3], 5: [0.1, 0.5, -0.25], 6: [7, 8, 9], 7: [4, 5, 6]}
FORMATS = {
    "word2vec": ["5 3", *LINES],
    "fasttext": ["5 3", *(f"{line} " for line in LINES)],
    "glove": LINES,
    "a number first": LINES[2:] + LINES[:2],
    "windows": [f"{line}\r" for line in LINES],
}


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def read(path: Path, size: int = 3) -> dict[int, list[float]]:
    ids, rows = read_embeddings(path, IDS, size)
    assert rows.shape == (len(ids), size)
    assert rows.dtype == np.float32
    return dict(zip(ids.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("lines", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("packed", [False, True])
def test_formats(tmp_path: Path, lines: list[str], packed: bool) -> None:
    file = write(tmp_path / "e.vec", lines)
    if packed:
        file.write_bytes(gzip.compress(file.read_bytes()))
    found = read(file)
    assert found.keys() == EXPECTED.keys()
    for place, vector in EXPECTED.items():
        assert found[place] == pytest.approx(vector)


def test_the_first_of_two_counts(tmp_path: Path) -> None:
    assert read(write(tmp_path / "e", ["bird 1 2 3", "bird 4 5 6"])) == {4: [1, 2, 3]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bird 1 2", "found 2"),
        ("bird", "found 0"),
        ("", "found 0"),
        ("bird 1 x 3", "could not convert"),
        ("bird 1 nan 3", "not finite"),
        ("bird 1 1e50 3", "not finite"),
        ("bird\t1\t2\t3", "found 0"),
        ("bird 1 2 3 4", "found 4"),
        ("bird 1 2. 3 4.", "found 4"),
        ("bird 1  2 3", "found 4"),
        ("new york 1e2 2 3 4", "found 5"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    for lines, number in ((["tree 1 2 3", line], 2), (["9 3", "tree 1 2 3", line], 3)):
        file = write(tmp_path / "e.txt", lines)
        with pytest.raises(DataError, match=rf"e\.txt:{number}: expected a word and 3 .*{reason}"):
            read(file)


def test_words_with_spaces_and_points(tmp_path: Path) -> None:
    """Words of GloVe's 840B, after which words are still found."""
    lines = [
        ". . . 1 2 3",
        "at name@domain.com 1 2 3",
        "10 things 1. 2. 3.",
        " 1 2 3",
        "\x85 1 2 3",
    ]
    assert read(write(tmp_path / "e", [*lines, "bird  1 2 3."])) == {4: [1, 2, 3]}
    assert read(write(tmp_path / "e", ["bird 2. 1."]), size=2) == {4: [2, 1]}


@pytest.mark.parametrize("line", ["bird\t1\t2\t3", "bird", "", "bird x"])
def test_a_first_line_without_numbers_is_named(tmp_path: Path, line: str) -> None:
    file = write(tmp_path / "e.txt", [line, "tree 1 2 3"])
    with pytest.raises(DataError, match=r"e\.txt:1: expected a word and 3 .*: found 0"):
        read(file)


def test_a_file_with_fewer_words_than_it_says_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "e.txt", ["100 3", "bird 1 2 3", "tree 1 2 3"])
    with pytest.raises(DataError, match=r"e\.txt: 2 words, line 1 says 100; expected a whole file"):
        read(file)
    with pytest.raises(DataError, match=r"e\.txt: 2 words, line 1 says 3; expected a whole file"):
        read(write(file, ["3 3", "bird 1 2 3", "tree 1 2 3"]))
    for said in (1, 2):
        assert read(write(file, [f"{said} 3", "bird 1 2 3", "tree 1 2 3"])).keys() == {4, 5}


@pytest.mark.parametrize("lines", [["9 3", "bird 1 2 3"], ["bird 1 2 3"]])
def test_other_dimensions_are_refused_with_the_way_out(tmp_path: Path, lines: list[str]) -> None:
    file = write(tmp_path / "e.txt", lines)
    with pytest.raises(DataError, match=r"3 dimensions; .*model\.embedding_size=4 .*_size=3"):
        read(file, 4)


def test_an_empty_or_missing_file_and_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"e\.txt: empty"):
        read(write(tmp_path / "e.txt", []))
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.txt")
    (tmp_path / "e.txt").write_bytes(b"tree 1 2 3\nb\xefrd 1 2 3\n")
    with pytest.raises(DataError, match=r"e\.txt:2: invalid UTF-8"):
        read(tmp_path / "e.txt")


def test_the_words_of_a_word_tokenizer() -> None:
    config = TokenizerConfig(TokenizerKind.word, 60, user_defined_symbols="<url>")
    tokenizer = Tokenizer.train(["birds sing", "See <url> sing", "see"], config, "en")
    words = vocabulary(tokenizer)
    assert set(words) == {"birds", "sing", "See", "see", "<url>"}
    assert tokenizer.encode("birds <url>") == [words["birds"], words["<url>"]]
