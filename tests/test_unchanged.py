"""Large files are read once, and again as soon as anything about them has changed."""

import json
import os
import time
from pathlib import Path

import pytest
from small_corpora import TOKENIZER, corpus

from seq2seq import unchanged
from seq2seq.data.preparation import prepare
from seq2seq.errors import DataError
from seq2seq.unchanged import remembered


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of any size are remembered, at once."""
    monkeypatch.setattr(unchanged, "LARGE", 1)
    monkeypatch.setattr(unchanged, "SETTLED", -1)


class Reader:
    """Reads a file's text, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.record, self.file, self.times = folder / "record.json", folder / "text", 0

    def find(self) -> str:
        self.times += 1
        return self.file.read_text()

    def __call__(self) -> str:
        return remembered(self.record, self.file, self.find)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A file that was read once."""
    found = Reader(tmp_path)
    found.file.write_text("do re mi")
    assert found() == "do re mi"
    return found


def test_an_unchanged_file_is_not_read_again(reader: Reader) -> None:
    assert [reader(), reader()] == ["do re mi", "do re mi"]
    assert reader.times == 1
    other = Reader(reader.file.parent)
    other.file = reader.file.with_name("other")
    other.file.write_text("fa")
    assert (other(), other(), reader(), other.times, reader.times) == ("fa", "fa", "do re mi", 1, 1)


def write_again(file: Path) -> None:
    """Write as many bytes, and give the file its former time."""
    before = file.stat()
    time.sleep(0.02)  # longer than the kernel's clock ticks
    file.write_text("do re fa")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    """Put another file of the same size in its place."""
    other = file.with_name("new")
    other.write_text("do re fa")
    os.replace(other, file)


@pytest.mark.parametrize("change", [write_again, replace])
def test_a_changed_file_is_read_again(reader: Reader, change: object) -> None:
    assert callable(change)
    change(reader.file)
    assert reader() == "do re fa"
    assert reader() == "do re fa"
    assert reader.times == 2


@pytest.mark.parametrize("name", ["LARGE", "SETTLED"])
def test_small_and_recent_files_are_always_read(
    reader: Reader, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.record.unlink()
    monkeypatch.setattr(unchanged, name, 1 << 62)
    assert [reader(), reader()] == ["do re mi", "do re mi"]
    assert reader.times == 3
    assert not reader.record.exists()


@pytest.mark.parametrize("damage", ["", "[]", "{", "null", "1", '{"x": 1}', "wrong entry"])
def test_a_damaged_record_is_as_good_as_none(reader: Reader, damage: str) -> None:
    name = str(reader.file.resolve())
    entry = json.loads(reader.record.read_text())[name]
    wrong = json.dumps({name: {**entry, "found": 5}})
    reader.record.write_text(wrong if damage == "wrong entry" else damage)
    assert [reader(), reader()] == ["do re mi", "do re mi"]
    assert reader.times == 2


def test_a_record_that_cannot_be_written_is_done_without(reader: Reader) -> None:
    reader.record.unlink()
    reader.record.mkdir()
    assert [reader(), reader()] == ["do re mi", "do re mi"]
    assert reader.times == 3


def test_what_fails_is_tried_again(reader: Reader) -> None:
    reader.file.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            reader()


def test_damage_after_a_corpus_was_opened_is_found(tmp_path: Path) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    before = prepared.split("train").src(0).tolist()
    record = prepared.folder / "looked_through.json"
    known = {Path(name).name for name in json.loads(record.read_text())}
    assert known == {
        f"train.{side}.{kind}" for side in ("source", "target") for kind in ("ids", "ends")
    }
    assert prepared.split("train").src(0).tolist() == before
    ids = prepared.folder / "train.source.ids"
    content = bytearray(ids.read_bytes())
    content[0] ^= 1
    time.sleep(0.02)
    ids.write_bytes(content)
    for _ in range(2):
        with pytest.raises(DataError, match=r"train\.source\.ids: damaged \(SHA-256"):
            prepared.split("train")


@pytest.mark.parametrize("kind", ["ids", "ends"])
def test_a_missing_array_is_named(tmp_path: Path, kind: str) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    (prepared.folder / f"train.target.{kind}").unlink()
    missing = rf"train\.target\.{kind}: no such file; delete .* to prepare the corpus again"
    with pytest.raises(DataError, match=missing):
        prepared.split("train")


def test_a_corpus_whose_text_changes_is_prepared_again(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    folder = prepare(data, TOKENIZER, progress=False).folder
    assert prepare(data, TOKENIZER, progress=False).folder == folder
    source = Path(str(data.train.source))
    assert str(source.resolve()) in json.loads((folder.parent / "texts.json").read_text())
    time.sleep(0.02)
    source.write_text(source.read_text().replace("a", "b"))
    assert prepare(data, TOKENIZER, progress=False).folder != folder
