"""Commands that are started in another folder than the one that was meant."""

from pathlib import Path

import pytest
from composing import composed
from conftest import Done, TrainCommand

from seq2seq.app.commands import _with_home
from seq2seq.data.corpora import read_split
from seq2seq.files import place
from seq2seq.runs.folder import Run, RunError


def test_a_relative_path_that_fails_says_where_it_begins(
    train_command: TrainCommand, tmp_path: Path
) -> None:
    def refused(*settings: str) -> str:
        done: Done = train_command(*settings)
        assert (done.code, done.err.count("\n")) == (2, 1)
        return done.err

    own = ["data=files", "data.name=x", "data.train.target=b.en"]
    said = refused(*own, "data.train.source=text/a.de")
    assert f"text/a.de: no such file in {tmp_path}\n" in said
    said = refused(*own, "data.train.source=/nowhere/a.de")
    assert "/nowhere/a.de: no such file\n" in said
    assert f"outputs/x: no such run in {tmp_path} (expected" in refused("resume=outputs/x")
    said = refused("data=multi30k_de_en", "data.mirror=there")
    assert f"there/multi30k: no such folder in {tmp_path} in the mirror" in said
    said = refused("--config-dir", "mine", "data=mine")
    assert f"--config-dir mine: no such folder in {tmp_path}\n" in said
    said = refused("data.grammar=mine.txt")
    assert f"data.grammar=mine.txt: no such file in {tmp_path} or in the package" in said


def test_a_path_from_the_root_needs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert (place("/a/b"), place("a/b"), place(Path("."))) == ("", " in /", " in /")
    with pytest.raises(RunError, match=r"^a/b: no such run in / \(expected a folder with"):
        Run.open("a/b")


def test_the_built_in_corpus_is_found_from_anywhere(tmp_path: Path) -> None:
    sizes = [f"data.grammar_splits.{name}.count=5" for name in ("train", "valid", "test")]
    config = composed("data=grammar_en_zh", f"data.root={tmp_path}", *sizes)
    source, target = read_split(config.data, "test")
    assert (len(source), len(target)) == (5, 5)


def test_the_home_folder_of_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in {
        "--out=~/a": "--out=/home/me/a",
        "--out=a~": "--out=a~",
        "--scores": "--scores",
        "data.name=~": "data.name=~",
        "~norm": "~norm",
    }.items():
        assert _with_home(given) == expected
