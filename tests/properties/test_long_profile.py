"""The properties once more, with lines of up to 1 MB and more examples."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_the_long_profile() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", str(HERE)],
        env={**os.environ, "SEQ2SEQ_PROPERTIES": "long"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
