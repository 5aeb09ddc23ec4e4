"""Start-up: from the start of a process to help, an error, the first update or translation."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tqdm import tqdm

from ..runs.folder import Run
from .children import failure, finish
from .workload import SMALL, SMALL_CORPUS

POLL = 0.002
"""Seconds between two looks at what a process has written."""
COMPARED = ("none", "batch", "layer")


@dataclass
class Start:
    """How long a command takes, each time in a new process."""

    name: str
    seconds: float
    """Median."""
    least: float
    most: float


def command(name: str, *arguments: str) -> list[str]:
    """Return the words that start one of our commands, as in `seq2seq.app.commands`."""
    return [sys.executable, "-c", f"from seq2seq.app.commands import {name}; {name}()", *arguments]


def first_update(overrides: Sequence[str]) -> None:
    """Train until the first update is logged."""
    with training(overrides) as (_, log, is_over):
        while not (log.exists() or is_over()):
            time.sleep(POLL)


@contextmanager
def training(overrides: Sequence[str]) -> Iterator[tuple[int, Path, Callable[[], bool]]]:
    """Start a training that logs every update, and end it.

    Give the number of its process, the file of its log, and what tells whether it is over;
    RuntimeError where it has logged nothing, or has failed.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder) / "run" / "metrics.jsonl"
        options = ["trainer.log_every=1", "trainer.progress=false", f"hydra.run.dir={log.parent}"]
        words = command("train", *overrides, *options)
        process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process.pid, log, lambda: process.poll() is not None
        finally:
            code = process.poll()  # None: it goes on, and is ended here
            process.kill()
            _, error = process.communicate()
        if not log.exists():
            raise RuntimeError(f"no update was logged: {error}")
        if code:
            raise failure(" ".join(words), code, error)


def first_translation(run: Run, line: str, options: Sequence[str]) -> None:
    """Translate one line."""
    words = command("translate", str(run.folder), *options)
    translation = finish(words, given=f"{line}\n")
    if not translation.endswith("\n"):
        raise RuntimeError(f"{' '.join(words)}: expected a line, got {translation!r}")


def compared_runs(folder: Path) -> list[str]:
    """Train runs for a few updates in a folder; return theirs."""
    runs = []
    for norm in COMPARED:
        runs.append(str(folder / norm))
        few = ["trainer.max_updates=4", "trainer.validate_sentences=8", "trainer.progress=false"]
        settings = [*SMALL, *SMALL_CORPUS, *few]
        finish(command("train", f"norm={norm}", *settings, f"hydra.run.dir={runs[-1]}"))
    return runs


def starts(
    overrides: Sequence[str], run: Run, line: str, threads: int | None, rounds: int
) -> dict[str, list[Start]]:
    """Measure start-up: the table by its title. Every round starts each command once.

    `overrides` are those of the training, `run` a trained run, `line` one to translate.
    """
    asked, options = list(overrides), list[str]()
    if threads is not None:
        asked, options = [*asked, f"trainer.threads={threads}"], ["--threads", str(threads)]
    with TemporaryDirectory() as folder:
        runs, out = compared_runs(Path(folder)), str(Path(folder) / "out")
        jobs: dict[str, Callable[[], object]] = {
            "train.py --help": partial(finish, command("train", "--help")),
            "train.py, an error": partial(finish, command("train", "norm=nothing"), 2),
            "train.py, first update": partial(first_update, asked),
            "translate.py, first translation": partial(first_translation, run, line, options),
            "compare.py, three runs": partial(finish, command("compare", *runs, "--out", out)),
        }
        times = timed(jobs, tqdm(range(1 + rounds), "start-up", unit="round", disable=None))
    found = [Start(name, median(s), min(s), max(s)) for name, s in times.items()]
    return {f"start-up, {rounds} times": found}


def timed(
    jobs: Mapping[str, Callable[[], object]], rounds: Iterable[int]
) -> dict[str, list[float]]:
    """Return the seconds of every job in each round; the first one, of cold files, is left out."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in rounds:
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if number:
                times[name].append(time.perf_counter() - started)
    return times
