"""Fixtures that start programs of the repository as processes of their own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import pytest
from conftest import ROOT
from fixture_types import StartProcess
from forked_programs import PRELOADED

from seq2seq.app import jobs

FORKED = ROOT / "tests" / "forked_programs.py"


@pytest.fixture(scope="session")
def forked_python() -> Iterator[list[str]]:
    """Return words that stand for `python` before a program: it is forked, without imports.

    `forked_programs` says which tests this is for.
    """
    with tempfile.TemporaryDirectory() as folder:  # pytest's has too long a path for a socket
        address = f"{folder}/socket"
        server = subprocess.Popen(
            [sys.executable, str(FORKED), "serve", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        with server:  # closes its standard input, which ends it
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield [sys.executable, "-I", "-S", str(FORKED), "run", address]


@pytest.fixture
def process(toy: list[str], tmp_path: Path, forked_python: list[str]) -> Iterator[StartProcess]:
    """Return a function that starts train.py on the toy corpus.

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
                [*forked_python, *program, *toy, *overrides],
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


@pytest.fixture
def forked_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --jobs fork its processes from one that has imported torch, instead of starting them."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    monkeypatch.setattr(jobs, "get_context", lambda _: context)
