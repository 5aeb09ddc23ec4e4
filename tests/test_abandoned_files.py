"""What a killed process leaves is removed at the next start; what another one still needs is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.files import TEMPORARY, new_folder, temporary_folder, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from seq2seq.files import {what}
with {what}(Path(sys.argv[1]){more}) as made:
    (made / "part" if made.is_dir() else made).write_text("half")
    print(made, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(path: Path, what: str, more: str = "") -> None:
    """Let a process begin to write `path`, and kill it there."""
    program = KILLED.format(what=what, more=more)
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    killed(tmp_path / "a.txt", "replacing")
    assert len(names(tmp_path)) == 1
    write_text(tmp_path / "b.txt", "another file")
    assert len(names(tmp_path)) == 2
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_a_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    killed(tmp_path / "made", "new_folder", ', prefix=".making-"')
    killed(tmp_path, "temporary_folder", ', prefix=".making-"')
    assert len(names(tmp_path)) == 1, "the second process removes the folder of the first"
    with new_folder(tmp_path / "made", prefix=".making-") as made:
        write_text(made / "a.txt", "whole")
    assert names(tmp_path) == ["made"]


def test_what_may_still_be_needed_is_kept(tmp_path: Path) -> None:
    dead = 4194305  # larger than any process number
    kept = {f".making-elsewhere.{dead}-x", ".making-of-the-user", f".making-{dead}-x"}
    for name in kept:
        (tmp_path / name).mkdir()
    with temporary_folder(tmp_path, ".making-") as first, temporary_folder(tmp_path, ".making-"):
        assert first.is_dir(), "of this process, which is alive"
    assert set(names(tmp_path)) == kept
    (tmp_path / first.name.replace(str(os.getpid()), str(dead))).mkdir()
    with temporary_folder(tmp_path, ".making-"):
        pass
    assert set(names(tmp_path)) == kept


def test_a_name_with_too_large_a_process_number_stops_no_write(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, ".a.txt.") as made:
        owner = made.name.rpartition(".")[0]
    (tmp_path / f"{owner}.99999999999999999999{TEMPORARY}").touch()
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_temporary_folder(tmp_path: Path, number: signal.Signals) -> None:
    """Preparing a corpus, before there is anything to save."""
    program = f"""
import os, signal, sys
from pathlib import Path
from seq2seq.app.exit_codes import exiting
from seq2seq.files import new_folder

def main() -> None:
    with new_folder(Path({str(tmp_path / "made")!r}), prefix=".making-"):
        os.kill(os.getpid(), {int(number)})

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup and shells in the background ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
with exiting():
    main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert not names(tmp_path)
    assert done.returncode == 128 + number
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As nohup starts a program."""
    program = """
import os, signal
from seq2seq.app.exit_codes import exiting
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with exiting():
    os.kill(os.getpid(), signal.SIGHUP)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
