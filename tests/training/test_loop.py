"""The loop: rates, limits, log entries, validation and checkpoints, and the way to it."""

import math
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from combinations import few
from conftest import TrainCommand, TrainHere
from training_states import Fitted, training_entries

from seq2seq.data.preparation import prepare
from seq2seq.model import Translator
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import loop
from seq2seq.training.state import TrainingState
from seq2seq.training.step import Unread, read, train_step

pytest_plugins = ["training_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


def test_few_hops_lead_from_the_command_to_the_model(
    train_command: TrainCommand, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of our own functions are between train.py and the model when the loop first calls it."""
    forward, stacks = Translator.forward, []

    def watched(self: Translator, *arguments: Any, **named: Any) -> Any:
        frames = traceback.extract_stack(sys._getframe(1))
        ours = [
            f.name for f in frames if f.filename.startswith((f"{ROOT}/seq2seq", f"{ROOT}/train"))
        ]
        stacks.append(ours[ours.index("command") :])
        return forward(self, *arguments, **named)

    monkeypatch.setattr(Translator, "forward", watched)
    assert train_command(*toy, "trainer.max_updates=1").code == 0
    first = next(stack for stack in stacks if "train_step" in stack)
    assert first == ["command", "run", "task", "train", "fit", "train_step"]  # then forward
    assert len(first) <= 6


# -- the learning rate ---


@few(
    {
        "rule, rate": [("adam", 0.01), ("adamw", 0.01), ("sgd", 1.0)],
        "schedule": ["constant", "inverse_sqrt", "cosine", "plateau"],
    }
)
def test_every_rule_learns_under_every_schedule(
    rule: str, rate: float, schedule: str, fitted: Fitted
) -> None:
    t = fitted(
        f"optimizer={rule}",
        f"optimizer.lr={rate}",
        f"optimizer.schedule={schedule}",
        *(["optimizer.plateau_patience=10"] if schedule == "plateau" else []),
        "optimizer.warmup_updates=4",
        "trainer.log_every=1",
        "trainer.max_epochs=4",
    )
    losses = [entry["loss"] for entry in training_entries(t)]
    assert len(losses) == 32
    assert sum(losses[-4:]) / 4 < sum(losses[:2]) / 2 - 0.2


def test_the_rate_follows_the_schedule(fitted: Fitted) -> None:
    t = fitted(
        "optimizer.schedule=cosine",
        "optimizer.lr=0.5",
        "optimizer.warmup_updates=2",
        "trainer.log_every=1",
        "trainer.max_updates=8",
    )
    rates = [entry["lr"] for entry in training_entries(t)]
    assert rates[0] == 0.25
    assert rates[1:] == [
        pytest.approx(0.25 * (1 + math.cos(math.pi * update / 8))) for update in range(1, 8)
    ]
    assert t.optimizer.param_groups[0]["lr"] == rates[-1]


# -- what happens when ---


def test_an_epoch_of_accumulated_batches(train_here: TrainHere, tmp_path: Path) -> None:
    run = train_here(
        tmp_path / "run", "optimizer.accumulate=3", "trainer.log_every=1", "trainer.max_epochs=2"
    )
    entries = [e for e in read_metrics(run.metrics_file) if e["kind"] == "train"]
    # Updates of 3, 3 and 2 batches: the end of an epoch ends an update.
    assert [e["update"] for e in entries] == [1, 2, 3, 4, 5, 6]
    prepared = prepare(run.config().data, run.config().tokenizer, False)
    tokens = int(prepared.split("train").tgt_lengths.sum())
    assert [entries[2]["tokens"], entries[5]["tokens"]] == [tokens, 2 * tokens]


def test_when_it_logs_validates_and_saves(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, save = [], TrainingState.save

    def noted(t: TrainingState, name: str = "last") -> None:
        saved.append((name, t.progress.update))
        save(t, name)

    monkeypatch.setattr(TrainingState, "save", noted)
    t = fitted(
        "trainer.log_every=2",
        "trainer.validate_every=3",
        "trainer.checkpoint_every=4",
        "trainer.max_updates=10",
    )
    entries = read_metrics(t.run.metrics_file)
    assert [e["update"] for e in entries if e["kind"] == "train"] == [2, 4, 6, 8, 10]
    assert [e["update"] for e in entries if e["kind"] == "valid"] == [3, 6, 9, 10]
    assert [update for name, update in saved if name == "last"] == [3, 4, 6, 8, 9, 10]
    assert [update for name, update in saved if name == "best"] == [3]


def test_each_epoch_is_validated_by_default(fitted: Fitted) -> None:
    entries = read_metrics(fitted("trainer.max_epochs=3").run.metrics_file)
    assert [(e["update"], e["epoch"]) for e in entries if e["kind"] == "valid"] == [
        (8, 1),
        (16, 2),
        (24, 3),
    ]


def test_entries_hold_the_documented_values(finished: Run) -> None:
    entries = read_metrics(finished.metrics_file)
    for entry in entries:
        assert {
            "kind",
            "update",
            "epoch",
            "tokens",
            "seconds",
            "loss",
            "perplexity",
        } <= entry.keys()
    logged = [e for e in entries if e["kind"] == "train"]
    assert {
        "lr",
        "tokens_per_second",
        "nll",
        "gradient_norm/all",
        "gradient_norm/encoder",
    } <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"] - 0.2
    valid = [e for e in entries if e["kind"] == "valid"]
    assert {"bleu", "chrf"} <= valid[0].keys()
    assert valid[0]["perplexity"] == pytest.approx(math.exp(valid[0]["loss"]))
    for key in ("update", "epoch", "tokens", "seconds"):
        assert [e[key] for e in entries] == sorted(e[key] for e in entries)


@pytest.mark.parametrize("clip_norm", [0, 0.01, 100])
def test_the_gradient_norms_of_modules_make_up_that_of_all(
    clip_norm: float, fitted: Fitted
) -> None:
    t = fitted("trainer.max_updates=2", "trainer.log_every=1", f"optimizer.clip_norm={clip_norm}")
    for entry in training_entries(t):
        norms = {k: v for k, v in entry.items() if k.startswith("gradient_norm/")}
        whole = norms.pop("gradient_norm/all")
        assert whole > 0.01
        assert math.hypot(*norms.values()) == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("every", [1, 3])
def test_a_log_entry_is_the_mean_since_the_previous_one(
    every: int, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []

    def noted(*arguments: Any) -> Unread:
        update = train_step(*arguments)
        results.extend(read([update]))
        return update

    monkeypatch.setattr(loop, "train_step", noted)
    # An epoch ends after eight updates.
    t = fitted(
        f"trainer.log_every={every}", "trainer.max_updates=12", "trainer.label_smoothing=0.3"
    )
    parts = [results[i : i + every] for i in range(0, 12, every)]
    means = [sum(r.loss for r in part) / sum(r.tokens for r in part) for part in parts]
    logged = training_entries(t)
    assert [e["loss"] for e in logged] == pytest.approx(means)
    means = [sum(r.nll for r in part) / sum(r.tokens for r in part) for part in parts]
    assert [e["nll"] for e in logged] == pytest.approx(means)
    assert [e["perplexity"] for e in logged] == pytest.approx(list(map(math.exp, means)))


@pytest.mark.parametrize(
    ("limits", "updates"),
    [
        (("trainer.max_epochs=2", "trainer.max_updates=null"), 16),
        (("trainer.max_epochs=2", "trainer.max_updates=5"), 5),
        (("trainer.max_epochs=1", "trainer.max_updates=50"), 8),
        (("trainer.max_epochs=null", "trainer.max_updates=9"), 9),
        (("trainer.max_epochs=2", "optimizer.accumulate=3"), 6),  # of 3, 3 and 2 batches
    ],
)
def test_training_ends_at_the_first_limit(
    limits: tuple[str, ...], updates: int, fitted: Fitted
) -> None:
    t = fitted(*limits)
    assert t.progress.update == updates == t.total_updates()
    assert t.fraction_done() == 1
