"""Options that are wrong are named as they were typed, in one line."""

import argparse
import os
from pathlib import Path

import pytest
from runs import Script

from seq2seq.app.arguments import one_of, output_file, output_folder, parser, setting
from seq2seq.app.options import add_search_options
from seq2seq.config import DecodeConfig

pytest_plugins = ["run_fixtures"]

NUMBERS = ("--beam", "--batch-size", "--min-length", "--no-repeat-ngram", "--top-k", "--seed")
DECIMALS = ("--length-penalty", "--temperature")


def command() -> argparse.ArgumentParser:
    found = parser(None)
    found.prog = "translate.py"
    add_search_options(found)
    return found


def refused(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command().parse_args(words)
    assert ended.value.code == 2


@pytest.mark.parametrize("option", [*NUMBERS, *DECIMALS, "--threads", "--max-length"])
@pytest.mark.parametrize("value", ["-1", "x", "nan", "1e300x", "'", "9 9"])
def test_a_number_out_of_range_is_named_as_it_was_typed(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(option, value)
    err = capsys.readouterr().err
    assert err.startswith(f"translate.py: {option} {value}: expected ")
    assert err.endswith(" (--help lists the options)\n")
    assert err.count("\n") == 1
    assert "decode." not in err


@pytest.mark.parametrize("option", [*NUMBERS, *DECIMALS])
def test_its_range_is_that_of_the_setting(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(option, "-3")
    limit = "more than" if option == "--temperature" else "at least"
    assert f"{option} -3: expected {limit}" in capsys.readouterr().err


def test_whole_numbers_and_others_are_told_apart() -> None:
    assert setting(DecodeConfig, "beam_size")("3") == 3
    assert setting(DecodeConfig, "length_penalty")("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'2.5': expected a whole number$"):
        setting(DecodeConfig, "beam_size")("2.5")
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'10000000000000': expected at most"):
        setting(DecodeConfig, "batch_size")(str(10**13))


def test_a_choice_is_listed() -> None:
    assert one_of(["a", "b"])("a") == "a"
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'c': expected one of a, b$"):
        one_of(["a", "b"])("c")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--beam"], "--beam: expected one argument"),
        (
            ["--device", "tpu"],
            "--device tpu: expected one of auto, cpu, cuda; did you mean cpu?",
        ),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_other_errors_are_one_line_too(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(*words)
    assert capsys.readouterr().err == f"translate.py: {said} (--help lists the options)\n"


def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "locked")
    monkeypatch.chdir(tmp_path)
    for typed in ("a.json", "new/folder/a.json", "file", str(tmp_path / "a")):
        assert output_file(typed) == Path(typed)
    for typed in (".", "new/folder", "new", str(tmp_path)):
        assert output_folder(typed) == Path(typed)
    for kind, typed, said in (
        (output_file, ".", "'.': expected a file; this is a folder"),
        (output_file, "file/a.json", "'file/a.json': expected a place in a folder; file is a file"),
        (output_file, "locked/a", "'locked/a': expected a folder that may be written; locked may"),
        (output_folder, "file", "'file': expected a place in a folder; file is a file"),
        (output_folder, "locked", "'locked': expected a folder that may be written; locked may"),
    ):
        with pytest.raises(argparse.ArgumentTypeError) as refused:
            kind(typed)
        assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("score", "--beam-size 5"),
        ("score", "--skip-cost"),
        ("export", "--fp16"),
        ("export", "-o out"),
        ("compare", "-n 3"),
        ("compare", "--output out"),
        ("evaluate", "--nbest 3"),
        ("build_kernels", "--cpu"),
    ],
)
def test_no_option_is_named_that_the_command_does_not_have(
    script: Script, name: str, typed: str
) -> None:
    done = script(name)("RUN", *typed.split())
    assert (done.code, done.out) == (2, "")
    assert "instead" not in done.err
    assert "--help lists" in done.err


@pytest.mark.parametrize(
    ("name", "typed", "instead"),
    [
        ("score", "--fp16", "--precision bf16"),
        ("export", "-b 5", "--beam N"),
        ("translate", "--gen-subset valid", "--split NAME (evaluate.py)"),
    ],
)
def test_an_option_of_another_toolkit_has_a_name_here(
    script: Script, name: str, typed: str, instead: str
) -> None:
    done = script(name)("RUN", *typed.split())
    assert f": {typed.split()[0]}: not an option here; instead: {instead}\n" in done.err


@pytest.mark.parametrize(
    ("name", "option", "others"),
    [
        ("evaluate", "--json", ["RUN"]),
        ("evaluate", "--save", ["RUN"]),
        ("score", "--json", ["RUN", "--source", "a", "--target", "b"]),
        ("translate", "--attention", ["RUN"]),
        ("compare", "--out", ["RUN"]),
        ("export", "--out", ["RUN"]),
        ("build_kernels", "--out", []),
        ("data_report", "--json", []),
        ("data_report", "--figure", []),
        ("benchmark", "--json", ["layers"]),
        ("benchmark", "--figure", ["layers"]),
    ],
)
def test_every_command_checks_first_whether_its_output_can_be_written(
    script: Script, tmp_path: Path, name: str, option: str, others: list[str]
) -> None:
    place = tmp_path / "file" / "output"
    place.parent.touch()
    done = script(name)(*others, option, place)
    assert (done.code, done.out) == (2, "")
    assert f"{option} {place}: expected a place in a folder; {place.parent} is a file" in done.err
