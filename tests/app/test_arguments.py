"""Options that are wrong are named as they were typed, in one line."""

import argparse

import pytest

from seq2seq.app.arguments import one_of, parser, setting
from seq2seq.app.options import add_search_options
from seq2seq.config import DecodeConfig

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
