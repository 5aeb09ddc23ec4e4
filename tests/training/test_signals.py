"""Signals: training saves, stops, and can be resumed."""

import os
import signal
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
import torch
from conftest import TrainHere, final_results
from fixture_types import AtUpdate
from training_states import NewState, Scripted, fit_quietly

from seq2seq.errors import Stopped
from seq2seq.model import Translator
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.training import finish, loop, validation
from seq2seq.training.loop import train
from seq2seq.training.signals import on_stop
from seq2seq.training.state import TrainingState
from seq2seq.training.step import Unread, train_step

pytest_plugins = ["training_fixtures", "update_fixtures"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGUSR1, 0), (signal.SIGUSR2, 0)],
)
def test_a_signal_in_mid_update_saves_and_stops(
    number: Signals, code: int, new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(model: Translator, *arguments: Any) -> Unread:
        if t.progress.update == 2:
            os.kill(os.getpid(), number)
        return train_step(model, *arguments)

    monkeypatch.setattr(loop, "train_step", signalled)
    t, before = new_state(), signal.getsignal(number)
    with pytest.raises(Stopped, match="at update 3") as error:
        fit_quietly(t)
    assert error.value.exit_code == code
    assert f"python train.py resume={t.run.folder}" in str(error.value)
    saved, state = load_checkpoint(t.run.checkpoint("last"))
    assert state["progress"]["update"] == 3
    assert all(
        torch.equal(saved["model." + name], value) for name, value in t.model.state_dict().items()
    )
    assert signal.getsignal(number) is before


def test_a_signal_during_the_last_save_stops_the_run(
    new_state: NewState, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def signalled(self: TrainingState, name: str = "last") -> None:
        save(self, name)
        saved.append(name)
        if saved == ["best", "last"]:
            os.kill(os.getpid(), signal.SIGTERM)

    save, t = TrainingState.save, new_state("trainer.max_updates=2")
    scripted()
    monkeypatch.setattr(TrainingState, "save", signalled)
    with pytest.raises(Stopped, match="saved at update 2"):
        fit_quietly(t)


def test_a_signal_before_anything_is_saved_says_so(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "warm_up", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match=r"^SIGTERM: nothing to save yet; continue with: python"):
        train_here(tmp_path / "run")


def test_a_signal_during_a_validation_after_the_last_update_stops_the_run(
    new_state: NewState, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run has made its updates, but was never validated."""

    def signalled(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    t = new_state("trainer.max_updates=2")
    t.progress.update = 2
    scripted()
    monkeypatch.setattr(validation, "keep_best", signalled)
    with pytest.raises(Stopped, match="saved at update 2"):
        fit_quietly(t)


def test_the_first_signal_decides_the_exit_code(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(model: Translator, *arguments: Any) -> Unread:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        return train_step(model, *arguments)

    monkeypatch.setattr(loop, "train_step", signalled)
    with pytest.raises(Stopped, match="SIGTERM: saved at update 1") as error:
        fit_quietly(new_state())
    assert error.value.exit_code == 0


def test_a_second_interrupt_ends_immediately(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "train_step", interrupted)
    t = new_state()
    with pytest.raises(KeyboardInterrupt):
        fit_quietly(t)


def test_a_second_signal_to_end_is_one_more_request() -> None:
    """A cluster may send it twice while the run is saved."""
    received: list[int] = []
    with on_stop(received.append):
        try:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pytest.fail("only a second Ctrl-C interrupts")
    assert received == [signal.SIGTERM] * 2


def test_every_handler_that_queues_the_job_again_is_called() -> None:
    """Also where another signal has come first, whose former handler is not called."""
    called: list[int] = []
    numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
    before = {n: signal.signal(n, lambda number, _: called.append(number)) for n in numbers}
    try:
        with on_stop(lambda number: None):
            for number in numbers:
                os.kill(os.getpid(), number)
        assert called == [signal.SIGUSR1, signal.SIGUSR2]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_handler_that_queues_the_job_again_is_called_after_saving(
    train_here: TrainHere, tmp_path: Path, at_update: AtUpdate
) -> None:
    """As that of submitit, which leaves with an exit code of its own."""
    run, saved = Run(tmp_path / "run"), []

    def queue_again(*_: object) -> None:
        saved.append(load_checkpoint(run.checkpoint("last"))[1]["progress"]["update"])
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        at_update(3, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        with pytest.raises(SystemExit) as left:
            train_here(run.folder)
        assert signal.getsignal(signal.SIGUSR2) is queue_again
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (left.value.code, saved) == (-1, [3])


def test_a_run_stopped_in_its_final_evaluation_can_be_resumed(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    config, run = (
        train_here.config("norm=batch", "norm.min_rows=2", "trainer.average_last=2"),
        Run(tmp_path / "run"),
    )
    monkeypatch.setattr(finish, "score_split", signalled)
    with pytest.raises(Stopped, match="SIGTERM: saved at update 16") as stopped:
        train(config, run)
    assert stopped.value.exit_code == 0
    before = {name: load_checkpoint(run.checkpoint(name))[0] for name in ("last", "best")}
    monkeypatch.undo()
    results = train(config, run)
    options = ("norm=batch", "norm.min_rows=2", "trainer.average_last=2")
    other = final_results(train_here(tmp_path / "other", *options))
    for key in (
        "valid",
        "test",
        "valid_loss",
        "valid_loss_batch_statistics",
        "update",
        "best_update",
    ):
        assert results[key] == other[key]
    for name, expected in before.items():
        found = load_checkpoint(run.checkpoint(name))[0]
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
