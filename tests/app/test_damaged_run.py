"""What the commands say about a run whose best checkpoint is damaged, and what then helps."""

import shutil
from pathlib import Path

import pytest
from runs import Runs, Script

from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


def damage(run: Run) -> None:
    """Change one bit of the best weights."""
    content = bytearray(run.checkpoint("best").read_bytes())
    content[-100] ^= 4
    run.checkpoint("best").write_bytes(content)


@pytest.fixture
def damaged(two_runs: Runs, tmp_path: Path) -> Run:
    """Return a run with damaged best weights."""
    shutil.copytree(two_runs.none, tmp_path / "damaged")
    damage(Run(tmp_path / "damaged"))
    return Run(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("translate", []),
        ("evaluate", ["--split", "test"]),
        ("score", ["--source", "lines", "--target", "lines"]),
    ],
)
def test_the_file_and_one_to_use_instead_are_named(
    command: str,
    options: list[str],
    damaged: Run,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines").write_text("one\n")
    done = script(command)(damaged.folder, *options, stdin="one\n")
    assert done.code == 2
    assert f"{damaged.checkpoint('best')}: damaged or truncated checkpoint (SHA-256 is" in done.err
    assert "or use last.safetensors in its place (whole, update " in done.err
    shutil.copy(damaged.checkpoint("last"), damaged.checkpoint("best"))
    done = script(command)(damaged.folder, *options, stdin="one\n")
    assert done.code == 0, done.err
