"""Memory of translators: each contestant does its work in a process of its own."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TrainHere
from runs import Command, Script
from torch import Tensor

from seq2seq.benchmark import memory, peak, tables
from seq2seq.benchmark.contestants import Contestant
from seq2seq.benchmark.trained import trained_run
from seq2seq.benchmark.workload import workload
from seq2seq.rnn import LSTM

pytest_plugins = ["run_fixtures"]


def test_a_new_process_reports_the_peak_of_its_job() -> None:
    found = peak.peak(peak.MemoryJob("torch"))
    assert 50 < found < 1000  # torch alone takes some 200 MiB


def test_a_process_that_fails_is_reported() -> None:
    job = peak.MemoryJob("train", "nowhere", "layer")
    with pytest.raises(
        RuntimeError, match=r"(?s)^memory of train, norm=layer: exit code 1: .*nowhere: no such run"
    ):
        peak.peak(job)


def end(*_: object) -> float:
    """End this process, as the system does where memory ends."""
    os._exit(1)


def test_a_process_that_is_ended_is_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "growth", end)
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        memory.layer_memory((1, 1, 1, 1))


@pytest.mark.parametrize("name", ["torch.nn.LSTM", "LSTM norm=batch"])
def test_the_growth_is_that_of_two_steps_after_a_small_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries are loaded, and the peak is forgotten, before the steps that count."""
    seen: list[Any] = []

    def step(layer: Any, x: Tensor, upstream: Tensor) -> None:
        norm = f" norm={layer.norm.kind.name}" if isinstance(layer, LSTM) else ""
        seen.append((f"LSTM{norm}", tuple(x.shape), tuple(upstream.shape), x.requires_grad))

    def resident(which: str) -> float:
        seen.append(which)
        return {"VmRSS": 100.0, "VmHWM": 130.0}[which]

    monkeypatch.setattr(memory, "forward_and_backward", step)
    monkeypatch.setattr(memory, "resident", resident)
    monkeypatch.setattr(Path, "write_text", lambda path, text, **_: seen.append((str(path), text)))
    monkeypatch.setattr(memory, "CDLL", lambda _: SimpleNamespace(malloc_trim=seen.append))
    assert memory.growth(name, (3, 4, 6, 7)) == 30
    kind = name.removeprefix("torch.nn.")
    steps = [(kind, (3, 4, 6), (3, 4, 7), True)] * 2
    small = (kind, (5, 2, 8), (5, 2, 8), True)
    assert seen == [small, 0, "VmRSS", ("/proc/self/clear_refs", "5"), *steps, "VmHWM"]


@pytest.mark.parametrize("norm", [None, "none"])
def test_jobs_train_and_translate(
    norm: str | None, train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = train_here.config("norm=none")
    run = trained_run(Contestant(config, norm), workload(config, 1, 1).prepared, 2)
    threads = torch.get_num_threads()
    for kind in ("application", "train", "decode"):
        peak.do(peak.MemoryJob(kind, str(run.folder), norm, count=2, threads=threads))


def test_memory_of_layers_and_translators_is_shown_and_written(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[peak.MemoryJob] = []

    def measured(job: peak.MemoryJob) -> float:
        jobs.append(job)
        return 100.0 * len(jobs)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "peak", measured)
    monkeypatch.setattr(tables, "layer_memory", lambda _: [memory.Memory("a", 2.0, 1.0)])
    small = ("--size", "small", "--threads", 1, "--trained", 2, "--norms", "layer")
    few = ("--updates", 2, "--sentences", 3, "--feeding")
    measure: Command = script("benchmark")
    done = measure("memory", *small, *few, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    found = json.loads((tmp_path / "a.json").read_text())["memory"]
    assert list(found) == [
        "LSTM, training, T=10 B=8 I=32 H=32",
        "peak of the process, training, grammar_en_zh: 2 updates",
        "peak of the process, beam 5, grammar_en_zh: 3 sentences",
    ]
    names = [
        f"{name}{mark}"
        for mark in ("", ", input feeding")
        for name in ("plain nn.LSTM", "norm=layer")
    ]
    for rows in list(found.values())[1:]:
        assert [row["name"] for row in rows] == [*names, "import torch", "import of train.py"]
        assert [row["ratio"] for row in rows] == [
            row["mebibytes"] / rows[0]["mebibytes"] for row in rows
        ]
    once = [(None, 2), ("layer", 2), (None, 2), ("layer", 2), (None, 1), (None, 1)]
    twice = [(norm, 3 if count == 2 else 1) for norm, count in once]
    assert [(job.norm, job.count) for job in jobs] == once + twice
    assert [job.kind for job in jobs] == [
        *["train"] * 4,
        "torch",
        "application",
        *["decode"] * 4,
        "torch",
        "application",
    ]
    assert {job.threads for job in jobs[:4]} == {1}
    assert done.out.splitlines()[-1].split()[-2:] == ["1200", "1.71"]


def test_another_system_is_named(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    for command in ("memory", "all"):
        done = script("benchmark")(command, "--size", "small")
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith("status: no such file; memory is measured on Linux alone\n")
