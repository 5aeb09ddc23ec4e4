"""Validation in the loop: the best weights, patience, the plateau, averaged checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from training_states import Fitted, NewState, Scripted, training_entries, weights

from seq2seq.config import DecodeConfig, Metric
from seq2seq.errors import Diverged
from seq2seq.probes import Subject
from seq2seq.runs.checkpoint import average_weights, group, load_checkpoint, read_state
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training import evaluation, validation
from seq2seq.training.state import TrainingState
from seq2seq.translation.lines import Session

pytest_plugins = ["training_fixtures"]


@pytest.mark.parametrize(
    ("metric", "best_update", "score"), [(Metric.bleu, 2, 3.0), (Metric.loss, 3, -1.0)]
)
def test_the_metric_decides_which_is_best(
    metric: Metric, best_update: int, score: float, fitted: Fitted
) -> None:
    t = fitted(
        f"trainer.best_metric={metric.value}",
        "trainer.validate_every=1",
        "trainer.max_updates=4",
        bleus=[1.0, 3.0, 2.0, 2.5],
        losses=[4.0, 2.0, 1.0, 1.5],
    )
    assert (t.progress.best, t.progress.best_update) == (score, best_update)
    state = load_checkpoint(t.run.checkpoint("best"))[1]
    assert state["progress"]["update"] == best_update
    assert load_checkpoint(t.run.checkpoint("last"))[1]["progress"]["update"] == 4


def test_patience_ends_training(fitted: Fitted) -> None:
    t = fitted(
        "trainer.patience=3",
        "trainer.validate_every=1",
        "trainer.max_updates=20",
        bleus=[1.0, 3.0, 2.0, 3.0, 2.0, 9.0],
    )
    assert (t.progress.update, t.progress.best_update) == (5, 2)


def test_a_model_that_translates_nothing_has_diverged(new_state: NewState) -> None:
    t = new_state()
    t.model.output.bias.data.fill_(float("nan"))
    with (
        Logbook(t.run.folder, 0, progress=False) as logbook,
        pytest.raises(Diverged, match=r"^diverged: update 0, lr .*: validation: .* not finite;"),
    ):
        validation.validate(t, logbook, [])


def test_the_logged_loss_is_without_dropout(new_state: NewState) -> None:
    t = new_state("model.dropout=0.5")
    t.model.train()
    with Logbook(t.run.folder, 0, progress=False) as logbook:
        validation.validate(t, logbook, [])
    assert t.model.training
    expected = evaluation.teacher_forced_loss(t.model.eval(), t.valid_set, t.config)
    assert [e["loss"] for e in read_metrics(t.run.metrics_file)] == [expected]


def test_validation_is_greedy_whatever_the_configured_beam(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, session = [], Subject.session

    def noted(self: Subject, decode: DecodeConfig) -> Session:
        asked.append(decode)
        return session(self, decode)

    monkeypatch.setattr(Subject, "session", noted)
    t = new_state("decode.beam_size=3")
    evaluation.validation_bleu(t.subject, t.valid_set)
    assert asked == [replace(t.config.decode, beam_size=1)]


def test_a_plateau_lowers_the_rate(fitted: Fitted) -> None:
    t = fitted(
        "optimizer.schedule=plateau",
        "optimizer.plateau_factor=0.1",
        "optimizer.plateau_patience=2",
        "optimizer.lr=0.5",
        "optimizer.warmup_updates=0",
        "trainer.log_every=1",
        "trainer.validate_every=1",
        "trainer.max_updates=7",
        bleus=[1.0, 0.9, 2.0, 1.9, 1.8, 1.7, 1.6],
    )
    rates = [entry["lr"] for entry in training_entries(t)]
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5, 0.05, 0.05])


def kept_files(run: Run) -> list[int]:
    return [int(path.stem.removeprefix("update-")) for path in kept_paths(run)]


def kept_paths(run: Run) -> list[Path]:
    return sorted(run.checkpoints.glob("update-*"))


BEST = ("trainer.average_best=2", "trainer.validate_every=2", "trainer.best_metric=loss")


def test_the_best_checkpoints_are_averaged(
    train_here: TrainHere, scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted([0.0], [3.0, 1.0, 2.0, 2.0, 2.5])
    monkeypatch.setattr(evaluation, "teacher_forced_loss", lambda *_, **__: 1.0)
    run = train_here(tmp_path / "run", *BEST, "trainer.max_updates=10")
    assert kept_files(run) == [4, 6], "the earlier one of equal losses"
    assert [read_state(path)["standing"] for path in kept_paths(run)] == [[-1.0], [-2.0]]
    best, state = load_checkpoint(run.checkpoint("best"))
    assert state["averaged"] == ["update-000000004", "update-000000006"]
    expected = average_weights(kept_paths(run))
    assert all(torch.equal(group(best, "model")[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("updates", "loss", "said"),
    [
        (2, 1.0, "trainer.average_best=3: no average (of 1 validation in all)"),
        (4, 1.0, "is of 2 checkpoints (of 2 validations in all); it is the final model"),
        (6, 9.0, "is of 3 checkpoints; the best checkpoint alone is better, and is kept"),
    ],
)
def test_the_log_says_how_many_checkpoints_are_averaged(
    updates: int,
    loss: float,
    said: str,
    train_here: TrainHere,
    scripted: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scripted([0.0], [3.0, 2.0, 2.5])
    monkeypatch.setattr(evaluation, "teacher_forced_loss", lambda *_, **__: loss)
    asked = ("trainer.average_best=3", f"trainer.max_updates={updates}")
    train_here(tmp_path / "run", *BEST[1:], *asked)
    assert capfd.readouterr().out.count(said) == 1


@pytest.mark.parametrize("dies_after", [1, 2])
def test_a_run_killed_while_it_keeps_the_best_checkpoints_resumes_exactly(
    dies_after: int, train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new checkpoint is there and the one that it replaces too, or is there no longer."""

    class Killed(BaseException):
        pass

    options = (*BEST, "trainer.max_updates=10")
    whole = train_here(tmp_path / "whole", *options)
    keep, calls = validation.keep_for_average, [0]

    def killed(state: TrainingState, numbers: list[float]) -> None:
        calls[0] += 1
        with monkeypatch.context() as patch:
            if calls[0] == 4 and dies_after == 1:
                patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(Killed))
            keep(state, numbers)
        if calls[0] == 4:
            raise Killed

    monkeypatch.setattr(validation, "keep_for_average", killed)
    with pytest.raises(Killed):
        train_here(tmp_path / "killed", *options)
    assert len(kept_files(Run(tmp_path / "killed"))) == (3 if dies_after == 1 else 2)
    monkeypatch.undo()
    run = train_here(tmp_path / "killed", *options)
    assert kept_files(run) == kept_files(whole)
    for path, other in zip(
        (run.checkpoint("best"), *kept_paths(run)),
        (whole.checkpoint("best"), *kept_paths(whole)),
        strict=True,
    ):
        ours, theirs = load_checkpoint(path)[0], load_checkpoint(other)[0]
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("improves", [True, False])
def test_the_last_checkpoints_are_averaged_where_that_is_better(
    improves: bool,
    train_here: TrainHere,
    scripted: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, save = {}, TrainingState.save

    def keeping(
        self: TrainingState, name: str = "last", standing: list[float] | None = None
    ) -> None:
        save(self, name, standing)
        kept[name] = weights(self.model)

    scripted([0.0], [3.0, 2.0, 2.5, 2.4])
    monkeypatch.setattr(TrainingState, "save", keeping)
    monkeypatch.setattr(
        evaluation, "teacher_forced_loss", lambda *_, **__: 2.0 if improves else 2.1
    )
    run = train_here(
        tmp_path / "run",
        "trainer.average_last=3",
        "trainer.validate_every=2",
        "trainer.max_updates=8",
        "trainer.best_metric=loss",
    )
    files = sorted(run.checkpoints.glob("update-*"))
    assert [file.stem for file in files] == [
        "update-000000004",
        "update-000000006",
        "update-000000008",
    ]
    best = group(load_checkpoint(run.checkpoint("best"))[0], "model")
    expected = average_weights(files) if improves else kept["best"]
    assert all(torch.equal(best[name], expected[name]) for name in expected)
    last = group(load_checkpoint(run.checkpoint("last"))[0], "model")
    assert all(torch.equal(last[name], kept["last"][name]) for name in last)
    mean = torch.stack([kept[file.stem]["output.weight"] for file in files]).mean(0)
    assert torch.allclose(best["output.weight"], mean, atol=1e-6) is improves
