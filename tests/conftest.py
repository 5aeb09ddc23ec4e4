"""What the tests share: the mirror folder of real corpora, where there is one, and a toy corpus to
train on.
"""

import logging
import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from tensorboard.summary.writer import event_file_writer

from seq2seq.app import composition
from seq2seq.app import train as train_module
from seq2seq.app.exit_codes import guarded
from seq2seq.rnn import load_kernels
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

torch.set_num_threads(1)  # the models are tiny, and two test processes share the cores

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_MIRROR = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """Compile the fused kernels before the first test, so that none of them finds its message among
    its output.
    """
    load_kernels()


@pytest.fixture(scope="session", autouse=True)
def event_files() -> None:
    """Number TensorBoard's files from 1000: those of one second and process are read by name, .100
    before .99.
    """
    event_file_writer._global_uid = event_file_writer.AtomicCounter(1000)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with copies of the published corpora; tests that need it are skipped where it is
    absent.
    """
    folder = Path(os.environ.get("SEQ2SEQ_DATA_MIRROR") or DEFAULT_MIRROR)
    if not folder.is_dir():
        pytest.skip(
            f"no mirror folder of the published corpora at {folder} (set SEQ2SEQ_DATA_MIRROR)"
        )
    return folder


WORDS = ("do", "re", "mi", "fa", "sol", "la", "si", "ut")
LONGEST = 5


def reversed_pairs(count, seed):
    """Two to five different words, and the same from last to first."""
    chance = random.Random(seed)
    lines = [chance.sample(WORDS, chance.randint(2, LONGEST)) for _ in range(count)]
    return [(" ".join(line), " ".join(reversed(line))) for line in lines]


def write_pairs(folder, split, pairs):
    """Two files, and the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, lines in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        (folder / f"{split}.{side}").write_text(
            "".join(line + "\n" for line in lines), encoding="utf-8"
        )
    return [f"data.{split}.{side}={folder / f'{split}.{side}'}" for side in ("source", "target")]


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Settings of a run that takes a second: 240 pairs of the toy corpus (8 batches), a tiny model,
    two epochs.
    """
    folder = tmp_path_factory.mktemp("toy")
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
        "trainer.progress=false",
        "trainer.threads=1",
    ]


def composed(*overrides):
    """The configuration that train.py composes of these."""
    composition.register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return composition.composed(compose("train", list(overrides)))


@dataclass
class TrainHere:
    """Trains in this process, on the toy corpus unless told otherwise."""

    toy: list[str]

    def config(self, *overrides):
        """The toy run's configuration, changed."""
        return composed(*self.toy, *overrides)

    def __call__(self, folder, *overrides):
        """Train into a folder; the run."""
        train(self.config(*overrides), Run(folder))
        return Run(folder)


@pytest.fixture(scope="session")
def train_here(toy):
    """Trains in this process."""
    return TrainHere(toy)


@pytest.fixture(scope="session")
def finished(train_here, tmp_path_factory):
    """A finished run of the toy corpus, to be looked at alone."""
    return train_here(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied(finished, tmp_path):
    """A finished run of the toy corpus, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copied")
    return Run(tmp_path / "copied")


@pytest.fixture
def browser():
    """A headless Chromium, driven by selenium; no page in it may log an error or ask another
    machine for anything.
    """
    import browser as chromium  # selenium is loaded where a browser is needed alone

    if missing := chromium.missing():
        pytest.skip(f"no {' and no '.join(missing)} on this machine (Debian: make browser)")
    driver = chromium.start()
    try:
        yield driver
        assert chromium.errors(driver) == []
        assert chromium.foreign_requests(driver) == []
    finally:
        driver.quit()


@dataclass
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def train_command(monkeypatch, capfd, tmp_path):
    """train.py as a user runs it, in an empty folder, but without the start of a process."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides, full_error="0"):
        monkeypatch.setenv("HYDRA_FULL_ERROR", full_error)
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, overrides)])
        capfd.readouterr()
        handlers = logging.root.handlers[:]
        try:
            code = guarded(train_module.main)
        except SystemExit as error:  # argparse
            code = error.code
        finally:
            logging.root.handlers[:] = handlers  # Hydra's write to this call's standard output
        return Done(code, *capfd.readouterr())

    return run
