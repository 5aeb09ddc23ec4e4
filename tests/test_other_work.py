"""What a training and a translation say where other work has the cores."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import TrainHere
from runs import Command, Runs, Script

from seq2seq import other_work
from seq2seq.other_work import OtherWork, core_times

pytest_plugins = ["run_fixtures"]
CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def give(monkeypatch: pytest.MonkeyPatch, *times: tuple[float, float]) -> None:
    """Let the next readings be these seconds that the thread has run and waited."""
    readings = iter(times)
    monkeypatch.setattr(other_work, "core_times", lambda: next(readings))


@pytest.mark.parametrize(
    ("end", "share"),
    [
        ((14.0, 21.0), "20%"),
        ((11.0, 22.0), "67%"),
        ((14.1, 21.0), None),  # less than a fifth
        ((10.4, 20.5), None),  # less than a second
        ((10.0, 20.0), None),  # not known
    ],
)
@pytest.mark.usefixtures("two_threads")
def test_it_speaks_where_a_thread_waits_for_a_fifth_of_the_time(
    end: tuple[float, float], share: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, (10.0, 20.0), end)
    found = OtherWork().remark(CPU, "training", "trainer.threads=1, also when it is resumed")
    assert ("trainer.threads=1" in found) == (share is not None)
    assert (share or "") in found
    assert len(found) < 200


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda", 2)])
@pytest.mark.usefixtures("two_threads")
def test_one_thread_and_a_gpu_wait_for_no_other(
    device: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(threads)
    give(monkeypatch, (0.0, 0.0), (1.0, 9.0))
    assert OtherWork().remark(torch.device(device), "training", "trainer.threads=1") == ""


@pytest.mark.parametrize("content", [None, "", "1", "a b 3"])
def test_times_that_a_system_does_not_tell_are_zero(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_work, "SCHEDULER", tmp_path / "schedstat")
    if content is not None:
        (tmp_path / "schedstat").write_text(content)
    assert core_times() == (0.0, 0.0)


@pytest.mark.skipif(not other_work.SCHEDULER.exists(), reason="only Linux tells waiting times")
def test_a_thread_that_shares_its_core_waits() -> None:
    core = min(os.sched_getaffinity(0))
    rival = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    found = []

    def work() -> None:
        os.sched_setaffinity(0, {core})  # of this thread
        before, end = core_times(), time.monotonic() + 60
        while time.monotonic() < end:
            ran, waited = (now - then for now, then in zip(core_times(), before, strict=True))
            if ran > 0.2 and waited > 0.2:
                break
        found.append((ran, waited))

    try:
        os.sched_setaffinity(rival.pid, {core})
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        rival.kill()
        rival.wait()
    [(ran, waited)] = found
    assert ran > 0.2
    assert waited > 0.2


@pytest.mark.usefixtures("two_threads")
def test_a_training_says_it_once(
    train_here: TrainHere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    passing(monkeypatch)
    train_here(tmp_path / "run", "trainer.threads=2", "trainer.log_every=1")
    out = capsys.readouterr().out
    assert out.count("other work has the cores: this training waits for one 33% of the time") == 1


def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every reading be a second of waiting and two of work later than the one before."""
    readings = iter(range(100))
    monkeypatch.setattr(other_work, "core_times", lambda: (2.0 * (n := next(readings)), 1.0 * n))


@pytest.mark.usefixtures("two_threads")
def test_a_translation_says_it_once(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing(monkeypatch)
    monkeypatch.setattr(translate.module, "CHUNK_LINES", 3)
    lines = "".join(line + "\n" for line in two_runs.sources)
    done = translate(two_runs.none, "--threads", "2", stdin=lines)
    assert done.code == 0, done.err
    assert done.err.count("this translation waits for one 33% of the time") == 1
    assert "(--threads 1)" in done.err


@pytest.mark.usefixtures("two_threads")
def test_an_evaluation_says_it(
    two_runs: Runs, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing(monkeypatch)
    done = script("evaluate")(two_runs.none, "--threads", "2")
    assert done.code == 0, done.err
    assert done.err.count("this translation waits for one 33% of the time") == 1
