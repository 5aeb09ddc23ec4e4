"""A signal during a validation: it is cut short, the run saves, and validates when resumed."""

import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import TrainHere
from fixture_types import AtUpdate
from run_comparison import assert_same, stop_here
from two_processes import one_of_two, run_together, variables

from seq2seq.errors import Stopped
from seq2seq.runs.checkpoint import read_state
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import validation
from seq2seq.training.loop import train
from seq2seq.training.signals import CutShort, cut_short_by_signals

pytest_plugins = ["update_fixtures"]

OPTIONS = ["norm=batch", "norm.min_rows=2", "model.dropout=0.3", "trainer.average_best=2"]


def stopped_in(patch: pytest.MonkeyPatch, name: str, call: int = 1) -> None:
    """Send a signal at the n-th call of this function of a validation, which never returns."""
    measured, calls = getattr(validation, name), []

    def signalled(*given: Any) -> Any:
        calls.append(given)
        return never() if len(calls) == call else measured(*given)

    patch.setattr(validation, name, signalled)


def never() -> NoReturn:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    raise AssertionError("the validation went on")


def validated(run: Run) -> list[int]:
    return [e["update"] for e in read_metrics(run.metrics_file) if e["kind"] == "valid"]


@pytest.mark.parametrize(
    ("name", "call", "update"),
    [("teacher_forced_loss", 1, 8), ("validation_bleu", 1, 8), ("validation_bleu", 2, 16)],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    name: str, call: int, update: int, train_here: TrainHere, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        stopped_in(patch, name, call)
        with pytest.raises(Stopped, match=f"SIGTERM: saved at update {update};"):
            train(train_here.config(*OPTIONS), run)
    assert read_state(run.checkpoint("last"))["validation_owed"]
    assert validated(run) == [8, 16][: call - 1]
    train(train_here.config(*OPTIONS), run)
    assert_same(run, train_here(tmp_path / "whole", *OPTIONS))


def test_after_a_signal_no_validation_begins(
    train_here: TrainHere, tmp_path: Path, at_update: AtUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, measured = Run(tmp_path / "run"), list[object]()
    monkeypatch.setattr(validation, "teacher_forced_loss", lambda *_: measured.append(0))
    at_update(8, stop_here())
    with pytest.raises(Stopped, match="saved at update 8;"):
        train(train_here.config(*OPTIONS), run)
    assert measured == []
    assert not run.checkpoint("best").exists()


def test_what_is_owed_at_an_end_that_has_moved_is_left(
    train_here: TrainHere, tmp_path: Path, at_update: AtUpdate
) -> None:
    run, constant = Run(tmp_path / "run"), "optimizer.schedule=constant"
    at_update(3, stop_here())
    with pytest.raises(Stopped, match="saved at update 3;"):
        train(train_here.config(constant, "trainer.max_updates=3"), run)
    at_update(0, stop_here())
    train(train_here.config(constant, "trainer.max_updates=5", f"resume={run.folder}"), run)
    assert validated(run) == [5]


def test_a_second_signal_does_not_break_into_the_way_out() -> None:
    received, left = list[int](), list[str]()

    @cut_short_by_signals(received)
    def measure() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            left.append("cleaned up")

    with pytest.raises(CutShort):
        measure()
    assert (received, left) == ([signal.SIGTERM] * 2, ["cleaned up"])


def main_gets_a_signal(rank: int, *given: Any) -> None:
    """Train as `one_of_two`; the main process is asked to stop in its first validation."""
    if rank == 0:
        stopped_in(pytest.MonkeyPatch(), "validation_bleu")
    one_of_two(rank, *given)


def test_two_processes_leave_a_validation_together(toy: list[str], tmp_path: Path) -> None:
    options = [*toy, "hydra.run.dir=two", "norm=layer"]
    run_together(main_gets_a_signal, (options, tmp_path, variables()))
    assert "SIGTERM: saved at update 8" in (tmp_path / "output0").read_text()
    run_together(one_of_two, (options, tmp_path, variables()))
    assert validated(Run(tmp_path / "two")) == [8, 16]
