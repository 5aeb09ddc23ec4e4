"""The console commands. Each loads its own module only when it is called."""

import os
import sys
from importlib import import_module
from typing import NoReturn

from .exit_codes import guarded
from .utf8 import restart_in_utf8


def _run(name: str) -> NoReturn:
    """Run the `main` of a module of this package; a missing package is an error like others."""
    restart_in_utf8()
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    sys.exit(guarded(lambda: import_module(f"{__package__}.{name}").main()))


def _with_home(argument: str) -> str:
    """Return an option such as --out=~/x with the home folder; the shell replaces a word's ~."""
    option, sign, value = argument.partition("=")
    return option + sign + os.path.expanduser(value) if option.startswith("--") else argument


def train() -> NoReturn:
    """Train a translator: `seq2seq-train norm=layer`."""
    _run("train")


def prepare() -> NoReturn:
    """Prepare a corpus: `seq2seq-prepare data=multi30k_de_en`."""
    _run("prepare")


def data_report() -> NoReturn:
    """Report on the text of a corpus: `seq2seq-data-report data=multi30k_de_en`."""
    _run("data_report")


def translate() -> NoReturn:
    """Translate lines: `seq2seq-translate RUN < input.txt > output.txt`."""
    _run("translate")


def evaluate() -> NoReturn:
    """Score runs: `seq2seq-evaluate RUN [RUN ...]`."""
    _run("evaluate")


def score() -> NoReturn:
    """Score given translations: `seq2seq-score RUN --source FILE --target FILE`."""
    _run("score")


def compare() -> NoReturn:
    """Compare runs in a report: `seq2seq-compare RUN [RUN ...] --out DIR`."""
    _run("compare")
