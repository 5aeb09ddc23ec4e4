"""train.py resumes a run: after a stop, a signal or a kill."""

import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TrainCommand, final_results
from fixture_types import AtUpdate, StartProcess
from train_output import assert_one_line, folders, snapshot

from seq2seq.runs import checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics

pytest_plugins = ["process_fixtures", "update_fixtures"]


# -- going on ---


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=0.5",
        "seed=2",
        "norm=none",
        "overwrite=true",
        "trainer.patience=3",
        "data.root=there",
        "hydra.run.dir=there",
    ],
)
def test_resume_refuses_settings_that_change_the_training(
    override: str, copied: Run, train_command: TrainCommand, tmp_path: Path
) -> None:
    before = snapshot(copied.folder)
    done = train_command(f"resume={copied.folder}", override)
    helps = "init_from=" if override.startswith("data.") else ", max_epochs"
    assert_one_line(done, 2, f"{override.partition('=')[0]}", helps)
    assert snapshot(copied.folder) == before
    assert not (tmp_path / "outputs").exists()


def test_resume_accepts_settings_that_do_not_change_the_training_so_far(
    copied: Run, train_command: TrainCommand, tmp_path: Path
) -> None:
    moved = tmp_path / "moved, a=b 'c'"
    shutil.move(copied.folder, moved)
    kept = [
        "trainer.device=cpu",
        "trainer.threads=1",
        "trainer.progress=false",
        "trainer.histograms=false",
        "data.mirror=there",
    ]
    done = train_command(f"resume={moved}", *kept)
    assert done.code == 0
    assert done.out.startswith("finished already")
    settings = moved / "config.yaml"
    settings.write_text(settings.read_text().replace("schedule: cosine", "schedule: constant"))
    done = train_command(f"resume={moved}", *kept, "trainer.max_epochs=4", "trainer.max_updates=20")
    assert done.code == 0, done.err
    resumed = Run(moved)
    assert final_results(resumed)["update"] == 20
    assert max(e["update"] for e in read_metrics(resumed.metrics_file)) == 20
    config = resumed.config()
    assert (config.data.mirror, config.resume, config.overwrite) == ("there", None, False)
    assert folders(tmp_path) == []


def test_a_run_started_with_overwrite_can_be_resumed(
    train_command: TrainCommand, toy: list[str], at_update: AtUpdate, tmp_path: Path
) -> None:
    at_update(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = train_command(*toy, "overwrite=true")
    assert stopped.code == 0
    folder = next(tmp_path.glob("outputs/toy/*"))
    saved = read_metrics(folder / "metrics.jsonl")
    done = train_command(f"resume={folder}")
    assert done.code == 0
    assert read_metrics(folder / "metrics.jsonl")[: len(saved)] == saved
    assert final_results(Run(folder))["update"] == 16


def wait_for_training(folder: Path, seconds: float = 300) -> None:
    """Wait until the first values are logged."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(
            len(read_metrics(file)) > 1 for file in Path(folder).glob("outputs/*/*/metrics.jsonl")
        ):
            return
        time.sleep(0.02)
    raise TimeoutError


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_printed_command_resumes(
    number: signal.Signals,
    code: int,
    process: StartProcess,
    train_command: TrainCommand,
    tmp_path: Path,
) -> None:
    running = process("trainer.max_epochs=10", "trainer.validate_every=1000")
    wait_for_training(tmp_path)
    running.send_signal(number)
    _, err = running.communicate(timeout=300)
    assert running.returncode == code
    line = re.fullmatch(
        r"train\.py: (\w+): saved at update (\d+); continue with: python train\.py (.*)\n", err
    )
    assert line, err
    assert line[1] == number.name
    assert 0 < int(line[2]) < 80
    done = train_command(*shlex.split(line[3]))
    assert done.code == 0, done.err
    metrics = next(tmp_path.glob("outputs/toy/*/metrics.jsonl"))
    updates = [e["update"] for e in read_metrics(metrics) if e["kind"] == "train"]
    assert updates == list(range(2, 81, 2))


KILLED_IN_A_WRITE = """
import os, signal, sys
sys.path.insert(0, {root!r})
from seq2seq.app.commands import train
from seq2seq.runs import checkpoint
flush, writes = os.fsync, []
def dying(number):
    name = os.path.basename(os.readlink(f"/proc/self/fd/{{number}}"))
    writes.append(name.startswith(".last"))
    if sum(writes) == 5:  # each write is flushed twice, before and after it is read back
        os.kill(os.getpid(), signal.SIGKILL)
    flush(number)
checkpoint.os.fsync = dying
train()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_kill_while_a_checkpoint_is_written_loses_no_earlier_checkpoint(
    process: StartProcess,
    train_command: TrainCommand,
    toy: list[str],
    finished: Run,
    tmp_path: Path,
) -> None:
    program = tmp_path / "killed.py"
    program.write_text(KILLED_IN_A_WRITE.format(root=str(ROOT)))
    running = process("trainer.checkpoint_every=3", program=(str(program),))
    assert running.wait(timeout=300) == -signal.SIGKILL
    killed = Run(next(tmp_path.glob("outputs/toy/*")))
    assert len(list(killed.checkpoints.glob(".last.safetensors.*.tmp"))) == 1
    assert checkpoint.load_checkpoint(killed.checkpoint("last"))[1]["progress"]["update"] == 6
    assert train_command(*toy, "trainer.checkpoint_every=3").code == 0
    last, expected = (
        checkpoint.load_checkpoint(r.checkpoint("last"))[0] for r in (killed, finished)
    )
    assert all(torch.equal(last[name], expected[name]) for name in expected)
    losses, all_losses = (
        [e["loss"] for e in read_metrics(r.metrics_file)] for r in (killed, finished)
    )
    assert losses == all_losses
    assert not list(killed.folder.rglob("*.tmp"))
