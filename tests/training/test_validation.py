"""Validation in the loop: the best weights, patience, the plateau, averaged checkpoints."""

from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from training_states import Fitted, Scripted, training_entries, weights

from seq2seq.config import Metric
from seq2seq.runs.checkpoint import average_weights, group, load_checkpoint
from seq2seq.training import evaluation
from seq2seq.training.state import TrainingState

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


@pytest.mark.parametrize("improves", [True, False])
def test_the_last_checkpoints_are_averaged_where_that_is_better(
    improves: bool,
    train_here: TrainHere,
    scripted: Scripted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, save = {}, TrainingState.save

    def keeping(self: TrainingState, name: str = "last") -> None:
        save(self, name)
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
