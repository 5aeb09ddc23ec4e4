"""What grows with a corpus: time and memory to prepare it, to start a training, and of an update.

The text is made up: what is measured does not depend on what it says. Linux only.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from ..data.dataset import SIDES
from .children import finish
from .startup import command, training

WORDS = 20_000
LINES = 50_000
"""Pairs that are made up at a time."""
LENGTHS = (4, 20)
"""Least and most words of a sentence."""
VALID_PAIRS = 100
MEMORY_POLL = 0.02
"""Seconds between two looks at what a process needs."""
KEPT = Path("outputs") / "benchmark"
"""Folder of the corpora, while they are measured."""


@dataclass
class Scale:
    """A corpus of one size; memory is that of all processes of a command together."""

    name: str
    prepare_seconds: float
    prepare_mebibytes: float
    """The most that preparing it took."""
    start_seconds: float
    """From the start of a training of the prepared corpus to its first update: median."""
    start_least: float
    start_most: float
    update_milliseconds: float
    """Median of all updates but the first of each start."""
    train_mebibytes: float
    """The most that a training took."""


@dataclass
class Trained:
    """What was seen of the trainings of one corpus."""

    starts: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    mebibytes: float = 0.0


def scales(
    sizes: Sequence[int], overrides: Sequence[str], updates: int, rounds: int
) -> dict[str, list[Scale]]:
    """Measure corpora of so many pairs: the table by its title. Every round trains on each once.

    `overrides` are the settings of the training, of which the first `updates` are waited for.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=KEPT, prefix="scaling-") as place:
        asked, prepared = dict[int, list[str]](), dict[int, tuple[float, float]]()
        for size in tqdm(sizes, "preparing", unit="corpus", disable=None):
            files = write_corpus(Path(place) / str(size), size)
            asked[size] = ["data=files", f"data.root={place}", *files, *overrides]
            prepared[size] = watched(command("prepare", *asked[size], "trainer.progress=false"))
        seen = {size: Trained() for size in sizes}
        for number, size in tqdm(list(product(range(1 + rounds), sizes)), "training", disable=None):
            watch_training(
                asked[size], updates, Trained() if number == 0 else seen[size]
            )  # 0: cold files
    rows = [scale(size, prepared[size], seen[size]) for size in sizes]
    return {f"corpora of several sizes, {rounds} starts of {updates} updates": rows}


def scale(size: int, prepared: tuple[float, float], seen: Trained) -> Scale:
    """Return the row of a corpus."""
    starts = median(seen.starts), min(seen.starts), max(seen.starts)
    updates = 1000 * median(seen.updates)
    return Scale(f"{size:,} pairs", *prepared, *starts, updates, seen.mebibytes)


def watched(words: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the most MiB of it; RuntimeError where it fails."""
    started = time.perf_counter()
    most = list[float]()
    finish(words, watch=lambda process, is_over: most.append(most_memory(process, is_over)))
    return time.perf_counter() - started, max(most)


def watch_training(overrides: Sequence[str], updates: int, seen: Trained) -> None:
    """Start a training, wait for so many updates, and add what was seen."""
    started, first = time.perf_counter(), list[float]()
    with training(overrides) as (process, log, is_over):

        def is_done() -> bool:
            if not first and log.exists():
                first.append(time.perf_counter() - started)
            return is_over() or len(logged_times(log)) >= updates

        most = most_memory(process, is_done)
        seconds = logged_times(log)[:updates]  # it may have made more since
    if len(seconds) < updates:
        raise RuntimeError(f"{len(seconds)} updates were logged; expected {updates}")
    seen.starts += first
    seen.updates += np.diff(seconds).tolist()
    seen.mebibytes = max(seen.mebibytes, most)


def logged_times(log: Path) -> list[float]:
    """Return the times of the updates that a training has logged, in whole lines."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    return [row["seconds"] for row in map(json.loads, lines) if row["kind"] == "train"]


def most_memory(process: int, is_done: Callable[[], bool]) -> float:
    """Wait until it is done; return the most MiB that a process and all below it had together."""
    most = 0.0
    while not is_done():
        most = max(most, sum(map(proportional, [process, *descendants(process)])))
        time.sleep(MEMORY_POLL)
    return most


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those below them."""
    found = list[int]()
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            started = [int(child) for child in children.read_text(encoding="ascii").split()]
        except OSError:  # it has just ended
            continue
        found += [below for child in started for below in (child, *descendants(child))]
    return found


def proportional(process: int) -> float:
    """Return the MiB of a process, of pages that several share its part; 0 if it has ended."""
    try:
        rows = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("Pss:")), 0.0)


def write_corpus(folder: Path, size: int) -> list[str]:
    """Write so many made-up training pairs, and a few to validate; return their settings."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    settings = [f"data.name=pairs-{size}", *(f"data.{side}_language=und" for side in SIDES)]
    for split, count in (("train", size), ("valid", VALID_PAIRS)):
        path = folder / f"{split}.tsv"
        with open(path, "w", encoding="utf-8") as file:
            for start in range(0, count, LINES):
                file.writelines(made_up(random, min(LINES, count - start)))
        settings.append(f"data.{split}.source={path}")
    return settings


def made_up(random: np.random.Generator, count: int) -> list[str]:
    """Return lines of a sentence and its translation, word by word; frequent words are frequent."""
    sources, targets = ([word(n, vowels) for n in range(WORDS)] for vowels in ("aiueo", "aäöüy"))
    frequency = 1 / (np.arange(WORDS) + 3)
    lengths = random.integers(*LENGTHS, count, endpoint=True)
    words = random.choice(WORDS, int(lengths.sum()), p=frequency / frequency.sum()).tolist()
    lines, start = list[str](), 0
    for length in lengths.tolist():
        chosen = words[start : start + length]
        start += length
        pair = (" ".join(side[n] for n in chosen) for side in (sources, targets))
        lines.append("\t".join(pair) + "\n")
    return lines


def word(number: int, vowels: str) -> str:
    """Return the word of a number: of syllables, a frequent one (a low number) of few."""
    consonants = "bdfgklmnprstvz"
    syllables = ""
    number += 1
    while number:
        number, rest = divmod(number, len(consonants) * len(vowels))
        syllables += consonants[rest // len(vowels)] + vowels[rest % len(vowels)]
    return syllables
