"""Start-up: what is started, and that each command's time is taken until its result is there."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from runs import Command, Script

from seq2seq.benchmark import startup
from seq2seq.benchmark.children import finish
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]
RUN = "outputs/benchmark/grammar_en_zh/rms-2"


def test_the_first_round_is_not_counted_and_commands_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def job(name: str, *seconds: float) -> None:
        calls.append(name)
        now[0] += seconds[calls.count(name) - 1]

    jobs = {"a": lambda: job("a", 9, 1, 2), "b": lambda: job("b", 9, 3, 4)}
    assert startup.timed(jobs, range(3)) == {"a": [1, 2], "b": [3, 4]}
    assert calls == ["a", "b"] * 3


def test_training_ends_with_its_first_update(toy: list[str]) -> None:
    startup.first_update([*toy, "trainer.max_epochs=1000000"])


def test_a_training_that_fails_before_its_first_update_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"no update was logged: .*norm=nothing"):
        startup.first_update(["norm=nothing"])


def kill_after_first_update(overrides: list[str]) -> None:
    """Kill a training, as the system does where memory ends."""
    with startup.training(overrides) as (process, log, is_over):
        while not log.exists():
            time.sleep(startup.POLL)
        os.kill(process, signal.SIGKILL)
        while not is_over():
            time.sleep(startup.POLL)


def test_a_training_that_fails_after_its_first_update_is_reported(toy: list[str]) -> None:
    with pytest.raises(RuntimeError, match=r"import train; train\(\) .*: exit code -9: "):
        kill_after_first_update([*toy, "trainer.max_epochs=1000000"])


def test_a_line_is_translated(finished: Run) -> None:
    startup.first_translation(finished, "do re mi", ["--threads", "1"])


def test_a_translation_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"translate; translate\(\) .*: exit code 2: .*no such"):
        startup.first_translation(Run(tmp_path), "do re mi", [])


def test_an_exit_code_other_than_expected_is_reported() -> None:
    finish(startup.command("train", "norm=nothing"), 2)
    with pytest.raises(RuntimeError, match=r"norm=nothing: exit code 2: .*expected one of"):
        finish(startup.command("train", "norm=nothing"))


def test_start_up_is_shown_and_written(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(startup, "finish", lambda words, code=0: started.append(words[3]))
    monkeypatch.setattr(startup, "first_update", lambda asked: started.append(asked[-2:]))
    monkeypatch.setattr(startup, "first_translation", lambda run, *_: started.append(run.folder))
    small = (
        "--size",
        "small",
        "--rounds",
        2,
        "--threads",
        1,
        "--trained",
        2,
        "--norms",
        "rms,layer",
    )
    measure: Command = script("benchmark")
    done = measure("startup", *small, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    once = ["--help", "norm=nothing", ["norm=rms", "trainer.threads=1"], Path(RUN)]
    norms = [f"norm={norm}" for norm in startup.COMPARED]
    assert started[:3] == norms
    for number in range(3):
        *found, compared = started[3 + 5 * number :][:5]
        assert found == once
        assert Path(str(compared)).name == startup.COMPARED[0]
    assert len(started) == 18
    [(title, rows)] = json.loads((tmp_path / "a.json").read_text())["startup"].items()
    assert title == "start-up, 2 times"
    assert [row["name"] for row in rows] == [
        "train.py --help",
        "train.py, an error",
        "train.py, first update",
        "translate.py, first translation",
        "compare.py, three runs",
    ]
    assert all(row["least"] <= row["seconds"] <= row["most"] for row in rows)
    assert done.out.splitlines()[-1].startswith("compare.py, three runs")


@pytest.mark.slow
def test_three_small_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = startup.compared_runs(tmp_path / "compared")
    finish(startup.command("compare", *runs, "--out", str(tmp_path / "out")))
    assert (tmp_path / "out" / "report.html").is_file()
