"""A forked program is, for who starts it, as a new Python that runs the program."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from typed import present

from seq2seq.files import is_alive

pytest_plugins = ["process_fixtures"]

PROGRAM = """
import os, signal, sys
print(__name__, os.path.basename(__file__), sys.argv[1:], sys.stdin.read(), os.getcwd())
print(os.environ.get("WANTED"), os.environ.get("HOME"), file=sys.stderr)
assert "torch" in sys.modules
if "fail" in sys.argv:
    raise ValueError("wrong")
if "die" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
if "wait" in sys.argv:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    print(os.getpid(), flush=True)
    print(signal.sigwait([signal.SIGINT]).name)
sys.exit(3)
"""


@pytest.fixture
def program(tmp_path: Path, forked_python: list[str]) -> list[str]:
    """Return the words of a command that runs PROGRAM."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return [*forked_python, str(tmp_path / "program.py")]


@pytest.mark.parametrize(
    ("word", "code"), [("a b", 3), ("fail", 1), ("die", -signal.SIGKILL)], ids=str
)
def test_words_folder_environment_streams_and_end_are_its_own(
    word: str, code: int, program: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [*program, word],
        input="typed 一",
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={"WANTED": "here"},
        check=False,
    )
    assert done.returncode == code
    if code != -signal.SIGKILL:  # which loses what is not written yet
        assert done.stdout == f"__main__ program.py ['{word}'] typed 一 {tmp_path}\n"
        assert done.stderr.startswith("here None\n")
        assert ("ValueError: wrong" in done.stderr) == (word == "fail")


def waiting(program: list[str]) -> "tuple[subprocess.Popen[str], int]":
    """Start PROGRAM; return the process that asked for it, and its own number."""
    asked = subprocess.Popen(
        [*program, "wait"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    present(asked.stdout).readline()
    return asked, int(present(asked.stdout).readline())


def test_a_signal_is_passed_on(program: list[str]) -> None:
    asked, _ = waiting(program)
    asked.send_signal(signal.SIGINT)
    assert asked.communicate(timeout=60)[0] == "SIGINT\n"
    assert asked.returncode == 3


def test_it_ends_where_the_process_that_asked_is_killed(program: list[str]) -> None:
    asked, number = waiting(program)
    assert is_alive(number)
    asked.kill()
    asked.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(number)
