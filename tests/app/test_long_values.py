"""A value of great length is shown cut: the rest of the message can be read."""

import re

import pytest
from conftest import Done, TrainCommand
from runs import Script

pytest_plugins = ["run_fixtures"]

WORD, WORDS = "w" * 10_000, "word " * 2_000
NUMBER = "9" * 400


def assert_cut(done: Done) -> None:
    """Check that a command has refused a value and shown some of it; Done checks the rest."""
    assert done.code == 2, done.err
    line = done.err.splitlines()[-1]
    assert "ww…ww" in line or re.search(r"wo?r?d?[ \\]*( \[\.\.\.\] |…)[wor]*d?", line), line


@pytest.mark.parametrize("value", [WORD, WORDS])
@pytest.mark.parametrize(
    "key",
    [
        *("data", "norm", "seed", "optimizer.lr", "trainer.precision", "trainer.progress"),
        *("probe.lengths", "data.source_language", "data.bleu_tokenizer", "decode.max_length"),
        *("data.train.source", "tokenizer.model", "data.source_column", "resume", "init_from"),
        *("data.grammar", "hydra.run.dir", "nothing", "data.root", "data.more_tests.x.source"),
    ],
)
def test_train_cuts_a_long_value(train_command: TrainCommand, key: str, value: str) -> None:
    files = ["data=files"] if key.startswith("data.") else []
    assert_cut(train_command(*files, f"{key}={value}"))


@pytest.mark.parametrize("key", ["optimizer.lr", "model.dropout", "seed", "data.batch_sentences"])
def test_train_refuses_a_number_that_no_float_holds(train_command: TrainCommand, key: str) -> None:
    done = train_command(f"{key}={NUMBER}")
    assert done.code == 2
    assert done.err.startswith(f"train.py: {key}")
    assert "expected" in done.err
    assert done.err.count("\n") == 1


def test_translate_refuses_a_number_that_no_float_holds(script: Script) -> None:
    assert "expected at least 1 and at most" in script("translate")("run", "--beam", NUMBER).err


@pytest.mark.parametrize("word", [WORD, f"{WORD}=1", WORDS, f"+{WORD}=1", f"~{WORD}"])
def test_train_cuts_a_long_word(train_command: TrainCommand, word: str) -> None:
    assert_cut(train_command(word))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("translate", [WORD]),
        ("translate", ["run", "--beam", WORD]),
        ("translate", ["run", "--device", WORD]),
        ("translate", ["run", f"--{WORD}"]),
        ("translate", ["run", "--max-length", WORDS]),
        ("evaluate", ["run", "--tokenize", WORD]),
        ("evaluate", [WORD, WORD]),
        ("compare", [WORD]),
        ("score", ["run", "--source", WORD, "--target", WORD]),
    ],
)
def test_a_script_cuts_a_long_argument(script: Script, name: str, arguments: list[str]) -> None:
    assert_cut(script(name)(*arguments))
