"""init_from=RUN: what is said about its weights, and what has to be the same when it goes on."""

import shutil
from pathlib import Path

import pytest
from runs import Command

from seq2seq.runs.folder import Run
from seq2seq.training.state import TrainingState

pytest_plugins = ["run_fixtures"]


def settings(toy: list[str], folder: Path) -> list[str]:
    """Settings of one update on the toy corpus, without those of an architecture."""
    kept = [override for override in toy if override.split("=")[0] not in ("tokenizer", "model")]
    short = ["trainer.max_updates=1", "optimizer.schedule=constant"]
    return [*kept, *short, f"hydra.run.dir={folder}"]


def test_weights_of_a_run_that_has_not_finished_are_said_to_be(
    copied: Run, toy: list[str], train_command: Command, tmp_path: Path
) -> None:
    line = f"init_from={copied.folder}: its best weights, of update "
    for folder, end in ((tmp_path / "a", ""), (tmp_path / "b", "; that run has not finished")):
        done = train_command(f"init_from={copied.folder}", *settings(toy, folder))
        assert done.code == 0, done.err
        [found] = [text for text in done.out.splitlines() if text.startswith(line)]
        assert found.removeprefix(line).lstrip("0123456789") == end
        copied.results_file.unlink(missing_ok=True)


def test_a_run_without_a_checkpoint_goes_on_from_the_same_weights_alone(
    copied: Run,
    toy: list[str],
    train_command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has noted which weights it began with, though it could not save them."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(TrainingState, "save", fail)
        done = train_command(f"init_from={copied.folder}", *settings(toy, run.folder))
        assert done.code == 1
    assert run.origin() == copied.as_origin()
    assert run.resumable() == []
    right = copied.checkpoint("best").read_bytes()
    shutil.copyfile(copied.checkpoint("last"), copied.checkpoint("best"))
    done = train_command(f"resume={run.folder}")
    assert done.code == 2
    assert "began with other weights" in done.err
    copied.checkpoint("best").write_bytes(right)
    assert train_command(f"resume={run.folder}").code == 0
    assert run.state() == "finished"
