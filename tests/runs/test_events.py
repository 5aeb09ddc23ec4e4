"""A run that goes on removes from its event files what was logged after its checkpoint."""

import time
from pathlib import Path

import pytest
from run_comparison import curves, points

from seq2seq.runs.events import NAMES
from seq2seq.runs.folder import Run
from seq2seq.runs.logbook import Logbook


def log(folder: Path, resumed_at: int, updates: range) -> None:
    with Logbook(folder, resumed_at, progress=False) as book:
        for update in updates:
            book.log("valid", {"update": update}, {"bleu": float(update)})


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(NAMES))


def steps(folder: Path) -> list[int]:
    """Return the steps of a curve as TensorBoard shows it; no file has one of them twice."""
    assert set(points(Run(folder)).values()) == {1}
    return [step for step, _ in curves(Run(folder))["valid/bleu"]]


def test_what_was_logged_after_the_checkpoint_is_removed(tmp_path: Path) -> None:
    log(tmp_path, 0, range(1, 9))
    log(tmp_path, 6, range(7, 10))
    log(tmp_path, 3, range(4, 6))  # the checkpoint before the last
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_scores_at_the_end_are_written_again(tmp_path: Path) -> None:
    for resumed_at in (0, 4):
        with Logbook(tmp_path, resumed_at, progress=False) as book:
            book.log("valid", {"update": resumed_at + 4}, {"bleu": 1.0})
            book.hyperparameters({"seed": 1}, {"bleu": 2.0}, 4)
    assert points(Run(tmp_path))["final/bleu", 4] == 1
    assert steps(tmp_path) == [4, 8]


@pytest.mark.parametrize("rest", [b"\x20", b"\x20" + bytes(20), b"\x04" + bytes(11) + b"\xff" * 9])
def test_an_incomplete_record_is_removed(rest: bytes, tmp_path: Path) -> None:
    log(tmp_path, 0, range(1, 4))
    [file] = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole + rest)
    log(tmp_path, 3, range(4, 6))
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert len(files(tmp_path)[0].read_bytes()) < len(whole)  # without the layout, too


def test_a_file_without_anything_to_remove_is_left_alone(tmp_path: Path) -> None:
    log(tmp_path, 0, range(1, 4))
    log(tmp_path, 3, range(0))
    before = [(file.stat().st_ino, file.read_bytes()) for file in files(tmp_path)[:1]]
    log(tmp_path, 3, range(0))
    assert [(file.stat().st_ino, file.read_bytes()) for file in files(tmp_path)[:1]] == before


def test_a_clock_that_was_set_back_leaves_the_order(tmp_path: Path) -> None:
    now = time.time()
    for resumed_at, clock in ((0, now), (3, now - 5000), (6, now - 9000)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda clock=clock: clock)
            log(tmp_path, resumed_at, range(resumed_at + 1, resumed_at + 5))
    assert steps(tmp_path) == list(range(1, 11))
    assert [file.name.split(".")[3][:9] for file in files(tmp_path)[:2]] == ["000000000"] * 2


def test_what_is_logged_before_a_flush_is_in_the_file_after_it(tmp_path: Path) -> None:
    """A thread writes the events; it would end with a process that is killed."""
    with Logbook(tmp_path, 0, progress=False) as book:
        for update in range(1, 200):
            book.log("valid", {"update": update}, {"bleu": 1.0})
        book.flush()
        assert steps(tmp_path) == list(range(1, 200))
