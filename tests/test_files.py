from pathlib import Path
from typing import NoReturn

import pytest

from seq2seq.files import new_folder, replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_completely(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_an_error_leaves_the_older_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted() -> NoReturn:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match="No space left on device") as error, replacing(path):
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(path)


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "made", prefix=".making-") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "made").exists()
        assert names(tmp_path)[0].startswith(".making-")
    assert names(tmp_path) == ["made"]
    assert (tmp_path / "made" / "a.txt").read_text() == "a"


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    def interrupted() -> NoReturn:
        with new_folder(tmp_path / "made", prefix=".making-") as folder:
            (folder / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not names(tmp_path)


def test_a_folder_that_another_process_made_first_is_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "made", prefix=".making-") as folder:
        (folder / "a.txt").write_text("ours")
        with new_folder(tmp_path / "made", prefix=".making-") as theirs:
            (theirs / "a.txt").write_text("theirs")
    assert names(tmp_path) == ["made"]
    assert (tmp_path / "made" / "a.txt").read_text() == "theirs"
