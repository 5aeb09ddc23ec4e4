"""What an update minimises, when it is left out, and what several processes do in it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_states import NewState, first_batches, step, weights

from seq2seq.model.packing import Packing
from seq2seq.training import step as step_module
from seq2seq.training.processes import Processes
from seq2seq.training.state import TrainingState
from seq2seq.training.step import StepResult, read, train_step

pytest_plugins = ["training_fixtures"]


def updated(t: TrainingState, *batches: Any, **options: Any) -> StepResult:
    return read([train_step(t.model, t.optimizer, batches, t.config, **options)])[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_smoothed_cross_entropy_of_the_next_words(
    smoothing: float, new_state: NewState
) -> None:
    t = new_state(f"trainer.label_smoothing={smoothing}", "model.dropout=0", "model.init_scale=1")
    batch = first_batches(t)[0]
    packing = Packing(batch.tgt_lengths, batch.tgt.size(1), batch.tgt.device)
    with torch.no_grad():
        memory, state = t.model.encode(batch.src, batch.src_lengths)
        states, _ = t.model.decode(memory, state, batch.tgt, packing)
        logits, words = t.model.output(states), packing.pack(batch.tgt)
        expected, nll = (
            F.cross_entropy(logits, words, reduction="sum", label_smoothing=e).item()
            for e in (smoothing, 0)
        )
    result, _ = step(t, [batch])
    assert (result.loss, result.nll) == pytest.approx((expected, nll), rel=1e-5)
    assert smoothing == 0 or result.loss != pytest.approx(nll, rel=1e-3)


# -- what is skipped ---


def test_an_infinite_loss_is_skipped_though_its_gradient_is_finite(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the right word is impossible: the gradient of a logit is p - q all the same."""
    t = new_state("optimizer=sgd")
    before, forward = weights(t.model), t.model.forward

    def infinite(*inputs: Any, **options: Any) -> tuple[Tensor, Tensor]:
        loss, nll = forward(*inputs, **options)
        return loss + math.inf, nll

    monkeypatch.setattr(t.model, "forward", infinite)
    result = updated(t, *first_batches(t))
    assert result.skipped
    assert math.isfinite(result.gradient_norm)
    assert result.gradient_norm > 0
    after = weights(t.model)
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


def test_statistics_of_long_sources_are_restored_too(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm's statistics of each step: what is skipped has longer sources than targets."""
    t = new_state("norm=batch", "norm.min_rows=2")
    before = weights(t.model)
    t.model.output.bias.register_hook(lambda gradient: gradient * math.inf)
    assert updated(t, t.subject.batch(["mi " * 12] * 8, ["do re"] * 8)).skipped
    after = weights(t.model)
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


# -- several processes ---


@dataclass(frozen=True)
class Imagined(Processes):
    """Processes of which there is only this one; it notes how gradients would be summed."""

    asked: list[bool] = field(default_factory=list)

    @contextmanager
    def summing(self, model: nn.Module, at_once: bool = True) -> Iterator[None]:
        self.asked.append(at_once)
        yield

    def sum(self, values: Tensor) -> Tensor:
        return values

    def share_buffers(self, model: nn.Module) -> None:
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_wait_for_shared_statistics(new_state: NewState, shared: bool) -> None:
    """Both are summed in the backward pass; all processes have to do so in one order."""
    norm = ["norm=batch", "norm.min_rows=2", "norm.sync=true"] if shared else ["norm=layer"]
    t, processes = new_state(*norm, "optimizer.accumulate=2"), Imagined()
    updated(t, *first_batches(t, 2), processes=processes)
    assert processes.asked == [not shared]  # once, around the last batch


@pytest.mark.parametrize(("sentences", "is_alone"), [(2, True), (3, False)])
def test_a_batch_that_is_not_divided_waits_for_no_statistics(
    sentences: int, is_alone: bool, new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of three processes has it all; the others would never come to share theirs."""
    entered = []

    @contextmanager
    def alone() -> Iterator[None]:
        entered.append(True)
        yield

    monkeypatch.setattr(step_module, "alone", alone)
    t = new_state("norm=layer")
    batch = t.subject.batch(["do re"] * sentences, ["re do"] * sentences)
    updated(t, batch, processes=Imagined(rank=0, size=3))
    assert entered == [True] * is_alone
