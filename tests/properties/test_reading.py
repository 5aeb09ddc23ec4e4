"""Whatever a file holds, its lines are those that were written."""

from pathlib import Path

import pytest
from any_text import ENDS, LAST_ENDS, LINES, MEMBERS, MOST, PACKERS, long_lines, packed, profile
from corpus_files import own, write
from hypothesis import example, given
from hypothesis import strategies as st

from seq2seq.data.corpora import split_pairs
from seq2seq.data.text import read_lines, text_sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@profile(150, 200)
@given(
    st.lists(st.one_of(LINES, long_lines(MOST)), max_size=6),
    ENDS,
    LAST_ENDS,
    st.sampled_from(sorted(PACKERS)),
    st.sampled_from(sorted(PACKERS)),
    MEMBERS,
)
@example([], "\n", "", "gz", "plain", [])
@example([""], "\n", "\n", "plain", "gz", [])
@example(["a\u2028b\x0bc\x0cd\x85e\rf"], "\r\n", "", "zst", "txt", [3])
def test_lines_come_back_from_every_file(
    folder: Path, lines: list[str], end: str, last: str, kind: str, suffix: str, cuts: list[int]
) -> None:
    text = end.join(lines) + (last if lines else "")
    path = write(folder / f"text.{suffix}", packed(text.encode(), kind, cuts))
    found = list(read_lines(path))
    expected = list(lines)
    if expected and not expected[-1] and not last:
        expected.pop()  # nothing after the last line's end is no line
    if expected:
        expected[0] = expected[0].removeprefix("\ufeff")
    assert found == expected
    assert text_sha256(path) == text_sha256(write(folder / "plain", text.encode()))


CELLS = LINES.filter(lambda line: "\t" not in line and line.strip(" ") != "")


@profile(60, 1000)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    st.integers(0, 3),
    ENDS,
    st.sampled_from(sorted(PACKERS)),
    MEMBERS,
)
def test_pairs_stay_together(
    folder: Path, pairs: list[tuple[str, str]], blank: int, end: str, kind: str, cuts: list[int]
) -> None:
    sides = ["".join(f"{side}{end}" for side in column) for column in zip(*pairs, strict=True)]
    files = own(folder, train="x|x", valid="a|a", test="a|a")
    for split, text in zip((files.train.source, files.train.target), sides, strict=True):
        write(Path(str(split)), packed(text.encode(), kind, cuts))
    expected = [
        (
            src.removeprefix("\ufeff") if i == 0 else src,
            tgt.removeprefix("\ufeff") if i == 0 else tgt,
        )
        for i, (src, tgt) in enumerate(pairs)
    ]
    assert list(split_pairs(files, "train")) == expected
    tsv = own(folder, train="x", valid="a\tb")
    rows = (end * blank).join(f"{src}\t{tgt}{end}" for src, tgt in pairs)
    write(Path(str(tsv.train.source)), packed(rows.encode(), kind, cuts))
    expected[0] = (expected[0][0], pairs[0][1])
    assert list(split_pairs(tsv, "train")) == expected
