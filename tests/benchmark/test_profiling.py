"""Profiles by module: whose operators and gradients take the time."""

import json
from pathlib import Path

import pytest
import torch
from runs import Command, Script
from torch import nn

from seq2seq.benchmark.profiling import OUTSIDE, profiled

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
    large, small = found["large"], found["small"]
    assert large.forward > small.forward
    assert large.backward > small.backward > 0
    assert found["whole"].backward > 0  # of tanh
    assert found["optimizer"].backward == 0
    assert "aten::addmm" in table
    assert not model._forward_hooks
    assert not model.large._forward_pre_hooks


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
        ("decode", "plain", "beam 5, plain nn.LSTM, grammar_en_zh", "decoder"),
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
    small = ("--size", "small", "--norms", "layer", *trained, "--profile", name)
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
