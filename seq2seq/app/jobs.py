"""Several processes that work on chunks of lines; results come in the order of the chunks."""

import argparse
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from threading import RLock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ..translation.lines import Session

C = TypeVar("C")
R = TypeVar("R")
JOB_LINES = 250
"""Lines of a chunk: few enough to share a small file, enough to fill batches."""
UNPRINTED = 4
"""Finished chunks for each process that may wait for an earlier one."""
REPORTED = (ValueError, RuntimeError, OSError, ImportError)
"""Errors that a process reports as its result; any other is a fault of ours, and ends it."""
SECONDS = 5
"""How long a process may take to end before it is killed."""


def check_jobs(options: argparse.Namespace) -> None:
    """Raise ValueError for options that several processes cannot keep."""
    if options.threads is not None and options.threads < options.jobs:
        raise ValueError(
            f"--jobs {options.jobs}: more processes than --threads {options.threads}; expected a"
            " thread for each"
        )
    if options.device == "cuda":
        raise ValueError(f"--jobs {options.jobs}: {SHARED}")


SHARED = "processes share a CPU, and not a GPU; expected --device cpu, or no --jobs"


def open_job(folders: Sequence[str], options: argparse.Namespace) -> "Session":
    """Return the session of one of several processes, with its share of the threads."""
    from tqdm import tqdm

    from ..device import divide_threads
    from .options import open_ensemble

    tqdm.set_lock(RLock())  # its own would be left behind by a process that is killed
    session = open_ensemble(folders, options)
    if next(session.model.parameters()).device.type != "cpu":
        raise ValueError(f"--jobs {options.jobs}: {SHARED}")
    divide_threads(options.jobs)
    return session


@dataclass
class Chunk:
    """Lines that are translated together."""

    first: int
    """Number of the first one."""
    lines: list[str]


def chunks_of(lines: Iterable[str], size: int) -> Iterator[Chunk]:
    """Yield lines, so many at a time; the first of all is number 1."""
    left, first = iter(lines), 1
    while chunk := list(islice(left, size)):
        yield Chunk(first, chunk)
        first += len(chunk)


@dataclass
class Failure:
    """An error in the place of a result."""

    error: Exception


def serve(make: Callable[[], Callable[[C], R]], connection: "Connection") -> None:
    """Answer each chunk with its result, or with the error, until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process
    work: Callable[[C], R] | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            chunk: C = connection.recv()
            found: R | Failure
            try:
                work = work or make()
                found = work(chunk)
            except REPORTED as error:
                error.add_note(traceback.format_exc())
                found = Failure(error)
            connection.send(found)


class Process(Generic[C, R]):
    """A process and the chunk that it works on."""

    def __init__(self, make: Callable[[], Callable[[C], R]]) -> None:
        """Start it. It shares nothing with this process: only that is safe beside threads."""
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(make, theirs), daemon=True)
        with interrupts_blocked():
            self.process.start()
        theirs.close()
        self.number: int | None = None  # of its chunk

    def take(self, number: int, chunk: C) -> None:
        """Work on a chunk."""
        self.number = number
        with suppress(BrokenPipeError, ConnectionResetError):  # `result` finds out why
            self.connection.send(chunk)

    def result(self) -> R | Failure:
        """Return the result of the chunk; a failure if the process has ended without one."""
        self.number = None
        try:
            found: R | Failure = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(SECONDS)
            code = self.process.exitcode or 0
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return Failure(
                RuntimeError(
                    f"--jobs: a process ended before its lines were done ({how}); if memory was"
                    " short, fewer jobs need less"
                )
            )
        return found

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.terminate()
        self.process.join(SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Hold back Ctrl-C inside; a process that starts here does not get it at all."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Jobs(Generic[C, R]):
    """Processes that each make a function, and apply it to chunks as they become free."""

    def __init__(
        self, make: Callable[[], Callable[[C], R]], chunks: Iterable[C], count: int
    ) -> None:
        """Read chunks and start processes only once they are needed."""
        self.make, self.chunks, self.count = make, iter(chunks), count
        self.processes: list[Process[C, R]] = []
        self.found: dict[int, R | Failure] = {}
        """Results by the number of their chunk, until their turn comes."""
        self.read = 0
        """Number of chunks that were read."""
        self.is_over = False
        """Whether there is nothing more to read."""

    def busy(self) -> list[Process[C, R]]:
        """Return the processes that have a chunk."""
        return [process for process in self.processes if process.number is not None]

    def has_room(self) -> bool:
        """Return whether to read one more chunk."""
        is_free = len(self.busy()) < self.count
        return not self.is_over and is_free and len(self.found) < UNPRINTED * self.count

    def read_one(self) -> None:
        """Hand the next chunk to a process; an error of its reader becomes its result."""
        try:
            chunk = next(self.chunks)
        except StopIteration:
            self.is_over = True
            return
        except REPORTED as error:
            self.is_over = True
            self.found[self.read] = Failure(error)
            return
        free = [process for process in self.processes if process.number is None]
        if not free:
            free = [Process(self.make)]
            self.processes += free
        free[0].take(self.read, chunk)
        self.read += 1

    def collect(self, seconds: float | None) -> None:
        """Take the results that are there; wait for one at most so long, or without a limit."""
        busy = self.busy()
        ready = wait([process.connection for process in busy], seconds) if busy else []
        for process in busy:
            if process.connection in ready and (number := process.number) is not None:
                self.found[number] = process.result()

    def end(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.end()


def in_order(
    make: Callable[[], Callable[[C], R]], chunks: Iterable[C], count: int
) -> Generator[R, None, None]:
    """Yield the result of each chunk in order, found by up to `count` processes.

    Each process makes its own function by `make`, which has to be picklable, at its first chunk. A
    chunk is read once a process is free, and results are yielded as soon as their turn comes. An
    error is raised in the turn of its chunk. When the caller stops, all processes end.
    """
    jobs, turn = Jobs(make, chunks, count), 0
    try:
        while True:
            if jobs.has_room():
                jobs.read_one()
            jobs.collect(0 if jobs.has_room() else None)
            while turn in jobs.found:
                result = jobs.found.pop(turn)
                turn += 1
                if isinstance(result, Failure):
                    raise result.error
                yield result
            if jobs.is_over and not jobs.busy():
                return
    finally:
        jobs.end()


def job(folders: Sequence[str], options: argparse.Namespace) -> Callable[[Chunk], list[str]]:
    """Return the function of one of several processes: from a chunk to its translations."""
    session = open_job(folders, options)

    def work(chunk: Chunk) -> list[str]:
        session.lines = chunk.first - 1
        return [best[0].text for best in session.translate(chunk.lines)]

    return work


def translated(
    folders: Sequence[str], lines: Sequence[str], options: argparse.Namespace
) -> list[str]:
    """Return the best translation of each line, found by several processes, with a progress bar."""
    from tqdm import tqdm

    from ..runs.logbook import refresh_seconds

    bar = tqdm(
        total=len(lines),
        unit="sentence",
        desc="translating",
        leave=False,
        mininterval=refresh_seconds(),
        dynamic_ncols=True,
    )
    found = list[str]()
    make = partial(job, folders, options)
    with bar, closing(in_order(make, chunks_of(lines, JOB_LINES), options.jobs)) as results:
        for texts in results:
            found += texts
            bar.update(len(texts))
    return found
