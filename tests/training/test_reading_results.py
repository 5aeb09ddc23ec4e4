"""An update that is not finite is skipped, and a GPU is never waited for."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from combinations import few
from conftest import TrainHere
from run_comparison import curves, entries, stop_here, tensors
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_states import Fitted, NewState, first_batches, fit_quietly, training_entries, weights

from seq2seq.errors import Diverged, Stopped, TrainingError
from seq2seq.model import Translator
from seq2seq.runs.checkpoint import optimizer_tensors
from seq2seq.training import loop, reading
from seq2seq.training import state as state_module
from seq2seq.training import step as step_module
from seq2seq.training.optimizer import make_optimizer
from seq2seq.training.state import TrainingState
from seq2seq.training.step import StepResult, Unread, read, train_step

pytest_plugins = ["training_fixtures"]

Poison = Callable[..., None]


def spoil(model: Translator, what: str) -> Any:
    """Make the next gradients or activations infinite or nan; return a handle that ends it."""
    if what == "gradient":
        return model.output.bias.register_hook(lambda gradient: gradient * math.inf)
    return model.src_embedding.register_forward_hook(lambda *found: found[-1] * math.nan)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Return a function that spoils these updates of the next training, counted from `first`."""

    def plan(*updates: int, what: str = "loss", first: int = 1) -> None:
        count = first - 1

        def stepping(model: Translator, *arguments: Any) -> Unread:
            nonlocal count
            count += 1
            if count not in updates:
                return train_step(model, *arguments)
            with spoil(model, what):
                return train_step(model, *arguments)

        monkeypatch.setattr(loop, "train_step", stepping)

    return plan


def one(t: TrainingState, *batches: Any, what: str = "") -> StepResult:
    with spoil(t.model, what) if what else nullcontext():
        return read([train_step(t.model, t.optimizer, batches, t.config)])[0]


def everything(t: TrainingState) -> dict[str, Tensor]:
    """Return copies of weights, statistics and the optimizer's tensors."""
    found = {name: x.clone() for name, x in optimizer_tensors(t.model, t.optimizer).items()}
    return found | weights(t.model)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


RULES = [
    ("optimizer=adam",),
    ("optimizer=adamw", "optimizer.weight_decay=0.1"),
    ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.weight_decay=0.1"),
    ("optimizer=sgd", "optimizer.momentum=0"),
]


@few(
    {
        "more": [("norm=batch", "norm.min_rows=2"), ("trainer.precision=bf16",)],
        "what": ["loss", "gradient"],
        "rule": RULES,
    },
    rounds=2,
)
def test_a_skipped_update_leaves_no_trace(
    rule: tuple[str, ...], what: str, more: tuple[str, ...], new_state: NewState
) -> None:
    """Before the optimizer has a state, and later; what follows is as if it had not been.

    What is skipped has longer targets than sources, and than all before.
    """
    t, other = (new_state(*rule, *more, "model.dropout=0") for _ in range(2))
    first, third, fifth = first_batches(t, 3)
    second, *longer = (t.subject.batch(["do re"] * 8, ["mi " * n] * 8) for n in (9, 12, 15))
    assert one(t, first, second, what=what).skipped
    for batch, fourth in zip((third, fifth), longer, strict=True):
        assert not one(t, batch).skipped
        assert not one(other, batch).skipped
        assert_equal(everything(t), everything(other))
        assert one(t, fourth, what=what).skipped
        assert_equal(everything(t), everything(other))
    assert all(value.isfinite().all() for value in everything(t).values())


def test_skipped_updates_are_counted_and_named(
    poison: Poison, fitted: Fitted, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(2, 3, 5, what="gradient")
    t = fitted("trainer.max_updates=6", "trainer.log_every=2", "trainer.max_skipped=2")
    lines = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert [line.split()[:3] for line in lines] == [["update", n, "skipped,"] for n in "235"]
    assert "gradient norm nan" in lines[0] or "gradient norm inf" in lines[0]
    assert (t.progress.skipped, t.progress.skipped_in_row) == (3, 0)
    logged = training_entries(t)
    assert [entry["skipped"] for entry in logged] == [1, 2, 3]
    assert all(math.isfinite(entry["loss"]) for entry in logged)
    assert curves(t.run)["train/skipped"] == [(2, 1), (4, 2), (6, 3)]
    assert logged[-1]["tokens"] == t.progress.tokens


def test_a_log_entry_without_any_update_has_no_loss(poison: Poison, fitted: Fitted) -> None:
    poison(3, 4)
    t = fitted("trainer.max_updates=6", "trainer.log_every=2")
    assert [entry["loss"] is None for entry in training_entries(t)] == [False, True, False]


@pytest.mark.parametrize(("most", "last"), [(0, 4), (2, 6)])
def test_too_many_in_a_row_stop_the_run(
    most: int, last: int, poison: Poison, new_state: NewState
) -> None:
    poison(4, 5, 6)
    t = new_state(f"trainer.max_skipped={most}", "trainer.checkpoint_every=2")
    named = rf"last, update {last - 1 - (last - 1) % 2}"
    with pytest.raises(Diverged, match=rf"diverged: update {last}, lr .*, {most + 1} in a row"):
        fit_quietly(t)
    poison(1)
    with pytest.raises(TrainingError, match=r"lower optimizer.lr.*last checkpoint: " + named):
        fit_quietly(new_state("trainer.max_skipped=0"))


def test_without_a_checkpoint_the_error_says_so(poison: Poison, new_state: NewState) -> None:
    poison(1)
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        fit_quietly(new_state("trainer.max_skipped=0"))


def test_a_resumed_run_counts_on(
    poison: Poison, train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stopped between two skipped updates."""
    settings = ["trainer.log_every=3", "trainer.max_skipped=2"]
    poison(4, 5, 8)
    whole = train_here(tmp_path / "whole", *settings)

    def stopped(folder: Path) -> None:
        poison(4, 5, 8)
        stepping, count = vars(loop)["train_step"], iter(range(1, 100))

        def stopping(*arguments: Any) -> Unread:
            if next(count) == 4:
                stop_here()()
            update: Unread = stepping(*arguments)
            return update

        monkeypatch.setattr(loop, "train_step", stopping)
        with pytest.raises(Stopped):
            train_here(folder, *settings)

    stopped(tmp_path / "run")
    poison(4, 5, 8, first=5)
    run = train_here(tmp_path / "run", *settings)
    assert entries(run) == entries(whole)
    assert curves(run) == curves(whole)
    assert_equal(tensors(run, "last"), tensors(whole, "last"))
    stopped(tmp_path / "strict")
    poison(5, 6, first=5)
    with pytest.raises(TrainingError, match=r"update 6, .* 3 in a row"):
        train_here(tmp_path / "strict", *settings)


# -- a GPU is not waited for ---


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let training read no number that is not due; return how many results each reading had."""
    readings: list[int] = []

    def noted(updates: list[Unread]) -> list[StepResult]:
        readings.append(len(updates))
        return read(updates)

    for module in (step_module, reading):
        monkeypatch.setattr(module, "is_read_freely", lambda device: False)
    monkeypatch.setattr(state_module, "read", noted)
    return readings


SETTINGS = [
    *("trainer.max_updates=15", "trainer.log_every=4", "trainer.checkpoint_every=6"),
    *("trainer.validate_every=9", "norm=batch", "norm.min_rows=2", "optimizer.clip_norm=0.5"),
]


def test_results_are_read_when_they_are_due(
    poison: Poison, new_state: NewState, request: pytest.FixtureRequest
) -> None:
    """The numbers are those of a CPU, where every update is read: to the last bit."""
    found = []
    for gpu in (False, True):
        readings = request.getfixturevalue("as_on_a_gpu") if gpu else []
        poison(5, 10, 11)
        t = new_state(*SETTINGS)
        t.run.metrics_file.unlink(missing_ok=True)
        fit_quietly(t)
        found.append((everything(t), entries(t.run)))
    # Due at 4, 6, 8, 9, 12 and 15; the end has nothing more to read.
    assert [n for n in readings if n] == [4, 2, 2, 1, 3, 3]
    assert_equal(found[1][0], found[0][0])
    assert found[1][1] == found[0][1]


def test_not_more_than_a_hundred_updates_are_unread(
    as_on_a_gpu: list[int], fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_UNREAD", 5)
    fitted("trainer.max_updates=12", "trainer.log_every=1000", "trainer.validate_every=1000")
    assert [n for n in as_on_a_gpu if n] == [5, 5, 2]


class NoWaiting(TorchDispatchMode):
    """Fails where a tensor on a device other than the CPU is read, or copied while one waits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        given = [x for x in args if isinstance(x, Tensor)]
        name = str(func)
        devices = {x.device.type for x in [*given, found] if isinstance(x, Tensor)}
        if "cpu" in devices and len(devices) > 1 and "copy" in name:
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
            assert not waits, f"{name} between {devices}"
        if devices - {"cpu"}:
            assert not any(part in name for part in ("_local_scalar", "nonzero", "unique")), name
        return found


@few(
    {
        "more": [(), ("model.input_feeding=true", "cell=gru")],
        "norm": ["none", "batch", "layer", "rms"],
    }
)
def test_an_update_reads_nothing_of_its_device(
    norm: str, more: tuple[str, ...], new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for a GPU: it has no data, so that reading any is an error."""
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # has no meta device
    t = new_state(f"norm={norm}", "backend=reference", "model.variational=true", *more)
    batches = first_batches(t, 2)
    model = t.model.to("meta").train()
    optimizer = make_optimizer(model, t.config.optimizer)
    with NoWaiting():
        update = train_step(model, optimizer, batches, t.config)
    assert update.numbers.is_meta
    with pytest.raises(AssertionError, match="copy"), NoWaiting():
        torch.zeros(2).to("meta")
