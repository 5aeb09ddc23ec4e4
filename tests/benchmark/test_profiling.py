"""Profiles by module: whose operators and gradients take the time."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import Command, Script
from torch import nn

from seq2seq.benchmark import commands
from seq2seq.benchmark.profiling import OUTSIDE, Share, by_module, profiled

pytest_plugins = ["run_fixtures"]


class Two(nn.Module):
    """A large product, a small one, and an operator outside of both."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Linear(300, 300), nn.Linear(300, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.small(self.large(x)))


def test_operators_and_gradients_belong_to_the_innermost_module() -> None:
    model, x = Two(), torch.randn(500, 300, requires_grad=True)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> None:
        model(x).sum().backward()
        optimizer.step()

    shares, table = profiled(run, model, "whole")
    found = {share.module: share for share in shares}
    assert found.keys() == {"whole", "large", "small", "optimizer", OUTSIDE}
    assert sum(share.share for share in shares) == pytest.approx(1)
    assert [share.share for share in shares] == sorted((s.share for s in shares), reverse=True)
    for name in ("large", "small"):
        assert found[name].forward > 0
        assert found[name].backward > 0
    assert found["whole"].backward > 0  # of tanh
    assert found["optimizer"].backward == 0
    assert "aten::addmm" in table
    assert not model._forward_hooks
    assert not model.large._forward_pre_hooks


def test_what_happens_in_a_first_run_is_not_profiled() -> None:
    """It loads libraries and finds memory, of which later ones have no need."""
    model, runs = Two(), list[None]()

    def run() -> None:
        if not runs:
            torch.linalg.svd(torch.randn(3, 3))
        runs.append(model(torch.randn(2, 300)).sum().backward())

    _, table = profiled(run, model, "whole")
    assert len(runs) == 2
    assert "svd" not in table


def event(
    name: str, start: int, milliseconds: float = 0, number: int = -1, parent: Any = None
) -> Any:
    """Return what the profiler records of an operator or a range."""
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start),
        self_cpu_time_total=1000 * milliseconds,
        sequence_nr=number,
        cpu_parent=parent,
    )


def test_a_gradient_belongs_to_the_last_operator_with_its_number() -> None:
    outer = event("module outer", 0)
    inner = event("module inner", 2, parent=outer)
    node = event("autograd::engine::evaluate_function: MmBackward0", 4, number=7)
    events = [
        event("aten::mm", 5, 4, parent=event("MmBackward0", 5, number=7, parent=node)),
        outer,
        event("aten::empty", 1, 1, number=7, parent=outer),  # made no node of the graph
        event("aten::mm", 3, 2, number=7, parent=inner),
        event("aten::zero_", 6, 1),
        event("aten::add_", 7, 2, parent=event("Optimizer.step#Adam.step", 7)),
    ]
    assert by_module(events) == [
        Share("inner", 2, 4, 0.6),
        Share("optimizer", 2, 0, 0.2),
        Share("outer", 1, 0, 0.1),
        Share(OUTSIDE, 1, 0, 0.1),
    ]


def test_without_gradients_nothing_is_backward() -> None:
    model = Two()

    @torch.no_grad()
    def run() -> None:
        model(torch.randn(10, 300))

    shares, _ = profiled(run, model, "whole")
    assert all(share.backward == 0 for share in shares)


@pytest.mark.parametrize(
    ("command", "name", "title", "module"),
    [
        ("train", "layer", "training, norm=layer, grammar_en_zh", "encoder.layers.0"),
        ("decode", "plain", "beam 5, plain nn.LSTM, grammar_en_zh", "encoder"),
    ],
)
def test_a_profile_is_shown_and_written(
    command: str,
    name: str,
    title: str,
    module: str,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    measure: Command = script("benchmark")
    trained = ("--trained", 2) if command == "decode" else ()
    small = ("--size", "small", *trained, "--profile", name)
    done = measure(command, *small, "--json", tmp_path / "a.json")
    assert done.code == 0
    results = json.loads((tmp_path / "a.json").read_text())
    assert results["tables"] == {}
    [(found, shares)] = results["profiles"].items()
    assert found == title
    assert module in {share["module"] for share in shares}
    lines = done.out.splitlines()
    assert lines[1].rstrip() == title
    assert lines[2].split() == ["forward", "ms", "backward", "ms", "share"]
    assert any(line.startswith("Self CPU time total") for line in lines)


def test_a_profile_of_search_has_the_precision_of_its_settings(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered: list[bool] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        commands,
        "new_search",
        lambda *_: (nn.Linear(1, 1), lambda *_: lowered.append(torch.is_autocast_enabled("cpu"))),
    )
    few = ("--size", "small", "--trained", 1, "--profile", "plain")
    done = script("benchmark")("decode", *few, "--set", "trainer.precision=bf16")
    assert done.code == 0
    assert "beam 5, plain nn.LSTM, bf16, grammar_en_zh" in done.out
    assert set(lowered) == {True}
