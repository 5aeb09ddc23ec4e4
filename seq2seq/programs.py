"""The names of the programs, as the person who started this one types them."""

import sys
from pathlib import Path

CONSOLE = "seq2seq-"
"""Begins the names of the console commands that a wheel installs."""


def program(name: str) -> list[str]:
    """Return the words that start a program: train, prepare, translate, evaluate, ...

    A process that a console command or `python -m seq2seq.train` started gives the console
    command, any other one the file of the repository.
    """
    started = Path(sys.argv[0]).resolve()
    if started.name.startswith(CONSOLE) or started.parent == Path(__file__).resolve().parent:
        return [CONSOLE + name]
    scripts = {"train": "train.py", "prepare": "scripts/prepare_data.py"}
    return ["python", scripts.get(name, f"scripts/{name}.py")]
