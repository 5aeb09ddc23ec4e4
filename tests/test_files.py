import os
from pathlib import Path
from typing import NoReturn

import pytest

from seq2seq.files import kept_text, new_folder, replacing, write_text


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


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_never_replaced(linked: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe"
    if linked:
        path = tmp_path / "link"
        path.symlink_to("pipe")
    with pytest.raises(OSError, match=f"device or a pipe; expected a file: '{path}'"):
        write_text(path, "text")
    assert (tmp_path / "pipe").is_fifo()
    assert {file.name for file in tmp_path.iterdir()} == {"pipe", path.name}


def test_a_link_is_replaced_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "mine")
    assert (tmp_path / "target").read_text() == "theirs"
    assert (tmp_path / "link").read_text() == "mine"


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


# -- a cache ---


def unwanted() -> NoReturn:
    raise AssertionError("made again")


def test_a_kept_text_is_made_once(tmp_path: Path) -> None:
    path, text = tmp_path / "cache" / "a.js", "a\r\nb\nc\r\u2028"
    assert kept_text(path, lambda: text) == text
    assert kept_text(path, unwanted) == text
    assert names(path.parent) == ["a.js"]


@pytest.mark.parametrize("content", [b"", b"no checksum", b"ab\xff", "cut"])
def test_a_damaged_kept_text_is_made_again(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "a.js"
    kept_text(path, lambda: "text")
    path.write_bytes(path.read_bytes()[:-1] if isinstance(content, str) else content)
    assert kept_text(path, lambda: "text") == "text"
    assert kept_text(path, unwanted) == "text"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert kept_text(tmp_path / "file" / "a.js", lambda: "text") == "text"
    (tmp_path / "folder").mkdir()
    assert kept_text(tmp_path / "folder", lambda: "text") == "text"
