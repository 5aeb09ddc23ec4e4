"""Who may read what the program writes, and what is said where somebody may not."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import exit_code

from seq2seq.data import published
from seq2seq.data.text import read_lines
from seq2seq.errors import DataError
from seq2seq.files import exists, new_folder, replacing, write_text
from seq2seq.runs.checkpoint import load_checkpoint, save_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.records import read_runs

NOBODY = 65534


@contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


@contextmanager
def another_user() -> Iterator[None]:
    """Whoever reads is not the owner; root, who may read everything, becomes nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_of_the_umask(mask: int, expected: int, tmp_path: Path) -> None:
    with umask(mask):
        save_checkpoint(tmp_path / "a.safetensors", {"w": torch.zeros(2)}, {})
        write_text(tmp_path / "a.txt", "a")
        with replacing(tmp_path / "b") as temporary:
            temporary.touch(0o600)
            temporary.chmod(0o600)
        with new_folder(tmp_path / "made", prefix=".making-") as made:
            write_text(made / "c", "c")
    for path in (tmp_path / "a.safetensors", tmp_path / "a.txt", tmp_path / "b"):
        assert mode(path) == expected, path
    assert mode(tmp_path / "made") & 0o666 == expected
    assert mode(tmp_path / "made" / "c") == expected


def test_a_file_that_is_written_again_has_the_present_mode(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o600)
    with umask(0o022):
        write_text(tmp_path / "a", "a")
    assert mode(tmp_path / "a") == 0o644


def test_every_file_of_a_run_can_be_read_by_a_colleague(finished: Run) -> None:
    assert finished.checkpoint("last").is_file()
    for path in finished.folder.rglob("*"):
        assert mode(path) & 0o444 == 0o444, path


def test_a_download_has_the_mode_of_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_text("a")

    def retrieve(url: str, fname: str, path: Path, **_: object) -> str:
        Path(path).mkdir(exist_ok=True)
        Path(path, fname).write_text("a")
        Path(path, fname).chmod(0o600)  # as pooch leaves it
        return str(Path(path, fname))

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with umask(0o022):
        found = published.fetch("https://example.org/a.txt", tmp_path / "download", "a.txt")
    assert mode(found) == 0o644
    assert [path.name for path in found.parent.iterdir()] == ["a.txt"]


@pytest.fixture
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that others may open, with a folder `shut` that they may not look into."""
    folder = tmp_path_factory.mktemp("locked")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    (folder / "shut").mkdir()
    yield folder
    (folder / "shut").chmod(0o755)


DENIED = ": Permission denied; its owner can change that (chmod), or choose another place\n"


def test_a_refused_permission_is_called_one(
    locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(locked / "last.safetensors", {"w": torch.zeros(2)}, {})
    (locked / "a.txt").write_text("a\n")
    for file in ("last.safetensors", "a.txt"):
        (locked / file).chmod(0)
    (locked / "shut" / "config.yaml").touch()
    (locked / "shut").chmod(0)
    with another_user():
        assert exit_code(lambda: load_checkpoint(locked / "last.safetensors")) == 2
        assert f"last.safetensors{DENIED}" in capsys.readouterr().err
        with pytest.raises(DataError, match=r"a\.txt: cannot be read \(Permission denied"):
            list(read_lines(locked / "a.txt"))
        assert exit_code(lambda: Run.open(locked / "shut")) == 2
        assert f"config.yaml{DENIED}" in capsys.readouterr().err
        assert exit_code(lambda: write_text(locked / "new.txt", "a")) == 2
        assert f"new.txt{DENIED}" in capsys.readouterr().err
        with pytest.raises(PermissionError):
            exists(locked / "shut" / "a")
    assert exists(locked)
    assert not exists(locked / "a.txt" / "b")


def test_a_run_that_may_not_be_read_does_not_end_a_comparison(
    finished: Run, copied: Run, locked: Path
) -> None:
    copied.folder.rename(locked / "theirs")
    theirs = Run(locked / "theirs")
    theirs.results_file.chmod(0)
    for parent in (finished.folder, *finished.folder.parents[:3]):
        parent.chmod(0o755)
    with another_user():
        found, left_out = read_runs([str(finished.folder), str(theirs.folder)])
    assert len(found) == 1
    reason = f"{theirs.results_file}: Permission denied; expected a file that may be read"
    assert left_out == [f"theirs: left out: {reason}"]
