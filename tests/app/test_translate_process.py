"""scripts/translate.py as a process: at a terminal, and with redirected output."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from runs import ROOT, Runs
from typed import present

pytest_plugins = ["run_fixtures"]


# -- as a process ---


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("HYDRA_FULL_ERROR", "COLUMNS")}
    return kept | {"TERM": "dumb", "OMP_NUM_THREADS": "1"}


def read_until(terminal: int, wanted: str, seconds: float = 300) -> str:
    """Return what a terminal shows until `wanted` appears or the terminal is closed."""
    shown, end = b"", time.monotonic() + seconds
    while wanted not in shown.decode(errors="ignore") and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the process has ended
                break
    return shown.decode()


def at_a_terminal(run: Path) -> "tuple[subprocess.Popen[bytes], int]":
    """Start the command at a terminal of its own; return the process and the terminal's other end."""
    terminal, theirs = pty.openpty()

    def take_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a test in the background would inherit that it is ignored

    process = subprocess.Popen(
        [sys.executable, "scripts/translate.py", run],
        cwd=ROOT,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_the_terminal,
    )
    os.close(theirs)
    return process, terminal


def wait_until_it_listens(
    process: "subprocess.Popen[bytes]", terminal: int, seconds: float = 300
) -> None:
    """Wait until readline controls the terminal and the process sleeps until a key is pressed.

    CPython's readline loses a signal between the prompt and that moment. No user is so fast.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]
        if state == "S" and not termios.tcgetattr(terminal)[3] & termios.ICANON:
            return
        time.sleep(0.01)
    pytest.fail("the prompt waits for no key")


def test_a_prompt_at_a_terminal(two_runs: Runs) -> None:
    process, terminal = at_a_terminal(two_runs.layer)
    shown = read_until(terminal, "> ")
    assert "Ctrl-D ends" in shown
    dialogue = (
        ("one dogs see two cats", "一狗看见二猫。"),
        ("", ""),
        ("two cats like two dogs", "二猫喜欢二狗。"),
    )
    for asked, expected in dialogue:
        os.write(terminal, asked.encode() + b"\n")
        assert read_until(terminal, "\n> ").replace("\r", "") == f"{asked}\n{expected}\n> "
    os.write(terminal, b"\x04")
    assert "Traceback" not in read_until(terminal, "never shown")
    assert process.wait(30) == 0
    os.close(terminal)


def test_ctrl_c_at_the_prompt_ends_with_exit_code_130(two_runs: Runs) -> None:
    process, terminal = at_a_terminal(two_runs.layer)
    read_until(terminal, "> ")
    wait_until_it_listens(process, terminal)
    os.write(terminal, b"half a sen\x03")
    shown = read_until(terminal, "never shown")
    assert shown.splitlines()[-1] == "interrupted"
    assert "Traceback" not in shown
    assert process.wait(30) == 130
    os.close(terminal)


def test_redirected_output_contains_no_prompt(two_runs: Runs, tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    with open(tmp_path / "out.txt", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "scripts/translate.py", two_runs.layer],
            cwd=ROOT,
            env=environment() | {"PYTHONIOENCODING": "ascii"},
            stdin=theirs,
            stdout=out,
            stderr=subprocess.PIPE,
        )
    os.close(theirs)
    assert b"Ctrl-D ends" in present(process.stderr).readline()
    os.write(terminal, b"one dogs see two cats\n\x04")
    assert process.wait(60) == 0
    present(process.stderr).close()
    os.close(terminal)
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "一狗看见二猫。\n"


def test_a_closed_pipe_ends_the_program_without_an_error(two_runs: Runs) -> None:
    asked = "".join(line + "\n" for line in two_runs.sources * 300)  # more than a pipe holds
    command = f"{sys.executable} scripts/translate.py {two_runs.layer} --beam 1; echo code $? >&2"
    process = subprocess.Popen(
        ["bash", "-c", f"({command}) | head -1"],
        cwd=ROOT,
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(asked, timeout=300)
    assert out == two_runs.references[0] + "\n"
    assert err == "code 0\n"
