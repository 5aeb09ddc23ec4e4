"""Other processes that are watched: their memory, their updates, their ends, and what is asked."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Script

from seq2seq.benchmark import children, commands, scaling, startup
from seq2seq.benchmark.scaling import Trained
from seq2seq.benchmark.workload import workload
from seq2seq.config import Config
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


# -- memory and updates of a training ---


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that writes a file of the system, of which there are no others."""

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    monkeypatch.setattr(scaling, "Path", lambda path: tmp_path / path.lstrip("/"))
    return write


def test_processes_below_those_below_are_found(system: Callable[[str, str], None]) -> None:
    for process, started in {1: "2 3 ", 2: "4 ", 4: "5 ", 3: ""}.items():
        system(f"proc/{process}/task/{process}/children", started)
    system("proc/3/task/30/children", "6")  # by another thread
    assert sorted(scaling.descendants(1)) == [2, 3, 4, 5, 6]
    assert scaling.descendants(4) == [5]


def test_memory_that_processes_share_is_divided(system: Callable[[str, str], None]) -> None:
    rows = ["0-1 ---p 00 00:00 0 [rollup]", "Rss:  9000 kB", "Pss:  3072 kB", "Pss_Anon:  1 kB"]
    system("proc/1/smaps_rollup", "\n".join(rows))
    assert scaling.proportional(1) == 3.0
    assert scaling.proportional(2) == 0.0


@pytest.mark.parametrize("logged", [3, 5])
def test_just_so_many_updates_are_waited_for(
    logged: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, looks = tmp_path / "metrics.jsonl", iter(range(10))
    rows = [{"kind": "train", "seconds": float(n * n)} for n in range(logged)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def is_over() -> bool:
        assert next(looks, None) is not None, "waits for more"
        return False

    monkeypatch.setattr(scaling, "training", lambda _: nullcontext((1, log, is_over)))
    monkeypatch.setattr(scaling, "MEMORY_POLL", 0)
    seen = Trained()
    scaling.watch_training([], 3, seen)
    assert seen.updates == [1.0, 3.0]


def test_sentences_have_four_to_twenty_words() -> None:
    lines = scaling.made_up(np.random.default_rng(0), 2000)
    assert {len(line.split("\t")[0].split()) for line in lines} == set(range(4, 21))


# -- commands that are started ---


def test_each_update_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def command(*words: str) -> list[str]:
        asked.append(words)
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(startup, "command", command)
    with pytest.raises(RuntimeError, match="no update was logged"):
        startup.first_update(["norm=rms"])
    assert asked[0][:3] == ("train", "norm=rms", "trainer.log_every=1")


def test_commands_get_their_threads_and_the_error_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes, options = list[tuple[str, int]](), list[Any]()
    monkeypatch.setattr(startup, "compared_runs", lambda folder: [])
    monkeypatch.setattr(startup, "first_update", lambda asked: None)
    monkeypatch.setattr(
        startup, "finish", lambda words, code=0: codes.append((words[3:][:1][0], code))
    )
    monkeypatch.setattr(startup, "first_translation", lambda *given: options.append(given))
    run = Run("nowhere")
    for threads, expected in ((3, ["--threads", "3"]), (None, [])):
        startup.starts([], run, "a line", threads, 1)
        assert options == [(run, "a line", expected)] * 2
        assert set(codes) == {("--help", 0), ("norm=nothing", 2), ("--out", 0)}
        options.clear()


def test_the_first_line_of_valid_is_translated(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    configs: list[Config] = []

    def trained_run(contestant: Any, *_: Any) -> Run:
        configs.append(contestant.config)
        return Run("nowhere")

    def starts(asked: Any, run: Any, line: str, *_: Any) -> dict[str, Any]:
        lines.append(line)
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "trained_run", trained_run)
    monkeypatch.setattr(commands, "starts", starts)
    done = script("benchmark")("startup", "--size", "small", "--norms", "rms")
    assert (done.code, done.err) == (0, "")
    valid = workload(configs[0], 1, 1).prepared.split("valid")
    assert lines == valid.lines("source")[:1]


# -- how they end ---


@pytest.mark.parametrize(
    ("program", "code"), [("pass", 0), ("import os; os.kill(os.getpid(), 9)", -9)]
)
def test_less_than_the_expected_code_is_a_failure(program: str, code: int) -> None:
    with pytest.raises(RuntimeError, match=rf"^two: exit code {code}: "):
        children.finish([sys.executable, "-c", program], 2, name="two")


def test_an_error_has_the_end_of_what_was_printed() -> None:
    failed = children.failure("one", 1, "begin " + "no " * children.LONGEST + "end\n")
    assert str(failed).startswith("one: exit code 1: ")
    assert str(failed).endswith("no no end")
    assert "begin" not in str(failed)


def test_a_process_ends_where_its_watch_fails(tmp_path: Path) -> None:
    program = f"import time; time.sleep(4); open({str(tmp_path / 'late')!r}, 'w')"

    def watch(process: int, is_over: Callable[[], bool]) -> None:
        raise RuntimeError("cannot see")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="cannot see"):
        children.finish([sys.executable, "-c", program], watch=watch)
    assert not (tmp_path / "late").exists(), time.monotonic() - started
