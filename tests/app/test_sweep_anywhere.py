"""A sweep runs in every folder, as a single command does."""

import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.benchmark.workload import SMALL_CORPUS

START = "import sys; from seq2seq.app import commands; getattr(commands, sys.argv.pop(1))()"


@pytest.mark.parametrize("command", ["prepare", "data_report"])
def test_a_sweep_runs_in_another_folder(command: str, tmp_path: Path) -> None:
    """There Hydra does not find our sweeper by itself: the repository is not on its path."""
    jobs = ["-m", *SMALL_CORPUS, "tokenizer=word", "data.grammar_seed=1,2"]
    words = [sys.executable, "-P", "-c", START, command, *jobs]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sweep: 2 of 2 jobs done, 0 failed\n" in done.stdout
