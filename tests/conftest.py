"""Fixtures of all tests: the mirror folder of real corpora, a toy corpus, and runs on it."""

import gc
import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

# Else a thread that waits for others keeps its core, which two test processes share: some tests took
# four times as long. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from composing import composed
from matplotlib.figure import Figure
from messages import assert_explained, assert_short

from seq2seq.app import commands
from seq2seq.app.exit_codes import exiting
from seq2seq.config import Config
from seq2seq.rnn import load_kernels
from seq2seq.runs.folder import Run
from seq2seq.training import validation
from seq2seq.training.loop import train

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

torch.set_num_threads(1)  # the models are tiny, and two test processes share the cores

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_MIRROR = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Compile the fused kernels before the first test.

    The message about it is then not part of any test's output.
    """
    load_kernels()


@pytest.fixture(scope="module", autouse=True)
def frozen_objects() -> None:
    """Exempt what exists now from garbage collection.

    Python would look through all of torch's, SymPy's and Hydra's objects again and again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def log_handlers() -> Iterator[None]:
    """Remove the handlers that Hydra adds: they write to the captured output of this test."""
    before = logging.root.handlers[:]
    yield
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Return the folder with copies of the published corpora.

    Tests that need it are skipped where it does not exist.
    """
    folder = Path(os.environ.get("SEQ2SEQ_DATA_MIRROR") or DEFAULT_MIRROR)
    if not folder.is_dir():
        pytest.skip(
            f"no mirror folder of the published corpora at {folder} (set SEQ2SEQ_DATA_MIRROR)"
        )
    return folder


WORDS = ("do", "re", "mi", "fa", "sol", "la", "si", "ut")
LONGEST = 5


def reversed_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Return pairs of two to five different words, and the same words in reverse order."""
    chance = random.Random(seed)
    lines = [chance.sample(WORDS, chance.randint(2, LONGEST)) for _ in range(count)]
    return [(" ".join(line), " ".join(reversed(line))) for line in lines]


def write_pairs(folder: Path, split: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Write the pairs to two files; return the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, lines in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        (folder / f"{split}.{side}").write_text(
            "".join(line + "\n" for line in lines), encoding="utf-8"
        )
    return [f"data.{split}.{side}={folder / f'{split}.{side}'}" for side in ("source", "target")]


def toy_settings(folder: Path) -> list[str]:
    """Write the toy corpus into a folder; return the settings of a run that takes a second.

    It trains a tiny model for two epochs on 240 pairs, in 8 batches. It writes no histograms, which
    take a fifth to half of the time: `three_runs` has them.
    """
    return [
        "data=files",
        "data.name=toy",
        "data.target_language=en",
        f"data.root={folder / 'prepared'}",
        *(
            override
            for split, count, seed in (("train", 240, 0), ("valid", 24, 1), ("test", 12, 2))
            for override in write_pairs(folder, split, reversed_pairs(count, seed))
        ),
        "data.cleaning.drop_duplicates=false",
        "data.batch_tokens=null",
        "data.batch_sentences=30",
        "tokenizer=word",
        "model=tiny",
        "optimizer.lr=0.01",
        "optimizer.warmup_updates=2",
        "decode.beam_size=2",
        "trainer.max_epochs=2",
        "trainer.log_every=2",
        "trainer.histograms=false",
        "trainer.progress=false",
        "trainer.threads=1",
    ]


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the settings of a run of the toy corpus."""
    return toy_settings(tmp_path_factory.mktemp("toy"))


def empty_figure(*_: object) -> Figure:
    """Return a small figure with nothing in it."""
    return Figure(figsize=(0.2, 0.2))


# Half of the time of a small training is the drawing of attention at each validation, which tests
# of their own look at.
pytest.MonkeyPatch().setattr(validation, "attention_figure", empty_figure)


@dataclass
class TrainHere:
    """Train in this process, on the toy corpus unless an override names another one."""

    toy: list[str]

    def config(self, *overrides: str) -> Config:
        """Return the toy run's configuration with these overrides."""
        return composed(*self.toy, *overrides)

    def __call__(self, folder: Path, *overrides: str) -> Run:
        """Train into a folder and return the run."""
        train(self.config(*overrides), Run(folder))
        return Run(folder)


@pytest.fixture(scope="session")
def train_here(toy: list[str]) -> TrainHere:
    """Return a function that trains in this process."""
    return TrainHere(toy)


@pytest.fixture(scope="session")
def finished(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished run of the toy corpus, which tests may only read."""
    return train_here(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """Return a finished run of the toy corpus, which a test may change."""
    shutil.copytree(finished.folder, tmp_path / "copied")
    return Run(tmp_path / "copied")


def final_results(run: Run) -> dict[str, Any]:
    """Return the content of the results.json of a finished run."""
    assert run.results() is not None
    content: dict[str, Any] = json.loads(run.results_file.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Chrome]":
    """Start a headless Chromium for all tests of this process, driven by selenium."""
    import browser  # selenium is loaded only where a browser is needed

    if missing := browser.missing():
        pytest.skip(f"no {' and no '.join(missing)} on this machine (Debian: make browser)")
    driver = browser.start()
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: "Chrome") -> "Iterator[Chrome]":
    """Return a browser with a new tab, which remembers nothing of an earlier test.

    The test fails if a page logs an error or requests anything from another machine.
    """
    import browser

    browser.open_tab(chromium)
    yield chromium
    assert browser.errors(chromium) == []
    assert browser.foreign_requests(chromium) == []


@dataclass
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str
    asked: tuple[str, ...] = ()
    """Its arguments."""

    def __post_init__(self) -> None:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            return
        for line in self.err.split("\n"):
            assert_short(line.rpartition("\r")[2], self.asked)
        if self.code == 2:
            assert_explained(self.err, self.asked)


def exit_code(main: Callable[[], object]) -> int:
    """Run a command's main function and return its exit code."""
    try:
        with exiting():
            main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


class TrainCommand(Protocol):
    """train.py with these overrides, run in this process."""

    def __call__(self, *overrides: object, full_error: str = "0") -> Done: ...


@pytest.fixture
def train_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> TrainCommand:
    """Return train.py as a user runs it in an empty folder, but without a new process."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: object, full_error: str = "0") -> Done:
        monkeypatch.setenv("HYDRA_FULL_ERROR", full_error)
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, overrides)])
        capfd.readouterr()
        handlers = logging.root.handlers[:]
        try:
            code = exit_code(commands.train)
        finally:
            logging.root.handlers[:] = handlers  # Hydra's write to this call's standard output
        return Done(code, *capfd.readouterr(), tuple(map(str, overrides)))

    return run
