"""One update, compared with the sum of its parts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from training_states import (
    PLAIN,
    Fitted,
    NewState,
    first_batches,
    step,
    training_entries,
)

from seq2seq.config import Precision
from seq2seq.training import step as step_module

pytest_plugins = ["training_fixtures"]

LONGEST = 6
"""The number of pieces of the longest sentence, with eos."""


def test_clipping_bounds_the_gradient_that_is_applied(new_state: NewState) -> None:
    t = new_state(*PLAIN)
    result, moved = step(t, first_batches(t))
    assert moved.norm() == pytest.approx(0.5 * result.gradient_norm, rel=1e-4)
    t = new_state(*PLAIN, "optimizer.clip_norm=0.05")
    same, moved = step(t, first_batches(t))
    assert same.gradient_norm == pytest.approx(result.gradient_norm, rel=1e-5)
    assert result.gradient_norm > 0.1
    assert moved.norm() == pytest.approx(0.5 * 0.05, rel=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_accumulated_batches_are_one_large_batch(norm: str, new_state: NewState) -> None:
    found = []
    for size in (30, 5):  # sentences of different lengths
        t = new_state(*PLAIN, f"norm={norm}")
        starts = range(0, 30, size)
        found.append(step(t, [t.train_set.batch(np.arange(i, i + size)) for i in starts]))
    (large, moved), (small, small_moved) = found
    assert (small.loss, small.nll) == pytest.approx((large.loss, large.nll), rel=1e-5)
    assert small.tokens == large.tokens
    assert small.gradient_norm == pytest.approx(large.gradient_norm, rel=1e-4)
    torch.testing.assert_close(small_moved, moved, rtol=1e-4, atol=1e-7)


def test_label_smoothing(new_state: NewState) -> None:
    t = new_state("trainer.label_smoothing=0")
    result, _ = step(t, first_batches(t))
    assert result.loss == result.nll
    t = new_state("trainer.label_smoothing=0.3", "model.dropout=0")
    batch = first_batches(t)[0]
    plain, uniform = (
        t.model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths, s)[0].item()
        for s in (0, 1)
    )
    assert step(t, [batch])[0].loss == pytest.approx(0.7 * plain + 0.3 * uniform, rel=1e-5)


def test_r_drop_adds_the_divergence_of_two_passes(new_state: NewState) -> None:
    found = []
    for weight in (0, 4):
        settings = "trainer.label_smoothing=0", "model.dropout=0.4", "model.init_scale=1"
        t = new_state(*settings, f"trainer.r_drop={weight}")
        found.append(step(t, first_batches(t))[0])
    plain, apart = found
    assert plain.loss == pytest.approx(plain.nll, rel=1e-6)
    assert apart.loss > 1.01 * apart.nll
    assert apart.nll == pytest.approx(plain.nll, rel=0.1)
    assert apart.tokens == plain.tokens


@pytest.mark.parametrize("rule", ["adam", "adamw", "sgd"])
def test_weight_decay_pulls_to_zero(rule: str, new_state: NewState) -> None:
    norms = []
    for decay in (0.0, 0.1):
        t = new_state(
            *PLAIN, f"optimizer={rule}", "optimizer.lr=0.1", f"optimizer.weight_decay={decay}"
        )
        step(t, first_batches(t))
        norms.append(t.model.output.weight.norm().item())
    assert norms[1] < norms[0] * 0.999


def test_bfloat16(new_state: NewState, fitted: Fitted) -> None:
    exact = new_state("model.dropout=0")
    short = new_state("model.dropout=0", "trainer.precision=bf16")
    (result, _), (short_result, _) = (step(t, first_batches(t)) for t in (exact, short))
    assert short_result.loss != result.loss
    assert short_result.loss == pytest.approx(result.loss, rel=0.02)
    assert all(value.dtype is not torch.bfloat16 for value in short.model.state_dict().values())
    t = fitted("trainer.precision=bf16", "trainer.max_epochs=3", "trainer.log_every=1")
    losses = [entry["loss"] for entry in training_entries(t)]
    assert sum(losses[-4:]) / 4 < sum(losses[:2]) / 2 - 0.2


@pytest.mark.parametrize(
    ("setting", "size", "most"),
    [
        ("batch_tokens", lambda batch: batch.tgt_tokens, 60),
        ("batch_sentences", lambda batch: len(batch.tgt), 7),
    ],
)
def test_batches_are_as_large_as_configured(
    setting: str, size: Callable[..., Any], most: int, new_state: NewState
) -> None:
    t = new_state("data.batch_tokens=null", "data.batch_sentences=null", f"data.{setting}={most}")
    sizes = [size(batch) for batch in t.train_set.batches(t.sampler)]
    assert max(sizes) <= most
    assert sum(size >= most - LONGEST for size in sizes) > len(sizes) / 2


def test_precision_is_that_of_the_configuration(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    t = new_state("trainer.precision=bf16")

    def noted(device: torch.device, precision: Precision) -> torch.no_grad:
        seen.append(precision)
        return torch.no_grad()

    monkeypatch.setattr(step_module, "autocast", noted)
    with pytest.raises(RuntimeError, match="grad"):
        step(t, first_batches(t))
    assert seen == [Precision.bf16]
