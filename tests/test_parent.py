"""Processes that work for another one end with it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PREPARATION = """
from seq2seq.data import preparation
preparation.FEW_PAIRS, preparation.CHUNK_PAIRS, preparation.available_cores = 0, 1, lambda: 2
results = preparation.encoded_chunks(repeat(("a", "b")), len)
"""
JOBS = """
from functools import partial
from seq2seq.app.jobs import in_order
results = in_order(partial(partial, len), repeat("a"), 2)
"""
WORK = """
from itertools import repeat
{}
print([next(results) for _ in range(9)], flush=True)
while True:
    pass
"""


@pytest.mark.parametrize("pool", [PREPARATION, JOBS], ids=["preparation", "jobs"])
def test_the_workers_of_a_killed_process_end(pool: str) -> None:
    """The workers have its output open, which therefore ends with the last of them."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK.format(pool)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{[1] * 9}\n"
        process.kill()
        assert process.communicate(timeout=60)[0] == ""
