"""Trainings that are killed again and again, and compared with one that never was.

    make torture COUNT=1000
    python tests/torture.py --count 20 --seed 7 --kinds batch

A short training runs in a process of its own, forked from one that has imported torch. SIGKILL ends
it before the k-th change of a file, in the middle of that change, or at any time. It is started
again and killed again. In the end its folder must be that of a run that was never killed.
"""

import argparse
import errno
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from composing import composed
from conftest import toy_settings
from run_comparison import differences
from tqdm import tqdm
from two_processes import variables

from seq2seq.app import commands
from seq2seq.app.exit_codes import exiting
from seq2seq.config import Config
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

LIMIT = 120
"""Seconds after which a process that has not ended is an error."""
FULL = 0.2
"""Part of the moments by changes at which the disk is full instead."""
GRACE = 20
"""The same once another process has been killed."""
SMALL = ["model.hidden_size=8", "model.dropout=0.3", "trainer.histograms=false"]
FLAT = "model.attention=none"
"""Draws no figures of attention, which take as long as all updates."""
BPE = ["tokenizer=bpe", "tokenizer.vocab_size=30", "tokenizer.bpe_dropout=0.5"]
ACCUMULATED = [
    "cell=gru",
    "norm=none",
    FLAT,
    "optimizer=sgd",
    "optimizer.lr=0.3",
    "optimizer.accumulate=3",
    "trainer.precision=bf16",
    "trainer.validate_every=2",
    "trainer.checkpoint_every=1",
]
KINDS = {
    "none": ["norm=none", "trainer.checkpoint_every=1", FLAT],
    "batch": [
        "norm=batch",
        "norm.min_rows=2",
        FLAT,
        "trainer.average_last=2",
        "trainer.validate_every=3",
    ],
    "layer": ["norm=layer", "trainer.checkpoint_every=3", "probe.kinds=[gradient_flow]"],
    "rms": ["norm=rms", FLAT, "trainer.average_best=2", "trainer.validate_every=4"],
    "bpe-dropout": ["norm=layer", FLAT, *BPE, "trainer.checkpoint_every=3"],
    "accumulation": ACCUMULATED,
    "two processes": ["norm=batch", "norm.min_rows=2", FLAT, "trainer.checkpoint_every=3"],
}
"""What is trained, by name."""


@dataclass(frozen=True)
class Kill:
    """A moment at which a process is killed."""

    change: int = 0
    """Before this change of a file, from 1; 0: by the clock."""
    torn: bool = False
    """In the middle of the change, if that appends to a file."""
    seconds: float = 0.0
    """This long after the first change."""
    rank: int = 0
    """The process that is killed."""
    full: bool = False
    """Instead of a kill, the disk is full from this change on."""


# -- the process that is killed ---


class Changes:
    """Counts the changes of files in a folder that this process makes, and kills it at one."""

    EVENTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")

    def __init__(self, folder: Path, kill: Kill, report: Connection) -> None:
        self.folder, self.kill, self.report = str(folder), kill, report
        self.count, self.flush = 0, os.fsync
        os.fsync = self.flushing
        sys.addaudithook(self.seen)

    def seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count an event of Python's own audit: a file that is opened to write, renamed, ..."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, (str, Path)) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in self.EVENTS:
            path, flags = arguments[0], 0
        else:
            return
        if os.path.abspath(path).startswith(self.folder):
            self.before(event, str(path), flags)

    def flushing(self, fd: Any) -> None:
        """Flush a file; that counts too."""
        self.before("fsync", "", 0)
        self.flush(fd)

    def before(self, event: str, path: str, flags: int) -> None:
        """Count a change that is about to be made; be killed if it is the one."""
        self.count += 1
        if self.count == 1:
            self.report.send("begun")
        if self.kill.full:
            if self.count >= self.kill.change and event in ("open", "fsync"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path or None)
            return
        if self.count != self.kill.change:
            return
        self.report.send(f"{event} {path}")
        if self.kill.torn and flags & os.O_APPEND:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(file, b'{"kind": "tr')
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Start:
    """What a process is given."""

    folder: Path
    config: Config | None
    """None: the command."""
    command: Sequence[str]
    kill: Kill
    rank: int
    environment: dict[str, str]


def run_process(start: Start, report: Connection) -> None:
    """Train, or go on training, until the moment of the kill or the end."""
    os.chdir(start.folder)
    output = os.open(f"output{start.rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ |= start.environment
    torch.set_num_threads(1)
    tqdm.set_lock(RLock())  # its own is a semaphore of the system, which a kill would leave
    kill = start.kill if start.rank == start.kill.rank else Kill()
    changes = Changes(start.folder, kill, report)
    if start.config is None:
        sys.argv = ["train.py", *start.command]
        commands.train()
    else:
        with exiting():
            train(start.config, Run("run", start.command))
    report.send(changes.count)


# -- a training that is killed ---


@dataclass
class Training:
    """A training of some kind in a folder of its own."""

    kind: str
    folder: Path
    corpus: Sequence[str]
    """Settings of a short run."""
    kills: list[str] = field(default_factory=list)
    """Where it has been killed."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.run = Run(self.folder / "run")
        self.processes = 2 if self.kind.startswith("two") else 1
        self.seconds, self.full_disks = 0.0, 0

    def start(self, kill: Kill, by_command: bool = False) -> int:
        """Start it, or start it again; return the changes of files that it made, 0 if killed.

        The start is that of train.py, with Hydra, or that of the training alone.
        """
        context = get_context("forkserver")  # which imports what two_processes asks for
        config, command = self.asked(by_command)
        started, reports = [], []
        for rank, environment in enumerate(variables() if self.processes == 2 else [{}]):
            report, sent = context.Pipe(duplex=False)
            given = Start(self.folder, config, command, kill, rank, environment)
            started.append(context.Process(target=run_process, args=(given, sent)))
            started[-1].start()
            sent.close()
            reports.append(report)
        try:
            return self.watch(started, reports, kill)
        finally:
            for process in started:
                process.kill()

    def asked(self, by_command: bool) -> tuple[Config | None, Sequence[str]]:
        """Return what the next start is given: a configuration, or arguments of train.py."""
        settings, root = (*self.corpus, *SMALL, *KINDS[self.kind]), str(self.folder / "prepared")
        begun = self.run.config_file.exists()
        if by_command:
            new = [*settings, f"data.root={root}", "hydra.run.dir=run"]
            return None, ["resume=run"] if begun else new
        if begun:
            return replace(self.run.config(), resume="run"), settings
        config = composed_once(*settings)
        return replace(config, data=replace(config.data, root=root)), settings

    def watch(
        self, started: Sequence[BaseProcess], reports: Sequence[Connection], kill: Kill
    ) -> int:
        """Kill one of the processes in time, and wait until all have ended."""
        victim, report, heard = started[kill.rank], reports[kill.rank], list[Any]()
        if report.poll(LIMIT):
            heard += received(report)
        begun = time.monotonic()
        if kill.seconds:
            victim.join(kill.seconds)
            victim.kill()
        victim.join(LIMIT)
        self.await_others(victim, started)
        self.seconds = time.monotonic() - begun
        codes = [process.exitcode for process in started]
        while said := received(report):
            heard += said
        assert None not in codes, f"{self} does not end: {codes}: {self.output()}"
        if victim.exitcode == -signal.SIGKILL:
            self.kills.append(f"{kill}: {heard}")
            return 0
        if kill.full and codes == [1]:
            [message] = [line for line in self.output().splitlines() if ": " in line][-1:]
            assert "Traceback" not in self.output(), self.output()
            assert os.strerror(errno.ENOSPC) in message, message
            self.kills.append(f"{kill}: {message}")
            self.full_disks += 1
            return 0
        assert codes == [0] * len(codes), f"{self} fails: {codes}: {self.output()}"
        assert "going on from" not in self.output(), f"{self}: {self.output()}"
        return int(heard[-1])

    def await_others(self, victim: BaseProcess, started: Sequence[BaseProcess]) -> None:
        """Wait until all have ended; one that waits for the first contact is killed.

        So does torchrun once a process has failed.
        """
        for process in started:
            process.join(LIMIT if victim.exitcode == 0 else GRACE)
            if process.exitcode is None and "training pairs" not in self.output():
                process.kill()
                process.join(LIMIT)

    def output(self) -> str:
        """Return what the processes of the last start have printed."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("output*")))


def received(report: Connection) -> list[Any]:
    """Return the next message; none from a process that has ended."""
    try:
        return [report.recv()]
    except EOFError:
        return []


composed_once = cache(composed)


class Torture:
    """Trainings of several kinds: one of each that is never killed, and many that are."""

    def __init__(self, folder: Path, commands: float = 0.0) -> None:
        """`commands` is the part of the starts that are those of train.py."""
        self.folder, self.commands = folder, commands
        self.corpus = toy_settings(folder / "corpus")
        self.whole = cache(self._whole)

    def _whole(self, kind: str) -> tuple[Training, int]:
        """Return a training that was never killed, and its number of changes of files."""
        training = self.training(kind, "whole")
        return training, training.start(Kill())

    def training(self, kind: str, name: str) -> Training:
        return Training(kind, self.folder / kind / name, self.corpus)

    def kill(self, kind: str, seed: int, most: int) -> Training:
        """Kill a training at most so many times, let it end, compare it and return it."""
        whole, changes = self.whole(kind)
        training, chance = self.training(kind, str(seed)), random.Random(f"{kind} {seed}")
        for _ in range(most):
            kill = moment(chance, changes, whole.seconds, training.processes)
            if training.start(kill, chance.random() < self.commands):
                break
        else:
            training.start(Kill())
        found = list(differences(training.run, whole.run))
        left = [str(path) for path in training.folder.rglob(".*") if path.name != ".lock"]
        assert not found + left, "\n".join(
            [f"kind {kind}, seed {seed}, at most {most} kills:", *training.kills, *found, *left]
        )
        return training


def moment(chance: random.Random, changes: int, seconds: float, processes: int) -> Kill:
    """Draw a moment of a training that makes so many changes of files in so many seconds.

    Half of them are early, where a resumed training restores and cleans up what it found.
    """
    part, by_clock = chance.choice((1.0, 0.2)), chance.random() < 0.3
    rank = chance.randrange(processes)
    if by_clock or rank:
        return Kill(seconds=chance.uniform(0.001, part * seconds), rank=rank)
    full = chance.random() < FULL and processes == 1
    torn = chance.random() < 0.3 and not full
    return Kill(change=chance.randint(1, int(part * changes)), torn=torn, full=full)


# -- make torture ---


def main() -> None:
    """Kill trainings of all kinds in turn, as often as asked; print a table of kills."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="number of kills (default: 100)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0, help="number of the first training")
    parser.add_argument("--most", type=int, default=8, help="kills of one training")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, metavar="KIND")
    options = parser.parse_args()
    kills, lost, started = Counter[str](), Counter[str](), time.monotonic()
    full_disks = 0
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        torture = Torture(Path(folder), commands=0.2)
        for seed, kind in ((s, k) for s in itertools.count(options.seed) for k in options.kinds):
            most = min(options.most, options.count - kills.total())
            if most <= 0 or time.monotonic() - started > 60 * options.minutes:
                break
            try:
                training = torture.kill(kind, seed, most)
                kills[kind] += len(training.kills)
                full_disks += training.full_disks
            except AssertionError as error:
                print(error, f"again: --kinds '{kind}' --seed {seed} --count {most}", sep="\n")
                kills[kind] += most
                lost[kind] += most
            left = (time.monotonic() - started) * (options.count / max(kills.total(), 1) - 1)
            print(f"{kills.total():,} kills, about {left / 60:.0f} minutes left", flush=True)
    for kind in options.kinds:
        print(f"{kind:15}  survived {kills[kind] - lost[kind]:,} of {kills[kind]:,} kills")
    print(f"{full_disks:,} of them were no kills: the disk was full")
    sys.exit(1 if lost.total() else 0)


if __name__ == "__main__":
    main()
