"""Memory of one contestant: what its process does, and what it reads of itself."""

import io
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TrainHere

from seq2seq.benchmark import decoding, peak, training
from seq2seq.benchmark.contestants import Contestant
from seq2seq.benchmark.workload import Workload
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]
STATUS = "Name:\tpython\nVmHWM:\t    6144 kB\nVmRSS:\t    3072 kB\nThreads:\t1\n"


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(train_here: TrainHere, tmp_path: Path) -> Run:
    """Return a run that has settings alone."""
    run = Run(tmp_path / "run")
    run.save_config(train_here.config("norm=none", "decode.beam_size=3"))
    return run


def test_memory_is_read_in_mebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text(STATUS)
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    assert (peak.resident("VmRSS"), peak.resident("VmHWM")) == (3.0, 6.0)


@pytest.mark.usefixtures("one_thread")
def test_the_largest_memory_so_far_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"kind": "torch", "threads": 1})))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: STATUS)
    monkeypatch.delitem(sys.modules, peak.__name__)
    runpy.run_module(peak.__name__, run_name="__main__")
    assert capsys.readouterr().out == "6.0\n"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("norm", [None, "none"])
def test_a_training_makes_its_updates_with_its_threads(
    norm: str | None, settings: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival's batches have sentences of similar lengths, as in the table of training."""
    made: list[Any] = []

    def updates(work: Workload, contestant: Contestant) -> tuple[None, Callable[[], None]]:
        made.append((len(work.batches), contestant.norm, contestant.by_length))
        return None, lambda: made.append(torch.get_num_threads())

    monkeypatch.setattr(training, "updates", updates)
    for threads in (2, 1):
        peak.do(peak.MemoryJob("train", str(settings.folder), norm, count=3, threads=threads))
        assert made == [(3, norm, norm is None), threads]
        made.clear()


@pytest.mark.usefixtures("one_thread")
def test_a_search_translates_its_sentences(settings: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def new_search(contestant: Contestant, run: Run) -> tuple[None, Callable[..., None]]:
        made.append((contestant.norm, run.folder))
        return None, lambda sentences, config: made.append((len(sentences), config.beam_size))

    monkeypatch.setattr(decoding, "new_search", new_search)
    peak.do(peak.MemoryJob("decode", str(settings.folder), "none", count=4))
    assert made == [("none", settings.folder), (4, 3)]
