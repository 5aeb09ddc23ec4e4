"""translate.py fed what no translator expects: random characters, random bytes, a line of 1 MB."""

import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT, Command, Runs

pytest_plugins = ["run_fixtures"]

FAST = ("--beam", "1", "--max-length", "20")
MEGABYTE = 1_000_000


def random_lines(count: int, seed: int = 0) -> bytes:
    """Return lines of random characters of one to four bytes in UTF-8; some lines are empty."""
    chance = random.Random(seed)
    ranges = ((0x00, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    lines = []
    for _ in range(count):
        limits = chance.choices(ranges, k=chance.randrange(16))
        line = "".join(chr(chance.randint(*limit)) for limit in limits)
        lines.append(line.replace("\n", " ").encode() + b"\n")
    return b"".join(lines)


def test_a_line_out_for_each_line_in(two_runs: Runs, translate: Command) -> None:
    done = translate(two_runs.layer, *FAST, stdin=random_lines(2500))
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 2500
    assert done.out.endswith("\n")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused_by_line_and_byte(
    two_runs: Runs, translate: Command, seed: int
) -> None:
    content = random_lines(50) + random.Random(seed).randbytes(5000)
    done = translate(two_runs.layer, *FAST, stdin=content)
    lines = content.split(b"\n")
    first = next(i for i, line in enumerate(lines) if not is_text(line))
    assert done.code == 2
    assert f"<stdin>:{first + 1}: invalid UTF-8 at byte " in done.err


def is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- in processes of their own, whose memory is measured ---


def translated(run: Path, content: bytes, folder: Path) -> tuple[bytes, float]:
    """Return what translate.py prints, and the most memory of it or of one before, in MB."""
    file = folder / "lines"
    file.write_bytes(content)
    with file.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "translate.py", run, *FAST],
            stdin=stdin,
            capture_output=True,
            check=True,
        )
    return done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_lines(two_runs: Runs, tmp_path: Path) -> None:
    """One hundred thousand lines need hardly more memory than four thousand."""
    peaks = []
    for count in (4000, 100_000):
        out, peak = translated(two_runs.layer, random_lines(count), tmp_path)
        assert out.count(b"\n") == count
        peaks.append(peak)
    print(f"4,000 lines: {peaks[0]:.0f} MB, 100,000 lines: {peaks[1]:.0f} MB")
    assert peaks[1] < peaks[0] + 50


@pytest.mark.slow
@pytest.mark.parametrize("text", [b"one dogs see ", b"x", "狗".encode(), b"\0\x1b"], ids=repr)
def test_a_line_of_a_megabyte(two_runs: Runs, tmp_path: Path, text: bytes) -> None:
    line = text * (MEGABYTE // len(text))
    out, peak = translated(two_runs.layer, b"one\n" + line + b"\ntwo\n", tmp_path)
    assert out.count(b"\n") == 3
    print(f"a line of {len(line):,} bytes: {peak:.0f} MB")
    assert peak < 2000
