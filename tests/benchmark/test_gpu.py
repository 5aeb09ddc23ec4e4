"""Layers on a GPU: what is checked and timed, in what order, and what is written when.

Here CPU tensors count as those of a GPU, and functions in plain torch are the kernels.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Command, Script

import seq2seq.rnn.gpu
from seq2seq.benchmark import commands, gpu
from seq2seq.benchmark.layers import NORMS
from seq2seq.benchmark.results import Check, Results
from seq2seq.rnn import backends, reference
from seq2seq.rnn.cpu import launch, operators
from seq2seq.rnn.gpu import self_check

pytest_plugins = ["run_fixtures"]
CPU = torch.device("cpu")
LATER = float("inf")
KINDS = [
    f"kernels of {cell}, norm={norm}{low}"
    for cell in ("LSTM", "GRU", "RNN tanh", "RNN relu")
    for norm in (
        *("none", "batch", "layer", "rms", "sequence_input"),
        *(f"{norm}, cell=none" for norm in ("layer", "rms", "sequence_input") if cell == "LSTM"),
    )
    for low in ("", ", bf16")
]
TABLES = [
    f"on a GPU: LSTM, {what}, {kind}, T=3 B=4 I=8 H=8"
    for kind in ("TF32", "bf16")
    for what in ("training", "inference")
]
LAYERS = ["none", "none fused", "batch", "layer", "layer reference", "rms"]


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let CPU tensors count as those of a GPU, with plain torch as its kernels."""
    monkeypatch.setattr(seq2seq.rnn.gpu, "is_gpu", lambda device: True)
    monkeypatch.setattr(operators, "gpu_failure", lambda: None)
    monkeypatch.setattr(backends, "eager_on_cpu", lambda *_: False)
    monkeypatch.setattr(launch, "recurrence", reference.recurrence)
    monkeypatch.setattr(self_check, "KNOWN", {})
    monkeypatch.setattr(self_check, "SIZES", [5, 4, 2])
    torch._C._set_mkldnn_enabled(False)  # with it not every CPU runs torch.nn.LSTM in bfloat16
    yield
    torch._C._set_mkldnn_enabled(True)


def measured(until: float = LATER) -> tuple[Results, list[dict[str, Any]]]:
    """Return the results of small sizes, and what was saved on the way."""
    results, saved = Results(), list[dict[str, Any]]()
    gpu.measure(
        results,
        gpu.Plan(CPU, "small", 1, until),
        lambda: saved.append(json.loads(json.dumps(results.as_json()))),
    )
    return results, saved


def test_everything_is_checked_before_anything_is_timed(on_a_gpu: None) -> None:
    results, saved = measured()
    names = [check.name for check in results.checks]
    assert names[: 1 + len(KINDS)] == ["GPU kernels", *KINDS]
    assert names[1 + len(KINDS) :] == [
        f"LSTM norm={norm} and plain torch, T=3 B=4 I=8 H=8{low}"
        for low in ("", ", bf16")
        for norm in NORMS
    ]
    assert [check for check in results.checks if check.failure is not None] == []
    assert list(results.timings) == TABLES
    for rows in results.timings.values():
        assert [row.name for row in rows] == ["torch.nn.LSTM", *(f"LSTM norm={n}" for n in LAYERS)]
    assert results.left_out == []
    assert len(saved) == len(names) - 1 + len(TABLES) + 1
    assert [len(s["checks"]) for s in saved[:3]] == [2, 3, 4]
    assert [len(s["tables"]) for s in saved[-5:]] == [1, 2, 3, 4, 4]


def test_nothing_begins_after_the_time(on_a_gpu: None) -> None:
    results, saved = measured(until=time.monotonic() - 1)
    assert [check.name for check in results.checks] == ["GPU kernels"]
    assert results.timings == {}
    assert results.left_out[: len(KINDS)] == KINDS
    assert results.left_out[-len(TABLES) :] == TABLES
    assert saved[-1]["left out"] == results.left_out


def test_wrong_kernels_are_named_and_not_timed(
    on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*args: Any) -> Any:
        output, last = reference.recurrence(*args)
        return output * 1.5, last

    monkeypatch.setattr(launch, "recurrence", wrong)
    monkeypatch.setattr(gpu, "kinds", lambda *_: {})
    results, _ = measured()
    failed = {check.name: check.failure for check in results.checks if check.failure is not None}
    assert list(failed) == ["LSTM norm=none fused, T=3 B=4 I=8 H=8"]
    assert "backend='fused': the GPU kernels of lstm with no norm" in str(failed.popitem()[1])
    assert all("LSTM norm=none fused" not in {r.name for r in t} for t in results.timings.values())
    results.show()
    assert "9 of 13 checks passed" in capsys.readouterr().out


def test_a_layer_that_is_off_is_named(on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "failure", lambda p: None)
    assert gpu.apart("layer", (3, 4, 8, 8), CPU, False) is None
    monkeypatch.setattr(
        launch,
        "recurrence",
        lambda *args: (2 * (found := reference.recurrence(*args))[0], found[1]),
    )
    found = gpu.apart("layer", (3, 4, 8, 8), CPU, False)
    assert found == "output is off by 1 of its norm; allowed is 0.0001"


def test_a_layer_whose_output_is_no_number_is_named(
    on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference that is not a number is not within what is allowed."""
    monkeypatch.setattr(self_check, "failure", lambda p: None)
    monkeypatch.setattr(
        launch,
        "recurrence",
        lambda *args: (float("nan") * (found := reference.recurrence(*args))[0], found[1]),
    )
    found = gpu.apart("layer", (3, 4, 8, 8), CPU, False)
    assert found == "output is off by nan of its norm; allowed is 0.0001"


def test_layers_are_compared_without_tf32_and_timed_with_it(
    on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []

    def noted(*args: Any) -> Any:
        enabled = torch.backends.cuda.matmul.allow_tf32
        seen.append((enabled, torch.is_grad_enabled()))
        return reference.recurrence(*args)

    monkeypatch.setattr(launch, "recurrence", noted)
    monkeypatch.setattr(self_check, "failure", lambda p: None)
    gpu.apart("layer", (3, 4, 8, 8), CPU, False)
    assert {enabled for enabled, _ in seen} == {False}
    seen.clear()
    for task in gpu.gpu_tasks((3, 4, 8, 8), CPU, False, True, Results()).values():
        task()
    assert {enabled for enabled, _ in seen} == {True}


@pytest.mark.parametrize("backward", [True, False])
def test_layers_are_timed_in_training_or_in_eval_mode(on_a_gpu: None, backward: bool) -> None:
    tasks = gpu.gpu_tasks((3, 4, 8, 8), CPU, False, backward, Results())
    modes = {task.args[0].args[0].training for task in tasks.values()}  # type: ignore[attr-defined]
    assert modes == {backward}


def test_tf32_is_as_before_afterwards() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with gpu.tf32(not before[0]):
        assert torch.backends.cuda.matmul.allow_tf32 is not before[0]
        assert torch.backends.cudnn.allow_tf32 is not before[0]
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


# -- scripts/benchmark.py layers --device cuda ---


@pytest.fixture
def measure(script: Script) -> Iterator[Command]:
    threads = torch.get_num_threads()
    yield script("benchmark")
    torch.set_num_threads(threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_refused(measure: Command) -> None:
    done = measure("layers", "--device", "cuda")
    assert (done.code, done.out) == (2, "")
    assert "--device cuda: torch finds no CUDA device here" in done.err


@pytest.fixture
def has_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "choose_device", lambda *_: torch.device("cuda", 0))
    monkeypatch.setattr(gpu, "versions", lambda device: {"gpu": "some GPU", "cuda": "13"})


def test_what_it_does_not_have_on_a_gpu_is_refused(measure: Command, has_gpu: None) -> None:
    done = measure("layers", "--device", "cuda", "--figure", "a.png")
    assert done.code == 2
    assert "--device cuda: expected neither --figure nor --compile" in done.err
    assert "--minutes 0: expected at least 1" in measure("layers", "--minutes", 0).err


def test_what_was_measured_is_written_before_the_end(
    measure: Command, has_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.monotonic()

    def lost(results: Results, plan: gpu.Plan, save: Any) -> None:
        assert (plan.size, plan.rounds, plan.device.type) == ("small", 2, "cuda")
        assert 170 < plan.until - begun < 300
        results.checks.append(Check("kernels", 1.0, None))
        save()
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(gpu, "measure", lost)
    file = tmp_path / "gpu.json"
    options = ["--size", "small", "--rounds", 2, "--minutes", 3, "--json", file]
    done = measure("layers", "--device", "cuda", *options)
    assert done.code == 1
    assert "the device is lost" in done.err
    found = json.loads(file.read_text())
    assert found["machine"]["gpu"] == "some GPU"
    assert found["checks"] == [{"name": "kernels", "seconds": 1.0, "failure": None}]
