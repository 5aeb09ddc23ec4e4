"""The console commands. Each loads its own module only when it is called."""

import os
import sys
from functools import partial
from importlib import import_module

from .exit_codes import exiting
from .utf8 import restart_in_utf8


def command(name: str, room: str | None = __package__) -> None:
    """Run the `main` of a module of a room; a missing package is an error like others."""
    restart_in_utf8()
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    with exiting():
        import_module(f"{room}.{name}").main()


def _with_home(argument: str) -> str:
    """Return an option such as --out=~/x with the home folder; the shell replaces a word's ~."""
    option, sign, value = argument.partition("=")
    return option + sign + os.path.expanduser(value) if option.startswith("--") else argument


train = partial(command, "train")
"""Train a translator: `seq2seq-train norm=layer`."""
prepare = partial(command, "prepare")
"""Prepare a corpus: `seq2seq-prepare data=multi30k_de_en`."""
data_report = partial(command, "data_report")
"""Report on the text of a corpus: `seq2seq-data-report data=multi30k_de_en`."""
translate = partial(command, "translate")
"""Translate lines: `seq2seq-translate RUN < input.txt > output.txt`."""
evaluate = partial(command, "evaluate")
"""Score runs: `seq2seq-evaluate RUN [RUN ...]`."""
score = partial(command, "score")
"""Score given translations: `seq2seq-score RUN --source FILE --target FILE`."""
export = partial(command, "export")
"""Export a translator as ONNX: `seq2seq-export RUN --out DIR`."""
build_kernels = partial(command, "build_kernels")
"""Compile the kernels for machines without a compiler: `seq2seq-build-kernels --out DIR`."""
compare = partial(command, "compare")
"""Compare runs in a report: `seq2seq-compare RUN [RUN ...] --out DIR`."""
