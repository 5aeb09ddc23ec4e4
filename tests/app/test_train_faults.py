"""What happens around a training, and what it does then."""

import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from conftest import TrainCommand, TrainHere, final_results
from fixture_types import AtUpdate, StartProcess
from run_comparison import entries
from train_output import assert_one_line
from typed import present

from seq2seq.model import Translator
from seq2seq.runs.folder import Run
from seq2seq.training import validation

pytest_plugins = ["process_fixtures", "update_fixtures"]


@pytest.mark.parametrize("every", ["trainer.checkpoint_every=5", "trainer.log_every=5"])
def test_a_folder_that_is_removed_ends_the_training(
    every: str, train_command: TrainCommand, toy: list[str], at_update: AtUpdate, tmp_path: Path
) -> None:
    """It is not made again, as one that has only the later checkpoints."""
    run = tmp_path / "run"
    at_update(5, lambda: shutil.rmtree(run))
    done = train_command(*toy, every, f"hydra.run.dir={run}")
    assert_one_line(done, 1, "run: removed while it was trained")
    assert not run.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2000 bytes."
        ),
        MemoryError(),
    ],
    ids=["GPU", "CPU", "Python"],
)
def test_the_end_of_memory_names_the_batch_and_what_to_change(
    error: Exception,
    finished: Run,
    train_command: TrainCommand,
    train_here: TrainHere,
    toy: list[str],
    at_update: AtUpdate,
    tmp_path: Path,
) -> None:
    def fail() -> NoReturn:
        raise error

    at_update(5, fail)
    done = train_command(*toy, "trainer.checkpoint_every=3", f"hydra.run.dir={tmp_path / 'run'}")
    assert_one_line(done, 1, "update 5: out of memory in a batch of 30 sentences, ", "data.batch_")
    assert "out of memory" in (tmp_path / "run" / "failure.txt").read_text()
    at_update(0, fail)
    run = train_here(tmp_path / "run", "trainer.checkpoint_every=3")
    assert entries(run) == entries(finished)


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        (Translator, "forward", "update 1: out of memory in a batch of 30 sentences, "),
        (validation, "validation_bleu", "update 8: out of memory in the validation; try a smaller"),
    ],
)
def test_so_does_that_of_a_first_pass_and_of_a_validation(
    module: Any,
    name: str,
    expected: str,
    train_command: TrainCommand,
    toy: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(module, name, fail)
    assert_one_line(train_command(*toy, f"hydra.run.dir={tmp_path / 'run'}"), 1, expected)


def test_a_training_that_nobody_reads_goes_on(process: StartProcess, tmp_path: Path) -> None:
    """As `python train.py ... 2>&1 | head -0`."""
    running = process("trainer.progress=true", f"hydra.run.dir={tmp_path / 'run'}")
    for stream in (present(running.stdout), present(running.stderr)):
        stream.close()
    assert running.wait(timeout=300) == 0
    run = Run(tmp_path / "run")
    assert final_results(run)["update"] == 16
    assert not run.failure_file.exists()
