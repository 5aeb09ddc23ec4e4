"""Another end for a training that has begun."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Done, TrainCommand, TrainHere, final_results
from fixture_types import AtUpdate
from run_comparison import snapshot, stop_here

from seq2seq.errors import Stopped
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training.loop import train

pytest_plugins = ["update_fixtures"]


def resume(run: Run, **limits: int | None) -> None:
    """Train a run on, as resume=RUN trainer.LIMIT=N does."""
    config = run.config()
    trainer = replace(config.trainer, **limits)  # type: ignore[arg-type]
    train(replace(config, resume=str(run.folder), trainer=trainer), run)


def rates(run: Run) -> dict[int, float]:
    """The learning rate of each logged update."""
    entries = read_metrics(run.metrics_file)
    return {e["update"]: e["lr"] for e in entries if e["kind"] == "train"}


@pytest.mark.parametrize(
    ("limits", "floor"), [({"max_epochs": 3}, 0.0), ({"max_updates": 99, "max_epochs": None}, 0.1)]
)
def test_a_finished_cosine_does_not_rise_again(
    limits: dict[str, int | None], floor: float, train_here: TrainHere, tmp_path: Path
) -> None:
    run = train_here(tmp_path / "run", f"optimizer.min_lr_ratio={floor}")
    before = snapshot(run.folder)
    with pytest.raises(RunError) as refused:
        resume(run, **limits)
    said = str(refused.value)
    assert said.startswith(f"trainer.{'max_updates=99' if 'max_updates' in limits else 'max'}")
    assert f"would rise from {0.01 * floor:.3g} to " in said
    assert f"init_from={run.folder} starts a new schedule" in said
    assert len(said) - 2 * len(str(run.folder)) < 200
    assert snapshot(run.folder) == before


def test_an_interrupted_cosine_says_what_becomes_of_the_rate(
    train_here: TrainHere,
    tmp_path: Path,
    at_update: AtUpdate,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at_update(11, stop_here())
    with pytest.raises(Stopped):
        train_here(tmp_path / "run", "trainer.log_every=1")
    run = Run(tmp_path / "run")
    [before] = [rate for update, rate in rates(run).items() if update == 11]
    capsys.readouterr()
    at_update(0, stop_here())
    resume(run, max_epochs=3)
    [said] = re.findall("^trainer.max_epochs=3: .*$", capsys.readouterr().out, re.MULTILINE)
    now, was = map(float, re.findall(r"about (\S+) instead of (\S+)$", said)[0])
    assert was < before < now
    assert now == pytest.approx(rates(run)[12], rel=0.15)
    resume(run)
    assert "learning rate" not in capsys.readouterr().out


def test_a_training_that_ended_in_its_warm_up_goes_on(
    train_here: TrainHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_here(tmp_path / "run", "optimizer.warmup_updates=50", "trainer.max_epochs=1")
    resume(run, max_epochs=2)
    assert "the learning rate after" not in capsys.readouterr().out
    assert rates(run)[16] == pytest.approx(0.01 * 16 / 50)


@pytest.mark.parametrize(
    "schedule",
    [*(pytest.param(s, marks=pytest.mark.slow) for s in ("constant", "inverse_sqrt")), "plateau"],
)
def test_other_schedules_go_on_without_a_word(
    schedule: str, train_here: TrainHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"optimizer.schedule={schedule}", "trainer.best_metric=loss"]
    whole = train_here(tmp_path / "whole", *settings, "trainer.max_epochs=3")
    run = train_here(tmp_path / "run", *settings)
    capsys.readouterr()
    resume(run, max_epochs=3)
    assert "learning rate" not in capsys.readouterr().out
    assert rates(run) == rates(whole)


def test_a_training_without_patience_left_has_no_other_end(
    train_here: TrainHere, tmp_path: Path
) -> None:
    settings = ("trainer.patience=1", "trainer.validate_every=2", "optimizer.lr=1e-12")
    run = train_here(tmp_path / "run", *settings, "optimizer.schedule=constant")
    assert final_results(run)["update"] < 16
    before = snapshot(run.folder)
    ended = r"^trainer.max_epochs=3: trainer.patience=1 has ended the training before; init_from="
    with pytest.raises(RunError, match=ended):
        resume(run, max_epochs=3)
    assert snapshot(run.folder) == before


@pytest.mark.parametrize(
    "end", ["trainer.max_epochs=null", "data.epochs=0", "trainer.max_epochs=0"]
)
def test_a_training_without_an_end_is_refused(end: str, train_command: TrainCommand) -> None:
    done: Done = train_command(end, "optimizer.schedule=constant")
    assert done.code == 2
    assert re.match(rf"train.py: {re.escape(end)}: expected ", done.err)


def test_a_training_that_ends_in_its_warm_up_says_so(
    train_here: TrainHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_here(tmp_path / "run", "trainer.max_updates=3", "optimizer.warmup_updates=6")
    said = "optimizer.warmup_updates=6: the training has about 3 updates, so its learning rate"
    assert (
        f"\n{said} rises to 0.5 of optimizer.lr and never reaches it\n" in capsys.readouterr().out
    )
    train_here(tmp_path / "other", "trainer.max_updates=3", "optimizer.warmup_updates=3")
    assert "optimizer.warmup_updates" not in capsys.readouterr().out
