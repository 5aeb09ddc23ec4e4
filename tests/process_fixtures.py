"""A fixture that starts train.py as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT
from fixture_types import StartProcess


@pytest.fixture
def process(toy: list[str], tmp_path: Path) -> Iterator[StartProcess]:
    """Return a function that starts a real train.py on the toy corpus.

    A process that still runs at the end of the test is killed.
    """
    started: list[subprocess.Popen[str]] = []

    def start(
        *overrides: str, program: Sequence[str] = (str(ROOT / "train.py"),)
    ) -> "subprocess.Popen[str]":
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "COLUMNS"))
        }
        started.append(
            subprocess.Popen(
                [sys.executable, *program, *toy, *overrides],
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, "HYDRA_MAIN_MODULE": "__main__", "PYTHONPATH": str(ROOT)},
            )
        )
        return started[-1]

    yield start
    for each in started:
        with each:  # closes its pipes
            each.kill()
