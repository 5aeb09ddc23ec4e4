"""The warm-up: no number includes set-up, and the training does not change."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TrainHere, final_results
from training_states import NewState, weights

from seq2seq.model import Translator
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training import loop, state
from seq2seq.training.loop import train
from seq2seq.training.warm_up import warm_up

pytest_plugins = ["training_fixtures"]
ROOT = Path(__file__).resolve().parents[2]
COMPILE, PASS = 70.0, 0.5
"""Seconds on the test's clock: for compiling in the first forward pass, and for every pass."""


class Clock:
    """A clock that only forward passes advance."""

    def __init__(self) -> None:
        self.now, self.compiled = 1000.0, False
        self.bar_started: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def pass_time(self) -> None:
        self.now += PASS if self.compiled else COMPILE + PASS
        self.compiled = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, forward = Clock(), Translator.forward

    def timed(self: Translator, *arguments: Any, **named: Any) -> Any:
        clock.pass_time()
        return forward(self, *arguments, **named)

    def opened(*arguments: Any) -> Logbook:
        clock.bar_started.append(clock.now)
        return Logbook(*arguments)

    monkeypatch.setattr(Translator, "forward", timed)
    monkeypatch.setattr(loop, "Logbook", opened)
    for module in (loop, state):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_no_number_contains_a_slow_first_pass(
    clock: Clock, train_here: TrainHere, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    train(train_here.config("trainer.log_every=1"), run)
    results, entries = final_results(run), read_metrics(run.metrics_file)
    assert clock.compiled
    assert clock.bar_started == [1000 + COMPILE + PASS]  # the progress bar counts from there
    assert results["seconds"] == 16 * PASS
    assert results["seconds"] <= results["wall_seconds"] < COMPILE
    assert results["tokens_per_second"] == results["tokens"] / (16 * PASS)
    logged = [e for e in entries if e["kind"] == "train"]
    assert [e["seconds"] for e in logged] == [n * PASS for n in range(1, 17)]
    tokens = [0, *(e["tokens"] for e in logged)]
    assert [e["tokens_per_second"] for e in logged] == [
        (after - before) / PASS for before, after in pairwise(tokens)
    ]


def test_no_number_of_a_resumed_run_contains_a_slow_first_pass(
    clock: Clock, train_here: TrainHere, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    constant = "optimizer.schedule=constant"
    train(train_here.config("trainer.max_updates=4", constant), run)
    before = final_results(run)
    clock.compiled = False
    again = train_here.config("trainer.max_updates=8", constant, f"resume={run.folder}")
    train(again, run)
    assert clock.compiled
    assert final_results(run)["seconds"] == before["seconds"] + 4 * PASS
    assert before["wall_seconds"] + 4 * PASS <= final_results(run)["wall_seconds"] < COMPILE


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_warm_up_leaves_no_trace(
    norm: str, new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = new_state(f"norm={norm}", "norm.min_rows=2", "model.dropout=0.3")
    forward, passes = Translator.forward, []

    def noted(self: Translator, *arguments: Any, **named: Any) -> Any:
        passes.append(self)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(Translator, "forward", noted)
    t.model.eval()
    before, chance, position = weights(t.model), torch.get_rng_state(), t.sampler.state_dict()
    warm_up(t)
    (used,) = passes
    assert used is not t.model
    assert all(p.grad is not None for p in used.parameters())
    assert used.training
    assert not any(m.training for m in t.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in t.model.state_dict().items())
    assert all(p.grad is None for p in t.model.parameters())
    assert torch.equal(torch.get_rng_state(), chance)
    assert t.sampler.state_dict() == position
    assert t.optimizer.state == {}
    assert (t.progress.update, t.interval.tokens) == (0, 0)


@pytest.mark.slow
def test_a_real_compilation_is_in_no_number(toy: list[str], tmp_path: Path) -> None:
    """The rates are alike with an empty and with a full kernel cache."""
    environment = {
        **os.environ,
        "HYDRA_MAIN_MODULE": "__main__",
        "PYTHONPATH": str(ROOT),
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"),
    }
    results, entries = [], []
    for name in ("cold", "warm"):
        folder = tmp_path / name
        program = [sys.executable, str(ROOT / "train.py"), *toy, f"hydra.run.dir={folder}"]
        subprocess.run(program, cwd=tmp_path, env=environment, check=True, capture_output=True)
        results.append(json.loads((folder / "results.json").read_text(encoding="utf-8")))
        entries.append(read_metrics(folder / "metrics.jsonl")[0])
    if not list((tmp_path / "extensions").rglob("*.so")):
        pytest.skip("no compiler")
    (cold, warm), (first, same) = results, entries
    # Compiling takes a minute; 16 updates take less than a second.
    for key in ("seconds", "wall_seconds"):
        assert cold[key] < 5 * warm[key] < 10
    assert cold["tokens_per_second"] > warm["tokens_per_second"] / 5
    assert first["seconds"] < 5 * same["seconds"]
    assert first["tokens_per_second"] > same["tokens_per_second"] / 5
    assert cold["valid_loss"] == warm["valid_loss"]
