"""The command line of the benchmark: where it is started from, and what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "began", [[str(ROOT / "scripts/benchmark.py")], ["-m", "seq2seq.benchmark"]]
)
def test_the_package_has_the_command_of_the_script(began: list[str]) -> None:
    done = start(*began, "layers", "--rounds", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--rounds 0: expected at least 1" in done.stderr


def test_help_does_not_load_torch() -> None:
    done = start("-X", "importtime", "-m", "seq2seq.benchmark", "--help")
    assert "python scripts/benchmark.py" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "seq2seq.benchmark.command_line" in loaded
    assert not loaded & {"torch", "numpy", "hydra", "matplotlib", "rich"}
