"""Standard streams that are closed, or on a full disk: one line and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from seq2seq.runs.folder import Run

pytest_plugins = ["process_fixtures", "run_fixtures"]
FULL = Path("/dev/full")


def ended(
    words: list[str], shell: str, folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command by a shell that redirects its streams; neither pytest's nor Hydra's settings."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "PYTHON"))}
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *words],
        cwd=folder,
        env={**known, "PYTHONPATH": str(ROOT), "HYDRA_MAIN_MODULE": "__main__", **environment},
        capture_output=True,
        text=True,
    )


PRINTED = """
import logging, sys
from seq2seq.app.exit_codes import exiting
sys.argv = ["printing.py"]
with exiting():
    logging.basicConfig(stream=sys.stdout)
    logging.warning("logged")
    print("first", end="")
    sys.stderr.write("progress")
"""


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("end", ["", "\n    sys.exit(0)"], ids=["end", "--help"])
def test_a_full_disk_behind_standard_output_is_one_line(
    unbuffered: str, end: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", PRINTED + end]
    done = ended(program, "> /dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == "progressprinting.py: standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output_ends_a_training(
    toy: list[str], forked_python: list[str], tmp_path: Path
) -> None:
    words = [*forked_python, str(ROOT / "train.py"), *toy, f"hydra.run.dir={tmp_path / 'run'}"]
    done = ended(words, "> /dev/full", tmp_path)
    assert done.stderr == "train.py: standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_error_changes_no_exit_code(
    forked_python: list[str], tmp_path: Path
) -> None:
    done = ended([*forked_python, str(ROOT / "train.py"), "nothing=3"], "2> /dev/full", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


def test_output_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    """Also where it is so short that it is written as the command ends."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PRINTED]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open(writer, "wb") as nobody:
        done = subprocess.run(
            command, env=environment, stdout=nobody, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (0, "progress")


def test_standard_streams_may_be_closed(tmp_path: Path) -> None:
    program = """
import sys
from seq2seq.app.exit_codes import exiting
with exiting():
    streams = [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)]
    print(streams, [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)])
    print("remark", file=sys.stderr)
    raise ValueError(sys.stdin.read())
"""
    for shell, shown in (
        ("<&-", "[False, False, False] [0, 1, 2]\n"),
        ("2>&-", "[False, False, False] [0, 1, 2]\n"),
        (">&-", ""),
        ("<&- >&- 2>&-", ""),
    ):
        done = ended([sys.executable, "-c", program], f"< /dev/null {shell}", tmp_path)
        assert (done.returncode, done.stdout) == (2, shown), done.stderr


def test_a_training_with_closed_streams_goes_on(
    toy: list[str], forked_python: list[str], tmp_path: Path
) -> None:
    """Those of the program, as forked ones have all streams."""
    closing = "import runpy, sys; sys.stdin = sys.stdout = sys.stderr = None; "
    program = tmp_path / "closed.py"
    program.write_text(f"{closing}runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')")
    words = [*forked_python, str(program), *toy, "trainer.progress=true"]
    done = ended([*words, f"hydra.run.dir={tmp_path / 'run'}"], "", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Run(tmp_path / "run").is_finished()


@pytest.mark.parametrize(
    ("script", "shell"), [("translate", "<&-"), ("translate", ">&-"), ("compare", ">&-")]
)
def test_a_command_with_a_closed_stream(
    script: str, shell: str, finished: Run, forked_python: list[str], tmp_path: Path
) -> None:
    """Its input is then empty, and its output is dropped."""
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), str(finished.folder)]
    done = ended(command, f"< /dev/null {shell}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
