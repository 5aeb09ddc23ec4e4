"""The run that is damaged: a very small one, finished, with everything a folder can hold."""

import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import runs

from seq2seq.config import ProbeConfig, ProbeKind, Schedule, SplitConfig
from seq2seq.data.shortlist import shortlist_for
from seq2seq.runs.folder import Run
from seq2seq.runs.origin import Origin
from seq2seq.training.state import initial_state

RUN, CORPUS = Path("run"), Path("corpus")
"""Folders of the run and of its corpus, relative to the working directory."""
UPDATES = 6
"""Updates of its training; a resumed copy makes one more."""
OVERRIDES = ["norm=batch", "seed=1", "trainer.max_updates=6"]


@dataclass
class Subject:
    """A folder with a finished run and its corpus, which copies are damaged of."""

    folder: Path

    def files(self) -> list[Path]:
        """Return all files that a command may read, relative to the folder."""
        found = (p.relative_to(self.folder) for p in self.folder.rglob("*") if p.is_file())
        return sorted(p for p in found if p.name != ".lock" and "tfevents" not in p.name)

    def copy(self, to: Path) -> Path:
        """Return the folder of a new copy."""
        shutil.copytree(self.folder, to)
        return to


def make(folder: Path) -> Subject:
    """Train a run in this folder, which need not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        _train()
    return Subject(folder)


def _train() -> None:
    data = runs.corpus(CORPUS)
    for name, count in (("train", 60), ("valid", 6), ("test", 6)):
        split: SplitConfig = getattr(data, name)
        for file in map(Path, filter(None, (split.source, split.target))):
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[:count]), encoding="utf-8")
    data.batch_sentences = 12
    config = runs.settings(data, "batch", UPDATES)
    config.model = replace(config.model, embedding_size=8, hidden_size=8)
    config.optimizer.schedule = Schedule.inverse_sqrt
    config.norm.max_steps = 20
    config.trainer.histograms = False
    config.trainer.average_last = 2
    config.probe = ProbeConfig(
        [ProbeKind.gradient_flow, ProbeKind.length], sentences=4, lengths=[4], buckets=[10, 20]
    )
    run = Run(RUN, OVERRIDES)
    from seq2seq.training.loop import train

    train(config, run)
    shortlist = shortlist_for(
        replace(config.decode, shortlist=20), initial_state(config, run).prepared
    )
    assert shortlist is not None
    shortlist.save(run.shortlist_file)
    Origin.of("elsewhere/run", run.checkpoint("best")).write(run.origin_file)
    run.failure_file.write_text("the disk was full\n", encoding="utf-8")
