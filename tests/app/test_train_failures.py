"""train.py fails: one line of error, the right exit code, and nothing lost."""

import math
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TrainCommand
from fixture_types import AtUpdate
from runs import Script
from train_output import SHORT, assert_one_line

from seq2seq.errors import TrainingError
from seq2seq.runs import checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import validation

pytest_plugins = ["run_fixtures", "update_fixtures"]


# -- failures ---


def test_a_loss_that_is_not_finite_ends_the_run(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    rates = [
        "optimizer=sgd",
        "optimizer.lr=1000",
        "optimizer.weight_decay=10",
        "optimizer.clip_norm=0",
        "optimizer.warmup_updates=0",
    ]
    done = train_command(*toy, *rates, "trainer.max_skipped=0", "trainer.checkpoint_every=1")
    assert_one_line(
        done,
        1,
        "lr 1e+03",
        "not finite, 1 in a row; try a lower",
        "last checkpoint: last, update ",
    )
    (folder,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    assert not (folder / "results.json").exists()
    assert "not finite" in (folder / "failure.txt").read_text()
    assert Run(folder).state() == "diverged"
    repaired = train_command(*toy, f"hydra.run.dir='{folder}'", "overwrite=true", *SHORT)
    assert repaired.code == 0
    assert not (folder / "failure.txt").exists()


@pytest.mark.parametrize(
    "override",
    [
        "model.hidden_size=47",
        "data.train.source=nowhere.txt",
        pytest.param(
            "trainer.device=cuda",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_a_run_that_cannot_start_stores_the_reason_and_no_configuration(
    override: str, train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    place = f"hydra.run.dir={tmp_path / 'here'}"
    done = train_command(*toy, override, place)
    assert done.code == 2
    assert (tmp_path / "here" / "failure.txt").read_text().strip() in done.err
    assert not (tmp_path / "here" / "config.yaml").exists()
    assert (
        train_command(*toy, *SHORT, place).code == 0
    )  # the folder holds no run of another configuration
    assert not (tmp_path / "here" / "failure.txt").exists()


def test_no_failure_is_written_into_a_locked_folder(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    with Run(tmp_path / "here").locked():
        assert train_command(*toy, f"hydra.run.dir={tmp_path / 'here'}").code == 2
    assert not (tmp_path / "here" / "failure.txt").exists()


@pytest.mark.parametrize(
    ("file", "damage", "part"),
    [
        ("config.yaml", lambda _: b"seed: [", "config.yaml: not a configuration"),
        ("metrics.jsonl", lambda whole: b"x" + whole, "metrics.jsonl:1: not a JSON object"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    file: str, damage: Callable[..., Any], part: str, copied: Run, train_command: TrainCommand
) -> None:
    text = copied.config_file.read_text()
    copied.config_file.write_text(text.replace("schedule: cosine", "schedule: constant"))
    (copied.folder / file).write_bytes(damage((copied.folder / file).read_bytes()))
    assert_one_line(train_command(f"resume={copied.folder}", "trainer.max_epochs=3"), 2, part)


def test_a_checkpoint_of_another_architecture_is_refused(
    copied: Run, train_command: TrainCommand
) -> None:
    text = copied.config_file.read_text()
    copied.config_file.write_text(text.replace("hidden_size: 48", "hidden_size: 64"))
    done = train_command(f"resume={copied.folder}", "trainer.max_epochs=3")
    assert_one_line(done, 2, "last.safetensors: a checkpoint of another architecture", "(48")


def test_a_run_with_logged_values_that_are_not_finite_can_be_compared_and_resumed(
    train_command: TrainCommand,
    toy: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_update: AtUpdate,
    script: Script,
) -> None:
    def diverge() -> None:
        raise TrainingError("update 3, lr 1: loss nan is not finite")

    monkeypatch.setattr(validation, "teacher_forced_loss", lambda *_: math.nan)
    at_update(3, diverge)
    assert train_command(*toy, "trainer.validate_every=1").code == 1
    folder = next(tmp_path.glob("outputs/toy/*"))
    assert [e["loss"] for e in read_metrics(folder / "metrics.jsonl") if e["kind"] == "valid"] == [
        None,
        None,
    ]
    compared = script("compare")(folder, "--out", tmp_path / "out")
    assert (compared.code, compared.err) == (0, "")
    assert "left out: failed: update 3, lr " in compared.out
    at_update(0, diverge)
    resumed = train_command(f"resume={folder}")
    assert (resumed.code, resumed.err) == (0, "")
    assert script("compare")(folder, "--out", tmp_path / "out").code == 0


def check_full_disk(
    full: Callable[[], None],
    room: Callable[[], None],
    toy: list[str],
    train_command: TrainCommand,
    at_update: AtUpdate,
    finished: Run,
    place: Path,
    message: str,
) -> None:
    """Fill the disk during a run, make room again and resume.

    The result equals that of a run that was never stopped.
    """
    at_update(5, full)
    command = (*toy, "trainer.checkpoint_every=3", f"hydra.run.dir={place}")
    try:
        done = train_command(*command)
    finally:
        room()
    assert_one_line(done, 1, f"{place.name}{os.sep}", message)
    at_update(0, full)
    assert checkpoint.load_checkpoint(Run(place).checkpoint("last"))[1]["progress"]["update"] == 3
    assert train_command(*command).code == 0
    last, expected = (
        checkpoint.load_checkpoint(r.checkpoint("last"))[0] for r in (Run(place), finished)
    )
    assert all(torch.equal(last[name], expected[name]) for name in expected)


def test_a_file_size_limit_loses_no_checkpoint(
    toy: list[str], train_command: TrainCommand, at_update: AtUpdate, finished: Run, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    check_full_disk(
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        toy,
        train_command,
        at_update,
        finished,
        tmp_path / "run",
        "File too large",
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MB; skip the test where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_loses_no_checkpoint(
    toy: list[str],
    train_command: TrainCommand,
    at_update: AtUpdate,
    finished: Run,
    small_disk: Path,
) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass

    check_full_disk(
        fill,
        filler.unlink,
        toy,
        train_command,
        at_update,
        finished,
        small_disk / "run",
        "No space left on device",
    )
