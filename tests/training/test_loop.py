import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from seq2seq.config import Metric, Precision
from seq2seq.data.dataset import batches
from seq2seq.errors import Stopped, TrainingError
from seq2seq.runs.checkpoint import average_weights, group, load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training import evaluation
from seq2seq.training import loop as training
from seq2seq.training.loop import Trainer, train, train_step
from seq2seq.translation.scores import Scores

PLAIN = [
    "norm=none",
    "model.dropout=0",
    "optimizer=sgd",
    "optimizer.momentum=0",
    "optimizer.clip_norm=0",
    "optimizer.lr=0.5",
]
"""An update that is the gradient times a known rate."""


@pytest.fixture
def trainer(train_here, tmp_path):
    """Makes a trainer of the toy corpus."""
    return lambda *overrides: Trainer(train_here.config(*overrides), Run(tmp_path / "run"))


def first_batches(trainer, count=1):
    stream = batches(trainer.train_set, trainer.sampler)
    return [next(stream) for _ in range(count)]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def step(trainer, group):
    """One update at the configured peak rate: its loss, likelihood and gradient norm, and how the
    weights moved.
    """
    before = weights(trainer.model)
    found = train_step(trainer.model, trainer.optimizer, group, trainer.config, trainer.device)
    moved = torch.cat(
        [(value - before[name]).flatten() for name, value in trainer.model.named_parameters()]
    )
    return *map(float, found), moved.detach()


def update_losses(trainer, epochs):
    """The loss of each update of some epochs, without validation."""
    losses = []
    for _ in range(epochs):
        for batch in batches(trainer.train_set, trainer.sampler):
            trainer.average = training.Average()
            trainer._update([batch])
            losses.append(trainer.average.loss / trainer.average.tokens)
    return losses


# -- one update ---


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt", "cosine", "plateau"])
@pytest.mark.parametrize(("rule", "rate"), [("adam", 0.01), ("adamw", 0.01), ("sgd", 1.0)])
def test_every_rule_learns_under_every_schedule(rule, rate, schedule, trainer):
    t = trainer(
        f"optimizer={rule}",
        f"optimizer.lr={rate}",
        f"optimizer.schedule={schedule}",
        "optimizer.warmup_updates=4",
        "trainer.max_epochs=4",
    )
    losses = update_losses(t, 4)
    assert sum(losses[-4:]) / 4 < sum(losses[:2]) / 2 - 0.2


def test_the_rate_follows_the_schedule(trainer):
    t = trainer(
        "optimizer.schedule=cosine",
        "optimizer.lr=0.5",
        "optimizer.warmup_updates=2",
        "trainer.max_updates=8",
    )
    rates = []
    for batch in batches(t.train_set, t.sampler):
        t._update([batch])
        rates.append(t.optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.25
    assert rates[1:] == [
        pytest.approx(0.25 * (1 + math.cos(math.pi * update / 8))) for update in range(1, 8)
    ]


def test_clipping_bounds_the_gradient_that_is_applied(trainer):
    t = trainer(*PLAIN)
    *_, norm, moved = step(t, first_batches(t))
    assert moved.norm() == pytest.approx(0.5 * norm, rel=1e-4)
    t = trainer(*PLAIN, "optimizer.clip_norm=0.05")
    *_, same_norm, moved = step(t, first_batches(t))
    assert same_norm == pytest.approx(norm, rel=1e-5)
    assert norm > 0.1
    assert moved.norm() == pytest.approx(0.5 * 0.05, rel=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_accumulated_batches_are_one_large_batch(norm, trainer):
    found = []
    for size in (30, 5):  # sentences of unlike lengths
        t = trainer(*PLAIN, f"norm={norm}")
        found.append(
            step(
                t,
                [t.train_set.batch(np.arange(start, start + size)) for start in range(0, 30, size)],
            )
        )
    (loss, nll, norm, moved), (small_loss, small_nll, small_norm, small_moved) = found
    assert (small_loss, small_nll) == pytest.approx((loss, nll), rel=1e-5)
    assert small_norm == pytest.approx(norm, rel=1e-4)
    torch.testing.assert_close(small_moved, moved, rtol=1e-4, atol=1e-7)


def test_an_epoch_of_accumulated_batches(train_here, tmp_path):
    run = train_here(
        tmp_path / "run", "optimizer.accumulate=3", "trainer.log_every=1", "trainer.max_epochs=2"
    )
    entries = [e for e in read_metrics(run.metrics_file) if e["kind"] == "train"]
    assert [e["update"] for e in entries] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]  # of 3, 3 and 2 batches; an epoch ends an update
    tokens = int(
        training.prepare(run.config().data, run.config().tokenizer, False)
        .split("train")
        .tgt_lengths.sum()
    )
    assert [entries[2]["tokens"], entries[5]["tokens"]] == [tokens, 2 * tokens]


def test_label_smoothing(trainer):
    t = trainer("trainer.label_smoothing=0")
    loss, nll, *_ = step(t, first_batches(t))
    assert loss == nll
    t = trainer("trainer.label_smoothing=0.3", "model.dropout=0")
    batch = first_batches(t)[0]
    plain, uniform = (
        t.model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths, s)[0].item()
        for s in (0, 1)
    )
    assert step(t, [batch])[0] == pytest.approx(0.7 * plain + 0.3 * uniform, rel=1e-5)


@pytest.mark.parametrize("rule", ["adam", "adamw", "sgd"])
def test_weight_decay_pulls_to_zero(rule, trainer):
    norms = []
    for decay in (0.0, 0.1):
        t = trainer(
            *PLAIN, f"optimizer={rule}", "optimizer.lr=0.1", f"optimizer.weight_decay={decay}"
        )
        step(t, first_batches(t))
        norms.append(t.model.output.weight.norm().item())
    assert norms[1] < norms[0] * 0.999


def test_bfloat16(trainer):
    exact, short = trainer("model.dropout=0"), trainer("model.dropout=0", "trainer.precision=bf16")
    (loss, *_), (short_loss, *_) = (step(t, first_batches(t)) for t in (exact, short))
    assert short_loss != loss
    assert short_loss == pytest.approx(loss, rel=0.02)
    assert all(value.dtype is not torch.bfloat16 for value in short.model.state_dict().values())
    losses = update_losses(trainer("trainer.precision=bf16", "trainer.max_epochs=3"), 3)
    assert sum(losses[-4:]) / 4 < sum(losses[:2]) / 2 - 0.2


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_before_it_is_applied(what, trainer, monkeypatch):
    t = trainer("optimizer.lr=0.25", "optimizer.warmup_updates=0", "optimizer.schedule=constant")
    before = weights(t.model)
    if what == "loss":
        t.model.output.register_parameter(
            "bias", torch.nn.Parameter(torch.full_like(t.model.output.bias, math.nan))
        )
        before = weights(t.model)
    else:
        t.model.output.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(
        TrainingError, match=r"update 1, lr 0.25: loss .* not finite; try a lower optimizer.lr"
    ):
        t._update(first_batches(t))
    assert all(
        torch.equal(value.nan_to_num(), before[name].nan_to_num())
        for name, value in weights(t.model).items()
    )


def test_threads_are_used(trainer):
    before = torch.get_num_threads()
    try:
        trainer("trainer.threads=2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("setting", "size", "most"),
    [
        ("batch_tokens", lambda batch: batch.tgt_tokens, 60),
        ("batch_sentences", lambda batch: len(batch.tgt), 7),
    ],
)
def test_batches_are_as_large_as_configured(setting, size, most, trainer):
    t = trainer("data.batch_tokens=null", "data.batch_sentences=null", f"data.{setting}={most}")
    sizes = [size(batch) for batch in batches(t.train_set, t.sampler)]
    assert max(sizes) <= most
    assert sum(size >= most - LONGEST for size in sizes) > len(sizes) / 2


LONGEST = 6
"""Pieces of the longest sentence, eos counted."""


# -- the loop ---


def scripted(monkeypatch, bleus=(), losses=()):
    """Let validation find these, in turn, and then the last one; the final evaluation is left
    out.
    """
    bleus, losses = list(bleus), list(losses)
    monkeypatch.setattr(
        training,
        "validation_bleu",
        lambda *_: (Scores(bleus.pop(0) if len(bleus) > 1 else bleus[0], 0.0, "", ""), ["a"]),
    )
    monkeypatch.setattr(
        training, "teacher_forced_loss", lambda *_: losses.pop(0) if len(losses) > 1 else losses[0]
    )
    monkeypatch.setattr(Trainer, "_write_samples", lambda *_: None)


def fitted(trainer, *overrides):
    """A trainer after its loop."""
    t = trainer(*overrides)
    with Logbook(t.run.folder, 0, progress=False) as logbook:
        t.fit(logbook)
    return t


def test_when_it_logs_validates_and_saves(trainer, monkeypatch):
    saved, save = [], Trainer.save
    monkeypatch.setattr(
        Trainer,
        "save",
        lambda t, name="last": (saved.append((name, t.progress.update)), save(t, name)),
    )
    scripted(monkeypatch, [1.0], [1.0])
    t = fitted(
        trainer,
        "trainer.log_every=2",
        "trainer.validate_every=3",
        "trainer.checkpoint_every=4",
        "trainer.max_updates=10",
    )
    entries = read_metrics(t.run.metrics_file)
    assert [e["update"] for e in entries if e["kind"] == "train"] == [2, 4, 6, 8, 10]
    assert [e["update"] for e in entries if e["kind"] == "valid"] == [3, 6, 9, 10]
    assert [update for name, update in saved if name == "last"] == [3, 4, 6, 8, 9, 10, 10]
    assert [update for name, update in saved if name == "best"] == [3]


def test_each_epoch_is_validated_by_default(trainer, monkeypatch):
    scripted(monkeypatch, [1.0], [1.0])
    t = fitted(trainer, "trainer.max_epochs=3")
    entries = read_metrics(t.run.metrics_file)
    assert [(e["update"], e["epoch"]) for e in entries if e["kind"] == "valid"] == [
        (8, 1),
        (16, 2),
        (24, 3),
    ]


def test_entries_hold_what_they_promise(finished):
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


@pytest.mark.parametrize("every", [1, 3])
def test_a_log_entry_is_the_mean_since_the_one_before(every, trainer, monkeypatch):
    scripted(monkeypatch, [1.0], [1.0])
    losses, update = [], Trainer._update

    def watched(self, group):
        before = replace(self.average)
        update(self, group)
        losses.append((self.average.loss - before.loss, self.average.tokens - before.tokens))

    monkeypatch.setattr(Trainer, "_update", watched)
    t = fitted(
        trainer, f"trainer.log_every={every}", "trainer.max_updates=12"
    )  # an epoch ends after eight
    entries = [e for e in read_metrics(t.run.metrics_file) if e["kind"] == "train"]
    parts = [losses[i : i + every] for i in range(0, 12, every)]
    means = [sum(loss for loss, _ in part) / sum(tokens for _, tokens in part) for part in parts]
    assert [e["loss"] for e in entries] == pytest.approx(means)


@pytest.mark.parametrize(
    ("limits", "updates"),
    [
        (("trainer.max_epochs=2", "trainer.max_updates=null"), 16),
        (("trainer.max_epochs=2", "trainer.max_updates=5"), 5),
        (("trainer.max_epochs=1", "trainer.max_updates=50"), 8),
        (("trainer.max_epochs=null", "trainer.max_updates=9"), 9),
    ],
)
def test_it_ends_at_the_first_limit(limits, updates, trainer, monkeypatch):
    scripted(monkeypatch, [1.0], [1.0])
    t = fitted(trainer, *limits)
    assert t.progress.update == updates == t.total_updates()
    assert t.done() == 1


@pytest.mark.parametrize(
    ("metric", "best_update", "score"), [(Metric.bleu, 2, 3.0), (Metric.loss, 3, -1.0)]
)
def test_the_metric_decides_which_is_best(metric, best_update, score, trainer, monkeypatch):
    scripted(monkeypatch, [1.0, 3.0, 2.0, 2.5], [4.0, 2.0, 1.0, 1.5])
    t = fitted(
        trainer,
        f"trainer.best_metric={metric.value}",
        "trainer.validate_every=1",
        "trainer.max_updates=4",
    )
    assert (t.progress.best, t.progress.best_update) == (score, best_update)
    state = load_checkpoint(t.run.checkpoint("best"))[1]
    assert state["progress"]["update"] == best_update
    assert load_checkpoint(t.run.checkpoint("last"))[1]["progress"]["update"] == 4


def test_patience_ends_training(trainer, monkeypatch):
    scripted(monkeypatch, [1.0, 3.0, 2.0, 3.0, 2.0, 9.0], [1.0])
    t = fitted(trainer, "trainer.patience=3", "trainer.validate_every=1", "trainer.max_updates=20")
    assert (t.progress.update, t.progress.best_update) == (5, 2)


def test_a_plateau_lowers_the_rate(trainer, monkeypatch):
    scripted(monkeypatch, [1.0, 0.9, 2.0, 1.9, 1.8, 1.7, 1.6], [1.0])
    t = fitted(
        trainer,
        "optimizer.schedule=plateau",
        "optimizer.plateau_factor=0.1",
        "optimizer.plateau_patience=2",
        "optimizer.lr=0.5",
        "optimizer.warmup_updates=0",
        "trainer.log_every=1",
        "trainer.validate_every=1",
        "trainer.max_updates=7",
    )
    rates = [e["lr"] for e in read_metrics(t.run.metrics_file) if e["kind"] == "train"]
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5, 0.05, 0.05])


@pytest.mark.parametrize("improves", [True, False])
def test_the_last_checkpoints_are_averaged_where_that_is_better(
    improves, train_here, tmp_path, monkeypatch
):
    kept, save = {}, Trainer.save

    def keeping(self, name="last"):
        save(self, name)
        kept[name] = weights(self.model)

    scripted(monkeypatch, [0.0], [3.0, 2.0, 2.5, 2.4])
    monkeypatch.setattr(Trainer, "save", keeping)
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


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("trainer.log_every=0", "at least 1"),
        ("trainer.max_epochs=0", "at least 1"),
        ("trainer.validate_every=-1", "at least 1"),
        ("optimizer.accumulate=0", "at least 1"),
        ("trainer.patience=0", "at least 1"),
        ("optimizer.lr=-0.1", "at least 0"),
        ("optimizer.clip_norm=-1.0", "at least 0"),
        ("trainer.label_smoothing=1.0", "less than 1"),
        ("model.dropout=1.5", "less than 1"),
        ("trainer.threads=0", "at least 1"),
        ("decode.beam_size=0", "at least 1"),
    ],
)
def test_a_number_out_of_range_is_named_before_training(setting, expected, trainer):
    with pytest.raises(ValueError, match=f"{setting}: expected {expected}"):
        trainer(setting)


# -- signals ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_in_mid_update_saves_and_stops(number, code, trainer, monkeypatch):
    def signalled(model, *arguments):
        if t.progress.update == 2:
            os.kill(os.getpid(), number)
        return train_step(model, *arguments)

    monkeypatch.setattr(training, "train_step", signalled)
    t, before = trainer(), signal.getsignal(number)
    with (
        Logbook(t.run.folder, 0, progress=False) as logbook,
        pytest.raises(Stopped, match="at update 3") as error,
    ):
        t.fit(logbook)
    assert error.value.exit_code == code
    assert f"python train.py resume={t.run.folder}" in str(error.value)
    saved, state = load_checkpoint(t.run.checkpoint("last"))
    assert state["progress"]["update"] == 3
    assert all(
        torch.equal(saved["model." + name], value) for name, value in t.model.state_dict().items()
    )
    assert signal.getsignal(number) is before


def test_a_signal_during_the_last_save_is_not_forgotten(trainer, monkeypatch):
    def signalled(self, name="last"):
        save(self, name)
        if self.done() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    save, t = Trainer.save, trainer("trainer.max_updates=2")
    monkeypatch.setattr(Trainer, "_epoch", lambda self, *_: setattr(self.progress, "update", 2))
    scripted(monkeypatch, [1.0], [1.0])
    monkeypatch.setattr(Trainer, "save", signalled)
    with (
        Logbook(t.run.folder, 0, progress=False) as logbook,
        pytest.raises(Stopped, match="saved at update 2"),
    ):
        t.fit(logbook)


def test_a_second_interrupt_ends_at_once(trainer, monkeypatch):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "train_step", interrupted)
    t = trainer()
    with Logbook(t.run.folder, 0, progress=False) as logbook, pytest.raises(KeyboardInterrupt):
        t.fit(logbook)


def test_a_signal_during_the_final_evaluation_leaves_the_run_to_go_on_with(
    train_here, tmp_path, monkeypatch
):
    def signalled(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    config, run = (
        train_here.config("norm=batch", "norm.min_rows=2", "trainer.average_last=2"),
        Run(tmp_path / "run"),
    )
    monkeypatch.setattr(evaluation, "score_split", signalled)
    with pytest.raises(Stopped, match="SIGTERM: saved at update 16") as stopped:
        train(config, run)
    assert stopped.value.exit_code == 0
    last = load_checkpoint(run.checkpoint("last"))[0]
    monkeypatch.undo()
    results = train(config, run)
    other = train_here(
        tmp_path / "other", "norm=batch", "norm.min_rows=2", "trainer.average_last=2"
    ).results()
    for key in (
        "valid",
        "test",
        "valid_loss",
        "valid_loss_batch_statistics",
        "update",
        "best_update",
    ):
        assert results[key] == other[key]
    assert all(
        torch.equal(value, last[name])
        for name, value in load_checkpoint(run.checkpoint("last"))[0].items()
    )


def test_precision_is_that_of_the_configuration(trainer, monkeypatch):
    seen = []
    t = trainer("trainer.precision=bf16")
    monkeypatch.setattr(
        training, "autocast", lambda device, precision: seen.append(precision) or torch.no_grad()
    )
    with pytest.raises(RuntimeError, match="grad"):
        step(t, first_batches(t))
    assert seen == [Precision.bf16]
