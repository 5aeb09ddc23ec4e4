"""The names of programs that messages show are names that the person can type."""

from pathlib import Path

import pytest

import seq2seq
from seq2seq.programs import program


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("train.py", ["python", "train.py"]),
        ("/somewhere/scripts/translate.py", ["python", "train.py"]),
        ("/somewhere/bin/seq2seq-train", ["seq2seq-train"]),
        ("/somewhere/bin/seq2seq-compare", ["seq2seq-train"]),
        (str(Path(seq2seq.__file__).with_name("train.py")), ["seq2seq-train"]),
    ],
)
def test_a_program_is_named_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, started: str, expected: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", [started])
    assert program("train") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("prepare", "scripts/prepare_data.py"), ("compare", "scripts/compare.py")],
)
def test_a_script_is_named_by_its_file(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert program(name) == ["python", expected]
    assert (Path(seq2seq.__file__).parents[1] / expected).is_file()
