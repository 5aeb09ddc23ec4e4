"""Short runs of train.py, and checks of what it prints and writes."""

from pathlib import Path

from conftest import Done

SHORT = ["trainer.max_updates=2", "trainer.log_every=1"]


def folders(tmp_path: Path) -> list[str]:
    """Return the names of the folders of runs, which are in outputs/CORPUS."""
    return sorted(path.name for path in tmp_path.glob("outputs/*/*"))


def assert_one_line(done: Done, code: int, *parts: str) -> None:
    """Check that a command ended with one line of error, this exit code and no traceback."""
    assert done.code == code, done.err
    assert done.err.startswith("train.py: "), done.err
    assert done.err.count("\n") == 1, done.err
    for part in parts:
        assert part in done.err, (part, done.err)


def snapshot(folder: Path) -> dict[Path, bytes]:
    """Return the content of each file; the lock has none."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
