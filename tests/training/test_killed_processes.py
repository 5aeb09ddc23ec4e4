"""What becomes of a training on several processes when one ends, and on another number of them."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import TrainHere
from run_comparison import assert_same
from two_processes import (
    ENVIRONMENT,
    LIMIT,
    ROOT,
    TORCHRUN,
    StartTwo,
    losses,
    one_of_two,
    run_together,
    variables,
)
from update_actions import acting_at

from seq2seq.runs.folder import Run
from seq2seq.training import loop

pytest_plugins = ["two_process_fixtures"]

PLAIN = ["norm=layer", "model.dropout=0", "trainer.log_every=1"]


def one_gets_a_signal(rank: int, *given: Any) -> None:
    """Train as `one_of_two`; the second process alone is asked to stop in update 5."""
    if rank == 1:
        stopping = acting_at(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        pytest.MonkeyPatch().setattr(loop, "train_step", stopping)
    one_of_two(rank, *given)


def test_two_stopped_processes_go_on_as_one(
    toy: list[str], train_here: TrainHere, tmp_path: Path
) -> None:
    """One of them is asked to stop, and both save together; then one trains both shares."""
    run_together(one_gets_a_signal, ([*toy, "hydra.run.dir=moved", *PLAIN], tmp_path, variables()))
    assert "SIGTERM: saved at update 5" in (tmp_path / "output0").read_text()
    train_here(tmp_path / "moved", *PLAIN)
    train_here(tmp_path / "one", *PLAIN)
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


KILLED = """
import os, signal, sys
sys.path[:0] = [{path!r}]
from update_actions import acting_at
from seq2seq.app.commands import train
from seq2seq.training import loop
if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    loop.train_step = acting_at(8, lambda: os.kill(os.getpid(), signal.SIGKILL))
train()
"""


@pytest.mark.slow
def test_torchrun_starts_again_after_a_kill_and_the_training_goes_on(
    start_two: StartTwo, toy: list[str], tmp_path: Path
) -> None:
    options = ["norm=batch", "norm.min_rows=2", "model.dropout=0.3", "trainer.checkpoint_every=3"]
    start_two("whole", *options)
    program = tmp_path / "killed.py"
    program.write_text(KILLED.format(path=str(ROOT / "tests")))
    running = subprocess.run(
        [*TORCHRUN, "--max-restarts=1", program, *toy, "hydra.run.dir=killed", *options],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT,
    )
    assert running.returncode == 0, running.stderr
    assert "another process of this training has ended" in running.stderr
    run = Run(tmp_path / "killed")
    run.overrides_file.unlink()
    (tmp_path / "whole" / "overrides.yaml").unlink()
    assert_same(run, Run(tmp_path / "whole"))
