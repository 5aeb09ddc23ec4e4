"""A run whose last checkpoint is damaged goes on from the one before, exactly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TrainHere
from fixture_types import AtUpdate
from run_comparison import curves, entries, tensors

from seq2seq.runs.checkpoint import CheckpointError, read_state, save_checkpoint
from seq2seq.runs.folder import Run

pytest_plugins = ["update_fixtures"]

EVERY = "trainer.checkpoint_every=3"


class Killed(BaseException):
    """Simulates the end of a process: no code catches it."""


def die() -> None:
    raise Killed


@pytest.fixture
def killed(train_here: TrainHere, tmp_path: Path, at_update: AtUpdate) -> Run:
    """Return a run that ended in update 8, with checkpoints of updates 6 and 3."""
    at_update(8, die)
    with pytest.raises(Killed):
        train_here(tmp_path / "run", EVERY)
    at_update(0, die)
    return Run(tmp_path / "run")


def assert_same(run: Run, other: Run) -> None:
    for name in ("last", "best"):
        found, expected = tensors(run, name), tensors(other, name)
        assert found.keys() == expected.keys()
        assert [key for key in expected if not found[key].equal(expected[key])] == []
    assert entries(run) == entries(other)
    assert curves(run) == curves(other)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def foreign(file: Path) -> None:
    save_checkpoint(file, {}, {"progress": {"update": 5}, "sampler": [], "average": 1})


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
        lambda file: file.write_bytes(b""),
        foreign,
        Path.unlink,
    ],
    ids=["flipped bit", "cut", "empty", "foreign", "missing"],
)
def test_the_checkpoint_before_is_used(
    damage: Callable[[Path], object],
    killed: Run,
    finished: Run,
    train_here: TrainHere,
    capsys: pytest.CaptureFixture[str],
) -> None:
    last, previous = (killed.checkpoint(name) for name in ("last", "previous"))
    assert [read_state(path)["progress"]["update"] for path in (last, previous)] == [6, 3]
    damage(last)
    there = last.exists()
    capsys.readouterr()
    run = train_here(killed.folder, EVERY)
    [said] = [line for line in capsys.readouterr().out.splitlines() if "going on from" in line]
    assert said.startswith(f"{last}: ")
    assert said.endswith(f"; going on from {previous}, of update 3")
    assert_same(run, finished)
    assert run.checkpoint("damaged").exists() is there


def test_a_run_that_is_killed_again_still_has_the_good_checkpoint(
    killed: Run, finished: Run, train_here: TrainHere, at_update: AtUpdate
) -> None:
    """The damaged file must not take the good one's place when the next one is saved."""
    flip(killed.checkpoint("last"))
    for update, good in ((2, None), (5, 6)):  # before and after the next one is saved
        at_update(update, die)
        with pytest.raises(Killed):
            train_here(killed.folder, EVERY)
        assert read_state(killed.checkpoint("previous"))["progress"]["update"] == 3
        assert killed.checkpoint("last").exists() is (good is not None)
    at_update(0, die)
    assert_same(train_here(killed.folder, EVERY), finished)


def test_without_a_good_checkpoint_the_newest_is_named(killed: Run, train_here: TrainHere) -> None:
    for name in ("last", "previous"):
        flip(killed.checkpoint(name))
    before = {path.name for path in killed.checkpoints.iterdir()}
    with pytest.raises(CheckpointError, match=r"last\.safetensors: damaged .*overwrite=true"):
        train_here(killed.folder, EVERY)
    assert {path.name for path in killed.checkpoints.iterdir()} == before
