"""The text of a corpus: read, checked, and divided into splits."""

import gzip
import random
from pathlib import Path

import pytest
from corpus_files import CONFIGS, config_of, own, sha256, write
from typed import present

from seq2seq.config import DataConfig, GrammarSplit
from seq2seq.data import corpora
from seq2seq.data.corpora import (
    is_here,
    locate,
    read_parallel,
    read_split,
    split_pairs,
)
from seq2seq.errors import DataError

# -- reading ---


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    packed = write(tmp_path / "plain.txt", gzip.compress(b"a\nb\n"))
    plain = write(tmp_path / "packed.gz", "x\ny\n")
    assert read_parallel([str(packed), str(plain)]) == [["a", "b"], ["x", "y"]]


def test_different_line_counts_are_named(tmp_path: Path) -> None:
    config = own(tmp_path, train="a\nb\nc\n|x\ny\n")
    with pytest.raises(DataError, match=r"train\.0 has 3 lines, .*train\.1 has 2"):
        read_split(config, "train")
    with pytest.raises(DataError, match=r"train\.0 has 1 line, .*train\.1 has 2; expected"):
        read_split(own(tmp_path, train="a\n|x\ny\n"), "train")


def test_an_empty_corpus_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.0: empty"):
        read_split(own(tmp_path, train="|"), "train")
    with pytest.raises(DataError, match="empty"):
        read_split(own(tmp_path, train=""), "train")
    config = own(tmp_path, train="a\n|b\n")
    (tmp_path / "train.1").unlink()
    with pytest.raises(DataError, match=r"train\.1: no such file"):
        read_split(config, "train")
    (tmp_path / "train.1").mkdir()
    with pytest.raises(DataError, match=r"train\.1: cannot be read"):
        read_split(config, "train")


def test_tsv(tmp_path: Path) -> None:
    config = own(tmp_path, train="a\tx\nb c\ty z\tattribution\r\n")
    assert read_split(config, "train") == (["a", "b c"], ["x", "y z"])
    with pytest.raises(
        DataError,
        match=r"train\.0:2: found 1 tab-separated column in 'no tab here'; expected source in column 1",
    ):
        read_split(own(tmp_path, train="a\tx\nno tab here\n"), "train")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no split 'test'; expected one of train"):
        locate(own(tmp_path, train="a\tx\n"), "test")
    with pytest.raises(DataError, match=r"data\.train\.source=FILE data\.train\.target=FILE"):
        locate(DataConfig(name="files"), "train")


def test_a_checksum_given_for_own_files_is_checked(tmp_path: Path) -> None:
    config = own(tmp_path, train="a\n|x\n")
    config.train.source_sha256, config.train.target_sha256 = sha256("a\n"), sha256("y\n")
    found, expected = sha256("x\n"), sha256("y\n")
    with pytest.raises(
        DataError, match=rf"train\.1: wrong checksum: .*{found}, expected {expected}"
    ):
        locate(config, "train")


# -- holding out ---


def test_without_valid_a_fixed_part_of_train_is_held_out(tmp_path: Path) -> None:
    lines = [f"sentence {i}\tsatz {i}" for i in range(2000)]
    config = own(tmp_path, train="\n".join(lines) + "\n")
    config.valid_share = 0.1
    train, valid = (set(split_pairs(config, name)) for name in ("train", "valid"))
    assert not train & valid
    assert train | valid == {tuple(line.split("\t")) for line in lines}
    assert 140 < len(valid) < 260
    shuffled = lines + [f"new {i}\tneu {i}" for i in range(500)]
    random.Random(1).shuffle(shuffled)
    later = set(split_pairs(own(tmp_path, train="\n".join(shuffled)), "valid"))
    config.valid_share = DataConfig().valid_share
    assert later & {tuple(line.split("\t")) for line in lines} == set(
        split_pairs(own(tmp_path, train="\n".join(lines)), "valid")
    )


def test_both_sides_decide_whether_a_pair_is_held_out(tmp_path: Path) -> None:
    for line in ("one source\tsatz {}", "source {}\tein satz"):
        lines = [line.format(i) for i in range(400)]
        config = own(tmp_path, train="\n".join(lines) + "\n")
        config.valid_share = 0.5
        assert 150 < len(list(split_pairs(config, "valid"))) < 250


def test_with_valid_nothing_is_held_out(tmp_path: Path) -> None:
    config = own(tmp_path, train="".join(f"a{i}\tb{i}\n" for i in range(300)), valid="c\td\n")
    assert len(list(split_pairs(config, "train"))) == 300
    assert list(split_pairs(config, "valid")) == [("c", "d")]


# -- the grammar ---


def test_the_built_in_corpus_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("grammar_en_zh", f"data.root={tmp_path}")
    assert {name: size.count for name, size in config.grammar_splits.items()} == {
        "train": 20000,
        "valid": 1000,
        "test": 1000,
        "test_long": 1000,
    }
    config.grammar = str(CONFIGS.parent / present(config.grammar))
    config.grammar_splits = {
        "train": GrammarSplit(60, 1, 12),
        "test_long": GrammarSplit(10, 21, 40),
    }
    assert not is_here(config, "train")
    src, tgt = read_split(config, "train")
    assert is_here(config, "train")
    assert len(src) == len(tgt) == 60
    assert max(len(line.split()) for line in src) <= 12
    assert all(21 <= len(line.split()) <= 40 for line in read_split(config, "test_long")[0])
    monkeypatch.setattr(corpora, "generate_splits", lambda *_: pytest.fail("drawn again"))
    assert read_split(config, "train") == (src, tgt)


def test_text_is_drawn_again_for_another_tag_of_a_language(tmp_path: Path) -> None:
    folders = set[Path]()
    for language in ("en", "en-GB"):
        config = config_of("grammar_en_zh", f"data.root={tmp_path}")
        config.source_language, config.grammar_splits = language, {"train": GrammarSplit(5, 1, 12)}
        assert not is_here(config, "train")
        files = locate(config, "train")
        assert [file.name for file in files] == [f"train.{language}", "train.zh"]
        folders.add(files[0].parent)
        assert files[0].read_text().count("\n") == 5
    assert len(folders) == 2


def test_a_missing_grammar_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.txt: no such file; expected a grammar"):
        locate(
            config_of(
                "grammar_en_zh", f"data.root={tmp_path}", f"data.grammar={tmp_path}/nothing.txt"
            ),
            "train",
        )
