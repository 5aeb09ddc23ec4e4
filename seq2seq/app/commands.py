"""The console commands. Each loads its own module only when it is called."""

import sys
from importlib import import_module
from typing import NoReturn

from .exit_codes import guarded


def _run(name: str) -> NoReturn:
    """Run the `main` of a module of this package; a missing package is an error like others."""
    sys.exit(guarded(lambda: import_module(f"{__package__}.{name}").main()))


def train() -> NoReturn:
    """Train a translator: `seq2seq-train norm=layer`."""
    _run("train")


def prepare() -> NoReturn:
    """Prepare a corpus: `seq2seq-prepare data=multi30k_de_en`."""
    _run("prepare")


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
