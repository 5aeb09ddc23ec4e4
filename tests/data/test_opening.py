"""Text files of every kind: packed, damaged, and such as cannot be read twice."""

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from corpus_files import own, write
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data import opening
from seq2seq.data.corpora import read_parallel, read_split
from seq2seq.data.text import read_lines, text_sha256
from seq2seq.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd.compress,
}
TEXT = "".join(f"line {i} {i * i}\n" for i in range(3000)).encode()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("train.en")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", PACKERS)
def test_the_content_decides_how_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    pack = PACKERS[kind]
    path = write(tmp_path / "text.txt", pack(b"a\nb") + pack(b"c\r\nd\n") + pack(b"") + pack(b"e"))
    assert list(read_lines(path)) == ["a", "bc", "d", "e"]
    plain = write(tmp_path / f"plain.{kind}", b"a\nbc\r\nd\ne")
    assert list(read_lines(plain)) == ["a", "bc", "d", "e"]
    assert text_sha256(path) == text_sha256(plain)
    assert list(read_lines(write(tmp_path / "empty", pack(b"")))) == []


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str, part: float) -> None:
    packed = PACKERS[kind](TEXT)
    path = write(tmp_path / "text", packed[: max(int(part * len(packed)), 6)])
    for read in (lambda: list(read_lines(path)), lambda: text_sha256(path)):
        with pytest.raises(
            DataError, match=rf"text: damaged {kind} file \(.+\); expected a whole one"
        ):
            read()


@pytest.mark.parametrize("kind", PACKERS)
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1 : len(packed) // 2 + 9] = bytes(8)
    with pytest.raises(DataError, match=rf"text: damaged {kind} file"):
        list(read_lines(write(tmp_path / "text", bytes(packed))))


def test_a_zip_archive_of_one_file_is_read(tmp_path: Path) -> None:
    one = write(tmp_path / "one.zip", zipped(text=b"a\nb\n"))
    assert list(read_lines(one)) == list(read_lines(one, "text")) == ["a", "b"]
    two = write(tmp_path / "two.zip", zipped(en=b"a\n", de=b"b\n"))
    assert list(read_lines(two, "de")) == ["b"]
    with pytest.raises(DataError, match=r"two\.zip: a zip archive of 2 files \(en, de, ...\)"):
        list(read_lines(two))
    with pytest.raises(DataError, match=r"two\.zip: the zip archive has no member 'fr'"):
        list(read_lines(two, "fr"))
    with pytest.raises(DataError, match=r"one\.zip: damaged zip file"):
        list(read_lines(write(one, one.read_bytes()[:-20])))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (6, 1, r"\(File 'text' is encrypted"),
        (8, 99, r"\(That compression method is not supported\)"),
        (4, 99, r"\(zip file version 9\.9\)"),
    ],
)
def test_a_zip_archive_that_python_cannot_unpack_is_named(
    tmp_path: Path, position: int, value: int, message: str
) -> None:
    packed = bytearray(zipped(text=b"a\nb\n"))
    packed[packed.index(b"PK\x01\x02") + position + 2] = value  # in the list of members
    with pytest.raises(
        DataError,
        match=rf"a\.zip: a zip archive that cannot be unpacked {message}.*; expected text",
    ):
        list(read_lines(write(tmp_path / "a.zip", bytes(packed))))


def test_any_damaged_zip_archive_is_read_or_refused(tmp_path: Path) -> None:
    packed = zipped(text=b"a\nb\n")
    for position in range(4, len(packed)):
        for value in (0, 1, 0xFF):
            path = write(
                tmp_path / "a.zip", packed[:position] + bytes([value]) + packed[position + 1 :]
            )
            with suppress(DataError):
                list(read_lines(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tarred(TEXT), "packed by tar; expected text"),
        (gzip.compress(tarred(TEXT)), "packed by tar; expected text"),
        (lzma.compress(tarred(TEXT)), "packed by tar; expected text"),
        (b"\x1f\x9d\x90" + TEXT, r"packed by compress \(\.Z\); expected text"),
        ("text\n".encode("utf-16"), "text in UTF-16; expected UTF-8"),
        (gzip.compress("text\n".encode("utf-16")), "text in UTF-16; expected UTF-8"),
    ],
    ids=["tar", "tar.gz", "tar.xz", "Z", "utf-16", "utf-16.gz"],
)
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"data: {message}"):
        list(read_lines(write(tmp_path / "data", data)))


def test_without_its_package_a_zstd_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(file: object) -> None:
        raise ModuleNotFoundError("No module named 'backports'", name="backports")

    monkeypatch.setitem(opening.FORMATS, b"\x28\xb5\x2f\xfd", ("zstd", missing))
    path = write(tmp_path / "text.zst", zstd.compress(b"a\n"))
    with pytest.raises(DataError, match=r"text\.zst: .* pip install 'seq2seq\[zstd\]'"):
        list(read_lines(path))


# -- pipes ---


def fed(tmp_path: Path, data: bytes, name: str = "pipe") -> Path:
    """Return a pipe into which another thread writes, in small parts."""
    path = tmp_path / name
    os.mkfifo(path)

    def feed() -> None:
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(data), 999):
                file.write(data[start : start + 999])

    threading.Thread(target=feed, daemon=True).start()
    return path


@pytest.mark.parametrize("pack", [bytes, *PACKERS.values()], ids=["plain", *PACKERS])
def test_a_pipe_is_read_once(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    source = fed(tmp_path, pack(TEXT))
    reference = write(tmp_path / "reference", TEXT)
    lines = TEXT.decode().splitlines()
    assert read_parallel([str(source), str(reference)]) == [lines, lines]


def test_an_empty_pipe_and_one_of_a_byte(tmp_path: Path) -> None:
    assert list(read_lines(fed(tmp_path, b"", "empty"))) == []
    assert list(read_lines(fed(tmp_path, b"a", "byte"))) == ["a"]
    with pytest.raises(DataError, match="zip archive from a pipe"):
        list(read_lines(fed(tmp_path, zipped(a=b"a"), "zip")))


def test_a_corpus_has_to_be_in_regular_files(tmp_path: Path) -> None:
    config = own(tmp_path, train="a\n|b\n", valid="a\tb\n")
    for split in (config.train, config.valid):
        split.source = str(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo")
    for name in ("train", "valid"):
        with pytest.raises(DataError, match=r"fifo: a pipe or device; expected a regular file"):
            read_split(config, name)


# -- any bytes ---


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*opening.FORMATS, opening.ZIP, b""]), st.binary(max_size=40))
def test_any_bytes_are_text_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, magic: bytes, data: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any", magic + data)
    found = ""
    try:
        lines = list(read_lines(path))
    except DataError as error:
        found = str(error)
    if found:
        assert found.startswith(f"{path}:")
        assert "\n" not in found
    else:
        assert "\n".join(lines).encode().replace(b"\r", b"") in (magic + data).replace(b"\r", b"")
