"""Several processes that train one model: what they compute, and the table about them."""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from runs import Script
from two_processes import run_together, variables

from seq2seq.benchmark import processes, together
from seq2seq.benchmark.processes import Group, groups
from seq2seq.benchmark.together import ProcessJob
from seq2seq.config import Config
from seq2seq.runs.folder import Run
from seq2seq.training.optimizer import make_optimizer
from seq2seq.training.processes import ONE_PROCESS, Processes, joined

pytest_plugins = ["run_fixtures"]
SMALL = ["model.dropout=0", "norm=layer"]


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> ProcessJob:
    """Two updates of the toy corpus."""
    run = Run(tmp_path / "settings")
    run.save_config(composed(*toy, *SMALL))
    return ProcessJob(str(run.folder), updates=2, threads=1)


def test_each_update_has_its_time(job: ProcessJob) -> None:
    times = together.update_times(job, ONE_PROCESS)
    assert len(times) == 2
    assert all(0 < time < 60 for time in times)


@dataclass(frozen=True)
class Waiting(Processes):
    """A process that notes when it waits for the others."""

    clock: list[float] = field(default_factory=lambda: [0.0])

    def wait(self) -> None:
        self.clock[0] += 100


def test_the_longest_batch_and_waiting_are_not_timed(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest batch comes first, so that later ones have all the memory that they need."""
    processes, lengths, run = Waiting(), list[int](), Run(tmp_path / "settings")
    few = ["data.batch_tokens=null", "data.batch_sentences=1"]
    run.save_config(composed(*toy, *SMALL, *few))

    def step(model: Any, optimizer: Any, batches: list[Any], *_: Any) -> None:
        [batch] = batches
        lengths.append(batch.tgt.size(1))
        processes.clock[0] += 10.0 ** -len(lengths)

    monkeypatch.setattr(time, "perf_counter", lambda: processes.clock[0])
    monkeypatch.setattr(together, "train_step", step)
    times = together.update_times(ProcessJob(str(run.folder), 6, 1), processes)
    assert times == pytest.approx([10.0**-n for n in range(2, 8)], abs=1e-9)
    assert lengths[0] == max(lengths) > min(lengths)


def test_a_process_has_the_threads_of_its_job(
    job: ProcessJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("sys.argv", ["together", json.dumps(asdict(replace(job, threads=3)))])
    monkeypatch.setattr(together, "update_times", lambda *_: [float(torch.get_num_threads())])
    try:
        together.main()
    finally:
        torch.set_num_threads(before)
    assert json.loads(capsys.readouterr().out) == [3.0]


def both_ways(rank: int, job: ProcessJob, folder: Path, environments: list[dict[str, str]]) -> None:
    """Train as this program does and by DDP; save the weights of both."""
    os.environ |= environments[rank]
    torch.set_num_threads(1)
    made: list[Any] = []

    def noted(model: Any, *arguments: Any) -> Any:
        made.append(model)
        return make_optimizer(model, *arguments)

    pytest.MonkeyPatch().setattr(together, "make_optimizer", noted)
    with joined(torch.device("cpu")) as group:
        for ddp in (False, True):
            together.update_times(replace(job, ddp=ddp), group)
        torch.save([model.state_dict() for model in made], folder / f"{rank}.pt")
        group.wait()
        os._exit(0)  # the destructors of DDP and of its group may wait for each other


def test_ddp_makes_the_updates_of_this_program(job: ProcessJob, tmp_path: Path) -> None:
    run_together(both_ways, (job, tmp_path, variables()))
    for rank in range(2):
        ours, theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_several_processes_are_started(toy: list[str], tmp_path: Path) -> None:
    config = composed(*toy, *SMALL)
    times = processes.group_times(Group("two", config, 2, ddp=True), tmp_path / "run", 2, 2)
    assert len(times) == 2
    broken = replace(config, data=replace(config.data, max_length=1))
    with pytest.raises(RuntimeError, match=r"(?s)broken: exit code 1: .*no pair"):
        processes.group_times(Group("broken", broken), tmp_path / "other", 1, 2)


@pytest.mark.parametrize(("number", "share"), [(1, 5), (2, 2), (9, 1)])
def test_processes_share_the_threads(
    toy: list[str], tmp_path: Path, number: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seconds are in the one line of JSON; a launcher may print others."""
    started: list[list[str]] = []

    def finish(words: list[str], name: str) -> str:
        started.append(words)
        return "a remark\n[0.5, 0.25]\n"

    monkeypatch.setattr(processes, "finish", finish)
    group = Group("some", composed(*toy), number, ddp=number > 1)
    assert processes.group_times(group, tmp_path / "run", 5, 7) == [0.5, 0.25]
    [(_, *launcher, job)] = started
    assert ProcessJob(**json.loads(job)) == ProcessJob(
        str(tmp_path / "run"), 7, share, ddp=number > 1
    )
    assert (f"--nproc-per-node={number}" in launcher) == (number > 1)


def test_batch_norm_is_compared_with_shared_statistics(toy: list[str]) -> None:
    found = groups(composed(*toy, "norm=batch"), 4)
    assert [group.name for group in found] == [
        "one process",
        "4 processes",
        "4 processes, norm.sync=true",
    ]
    assert [group.processes for group in found] == [1, 4, 4]
    assert [group.config.norm.sync for group in found] == [False, False, True]
    others = groups(composed(*toy, "norm=rms"), 2)
    assert [(group.name, group.ddp) for group in others][2] == ("2 processes, by DDP", True)


def test_groups_take_turns_and_are_shown(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started: list[tuple[str, int, int]] = []

    def group_times(group: Group, folder: Path, threads: int, updates: int) -> list[float]:
        assert isinstance(group.config, Config)
        started.append((group.name, threads, updates))
        return [0.25 * (1 + group.ddp), 0.25, 9.0] if group.processes > 1 else [0.5] * 3

    monkeypatch.setattr(processes, "group_times", group_times)
    small = "--size", "small", "--rounds", 2, "--threads", 1, "--norms", "rms"
    done = script("benchmark")("processes", *small, "--processes", 2, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    names = ["one process", "2 processes", "2 processes, by DDP"]
    assert started == [(name, 1, 2) for name in names] * 2
    [(title, rows)] = json.loads((tmp_path / "a.json").read_text())["tables"].items()
    assert title == "an update, norm=rms, grammar_en_zh: 1 thread in all"
    assert [(row["name"], row["milliseconds"], row["ratio"]) for row in rows] == [
        ("one process", 500, 1),
        ("2 processes", 250, 0.5),
        ("2 processes, by DDP", 500, 1),
    ]
    assert "2 processes, by DDP" in done.out
