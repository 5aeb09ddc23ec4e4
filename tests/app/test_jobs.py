"""--jobs: several processes share the lines of translate.py and evaluate.py."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT, Command, Runs, Script, printed_lines
from typed import present

from seq2seq.app import jobs

pytest_plugins = ["run_fixtures", "process_fixtures"]


# -- commands ---


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "JOB_LINES", 7)


@pytest.mark.usefixtures("small_chunks", "forked_jobs")
@pytest.mark.parametrize(
    "options",
    [
        ("--beam", 3, "--n-best", 2, "--scores"),
        ("--sample", "--n-best", 2, "--seed", 5, "--json-lines"),
    ],
    ids=str,
)
def test_the_output_is_that_of_one_process(
    two_runs: Runs, translate: Command, options: tuple[Any, ...]
) -> None:
    asked = "\n".join(["", *two_runs.sources]) + "\n"
    one = printed_lines(translate(two_runs.none, *options, stdin=asked))
    assert printed_lines(translate(two_runs.none, *options, "--jobs", 2, stdin=asked)) == one
    assert len(set(one)) > 10


@pytest.mark.usefixtures("small_chunks", "forked_jobs")
def test_evaluation_gives_the_same_scores(two_runs: Runs, script: Script, tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        file = tmp_path / f"{count}.json"
        done = script("evaluate")(
            two_runs.none, "--jobs", count, "--beam", 2, "--json", file, "--split", "valid"
        )
        assert done.code == 0, done.err
        found.append(json.loads(file.read_text(encoding="utf-8")))
    assert found[0]["runs"] == found[1]["runs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--jobs", 0), "--jobs 0: expected at least 1"),
        (("--jobs", 3, "--threads", 2), "--jobs 3: more processes than --threads 2"),
        (("--jobs", 2, "--device", "cuda"), "--jobs 2: processes share a CPU, and not a GPU"),
        (("--jobs", 2, "--attention", "a.png"), "--jobs 2: --attention a.png draws a single line"),
    ],
    ids=str,
)
def test_options_at_odds_are_refused(
    two_runs: Runs, translate: Command, options: tuple[Any, ...], message: str
) -> None:
    done = translate(two_runs.none, *options, stdin="one dogs see two cats\n")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_terminal_takes_no_jobs(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(asked: argparse.Namespace, folders: list[str]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdin.isatty", lambda: True, raising=False)
            original(asked, folders)

    original = translate.module.check
    monkeypatch.setattr(translate.module, "check", check)
    done = translate(two_runs.none, "--jobs", 2, stdin="")
    assert done.code == 2
    assert "--jobs 2: a terminal gives one line at a time" in done.err


@pytest.mark.usefixtures("forked_jobs")
def test_errors_are_those_of_one_process(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    bad = b"one dogs see two cats\n" * 9 + b"\xff\n"
    for count in (1, 2):
        done = translate(two_runs.layer, "--jobs", count, stdin=bad)
        assert done.code == 2
        assert done.err == (
            "translate.py: <stdin>:10: invalid UTF-8 at byte 1 (0xff); expected UTF-8 text\n"
        )
        done = translate(tmp_path / "no", "--jobs", count, stdin="")
        assert done.code == 2
        assert "no" in done.err


@pytest.mark.usefixtures("forked_jobs")
def test_a_damaged_run_is_the_same_error(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_runs.none, run)
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:200])
    found = [translate(run, "--jobs", count, stdin="one\n") for count in (1, 2)]
    assert found[0].code == found[1].code == 2
    assert found[0].err == found[1].err


# -- as a process ---


def started(run: Path, lines: Path, *options: str, **more: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "scripts/translate.py", str(run), "--jobs", "2", *options]
    env = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    with lines.open("rb") as stdin:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=env | {"OMP_NUM_THREADS": "1"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",  # a character may be cut
            start_new_session=True,
            **more,
        )


def workers(pid: int) -> list[int]:
    """Return the processes that a command has started to work for it."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    found = [child for file in threads for child in file.read_text(encoding="ascii").split()]
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, line in lines.items() if b"spawn_main" in line]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def many_lines(two_runs: Runs, tmp_path: Path) -> Path:
    """Return a file whose translations are more than a pipe holds."""
    file = tmp_path / "many.txt"
    file.write_text("".join(line + "\n" for line in two_runs.sources * 300), encoding="utf-8")
    return file


needs_proc = pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="no /proc"
)


def test_the_first_lines_appear_before_the_last_are_read(two_runs: Runs) -> None:
    read, write = os.pipe()
    process = started(two_runs.layer, Path(f"/dev/fd/{read}"), "--beam", "1", pass_fds=(read,))
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as lines:
        for _ in range(4 * jobs.JOB_LINES):
            lines.write(two_runs.sources[0] + "\n")
        lines.flush()
        assert present(process.stdout).readline() == two_runs.references[0] + "\n"
        lines.write(two_runs.sources[1] + "\n")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == two_runs.references[1]


@needs_proc
@pytest.mark.parametrize("everyone", [True, False], ids=["as the terminal does", "one process"])
def test_ctrl_c_ends_all_processes(two_runs: Runs, many_lines: Path, everyone: bool) -> None:
    def take_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = started(two_runs.none, many_lines, "--beam", "5", preexec_fn=take_interrupts)
    present(process.stdout).readline()
    others = workers(process.pid)
    assert len(others) == 2
    os.killpg(process.pid, signal.SIGINT) if everyone else process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert not any(map(alive, others))


def test_ctrl_c_ends_it_while_it_waits_for_input(two_runs: Runs) -> None:
    def take_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    read, write = os.pipe()
    waiting = {"pass_fds": (read,), "preexec_fn": take_interrupts}
    process = started(two_runs.none, Path(f"/dev/fd/{read}"), "--beam", "1", **waiting)
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as lines:
        lines.write((two_runs.sources[0] + "\n") * jobs.JOB_LINES)
        lines.flush()
        assert present(process.stdout).readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "interrupted\n")


@needs_proc
def test_a_closed_pipe_ends_all_processes(two_runs: Runs, many_lines: Path) -> None:
    process = started(two_runs.none, many_lines, "--beam", "1")
    assert present(process.stdout).readline()
    others = workers(process.pid)
    present(process.stdout).close()
    assert process.wait(300) == 0
    assert present(process.stderr).read() == ""
    present(process.stderr).close()
    assert not any(map(alive, others))


@needs_proc
def test_a_killed_process_gives_one_line(two_runs: Runs, many_lines: Path) -> None:
    process = started(two_runs.none, many_lines, "--beam", "5")
    present(process.stdout).readline()
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err.startswith("translate.py: --jobs: a process ended before its lines were done; ")
    assert err.count("\n") == 1
