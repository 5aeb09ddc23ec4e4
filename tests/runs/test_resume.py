"""A resumed run equals one that was never stopped."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from fixture_types import AtUpdate
from run_comparison import (
    assert_same,
    entries,
    results,
    snapshot,
    stop_here,
    tensors,
    without_times,
)
from typed import present

from seq2seq.errors import Stopped
from seq2seq.runs.checkpoint import load_checkpoint, save_checkpoint
from seq2seq.runs.folder import Run, RunError, Status
from seq2seq.training.loop import train
from seq2seq.training.state import initial_state

pytest_plugins = ["update_fixtures"]


class Killed(BaseException):
    """Simulates the end of a process: no code catches it."""


def die() -> None:
    raise Killed


# -- exact resume ---


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        (["model.dropout=0.3", "trainer.r_drop=4"], [5, 4]),
        (["trainer.average_best=2", "trainer.validate_every=3", "model.dropout=0.3"], [7]),
        (["tokenizer=bpe", "tokenizer.vocab_size=30", "tokenizer.bpe_dropout=0.5"], [5, 4]),
        (
            [
                "norm=batch",
                "norm.min_rows=2",
                "trainer.average_last=2",
                "trainer.validate_every=5",
                "trainer.log_every=3",
            ],
            [7],
        ),
        (
            [
                "optimizer=sgd",
                "optimizer.lr=0.3",
                "optimizer.momentum=0.9",
                "optimizer.accumulate=3",
                "cell=gru",
                "trainer.precision=bf16",
                "model.variational=true",
                "model.recurrent_dropout=0.3",
                "model.word_dropout=0.2",
                "trainer.validate_every=1",
                "trainer.best_metric=loss",
            ],
            [2],
        ),
    ],
)
def test_a_stopped_run_resumes_exactly(
    settings: list[str],
    stops: list[int],
    train_here: TrainHere,
    tmp_path: Path,
    at_update: AtUpdate,
) -> None:
    whole = train_here(tmp_path / "whole", *settings)
    for update in stops:
        at_update(update, stop_here())
        with pytest.raises(Stopped):
            train_here(tmp_path / "stopped", *settings)
    at_update(0, die)
    assert Run(tmp_path / "stopped").status(train_here.config(*settings)) is Status.unfinished
    assert_same(train_here(tmp_path / "stopped", *settings), whole)


@pytest.mark.parametrize(("checkpoint_every", "dies_at"), [(3, 8), (3, 12), ("null", 5)])
def test_a_killed_run_resumes_from_its_last_checkpoint(
    checkpoint_every: int | str,
    dies_at: int,
    finished: Run,
    train_here: TrainHere,
    tmp_path: Path,
    at_update: AtUpdate,
) -> None:
    setting = f"trainer.checkpoint_every={checkpoint_every}"
    at_update(dies_at, die)
    with pytest.raises(Killed):
        train_here(tmp_path / "run", setting)
    at_update(0, die)
    assert entries(Run(tmp_path / "run")) != entries(finished)
    assert_same(train_here(tmp_path / "run", setting), finished)


@pytest.mark.parametrize(
    "moment", ["before the rename", "best alone is written", "before the results"]
)
def test_a_run_killed_while_it_saves_resumes(
    moment: str,
    finished: Run,
    train_here: TrainHere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace_file, times = os.replace, []

    def dying(source: str, target: str) -> None:
        name = os.path.basename(target)
        times.append(name)
        if moment == "before the rename" and times.count("last.safetensors") == 3:
            shutil.copy(
                source, os.path.join(os.path.dirname(target), ".last.safetensors.1.tmp")
            )  # as it remains after a kill
            raise Killed
        if moment == "before the results" and name == "results.json":
            raise Killed
        replace_file(source, target)
        if (
            moment == "best alone is written"
            and times.count("best.safetensors") == 1
            and name == "best.safetensors"
        ):
            raise Killed

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        train_here(tmp_path / "run", "trainer.checkpoint_every=3")
    monkeypatch.undo()
    run = train_here(tmp_path / "run", "trainer.checkpoint_every=3")
    assert_same(run, finished)
    assert not list(run.folder.rglob("*.tmp"))


def test_a_finished_run_can_be_extended(
    train_here: TrainHere, tmp_path: Path, at_update: AtUpdate
) -> None:
    settings = ["optimizer.schedule=constant", "trainer.best_metric=loss"]
    whole = train_here(tmp_path / "whole", *settings, "trainer.max_epochs=3")
    run = train_here(tmp_path / "run", *settings)
    config = run.config()
    longer = replace(config, resume=str(run.folder), trainer=replace(config.trainer, max_epochs=3))
    at_update(3, stop_here())
    with pytest.raises(Stopped):
        train(longer, run)
    assert run.results() is None  # the results of the shorter training are removed
    at_update(0, die)
    train(replace(run.config(), resume=str(run.folder)), run)
    assert without_times(results(run)) == without_times(results(whole))
    assert entries(run) == entries(whole)
    assert torch.equal(
        tensors(run, "best")["model.output.weight"], tensors(whole, "best")["model.output.weight"]
    )
    assert run.config().trainer.max_epochs == 3


def changed(lines: list[str]) -> list[str]:
    """Return lines of which the last is another one."""
    return [*lines[:-1], "do do\n"]


def turned(lines: list[str]) -> list[str]:
    """Return the lines in another order."""
    return lines[::-1]


@pytest.mark.parametrize(
    ("split", "other", "said"),
    [
        ("train", changed, "trained on other text"),
        ("train", turned, "trained on other text"),
        ("valid", changed, "validated on other text"),
    ],
)
def test_resuming_with_other_text_is_refused(
    copied: Run, tmp_path: Path, split: str, other: Callable[[list[str]], list[str]], said: str
) -> None:
    config = copied.config()
    files = getattr(config.data, split)
    for side in ("source", "target"):
        lines = Path(present(getattr(files, side))).read_text(encoding="utf-8").splitlines(True)
        path = tmp_path / f"other.{side}"
        path.write_text("".join(other(lines)), encoding="utf-8")
        setattr(files, side, str(path))
    copied.results_file.unlink()
    copied.save_config(config)
    before = snapshot(copied.folder)
    with pytest.raises(RunError, match=rf"last\.safetensors: {said}"):
        train(config, copied)
    assert snapshot(copied.folder) == before


def test_a_checkpoint_of_an_older_version_says_nothing_of_its_text(copied: Run) -> None:
    state = initial_state(copied.config(), copied)
    path = copied.checkpoint("last")
    found, header = load_checkpoint(path)
    del header["corpus"]["train"], header["corpus"]["valid"]
    save_checkpoint(path, found, header)
    assert state.restore() == []


@pytest.mark.parametrize(("limit", "end"), [("max_epochs", 1), ("max_updates", 15)])
def test_an_end_that_the_training_has_passed_is_refused(limit: str, end: int, copied: Run) -> None:
    config = copied.config()
    setattr(config.trainer, limit, end)
    config.resume = str(copied.folder)
    before = snapshot(copied.folder)
    with pytest.raises(
        RunError, match=rf"{limit}={end}: expected an end after .*: 2 whole epochs, 16 updates"
    ):
        train(config, copied)
    assert snapshot(copied.folder) == before
