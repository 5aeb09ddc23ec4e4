"""Files of entries: a resumed run keeps the lines before it as they are."""

from pathlib import Path

from seq2seq.runs.jsonl import JsonLines, read_metrics

KEPT = (
    b'{"update": 1, "note": "\\ud800"}\n',  # half a character, which no JSON writer takes
    b'{"update": 2, "seconds": 123456789012345678901234567890}\n',
)


def test_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"".join(KEPT) + b'{"update": 4}\n')
    lines = JsonLines(file, lambda entry: entry["update"] < 4)
    assert file.read_bytes() == b"".join(KEPT)
    lines.write({"update": 4})
    assert file.read_bytes() == b"".join(KEPT) + b'{"update":4}\n'


def test_a_last_line_without_its_end_gets_one_or_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"update": 1}\n{"update": 2}')
    JsonLines(file, lambda _: True).write({"update": 3})
    assert [entry["update"] for entry in read_metrics(file)] == [1, 2, 3]
    file.write_bytes(b'{"update": 1}\n{"upda')
    JsonLines(file, lambda _: True).write({"update": 3})
    assert [entry["update"] for entry in read_metrics(file)] == [1, 3]
