"""Several processes that work on chunks of lines; results come in the order of the chunks."""

import argparse
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import active_children, get_context
from queue import Queue
from threading import RLock, Semaphore, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from ..parent import end_with_parent

if TYPE_CHECKING:
    from ..translation.lines import Session

C = TypeVar("C")
R = TypeVar("R")
JOB_LINES = 250
"""Lines of a chunk: few enough to share a small file, enough to fill batches."""
AHEAD = 4
"""Chunks for each process that are read before the result of the first one is taken."""
POLL = 0.01
"""Seconds between two looks at which processes have ended."""
MADE: list[Any] = []
"""In one of several processes: what makes its function, and the function once it is made."""


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
    if session.model.device.type != "cpu":
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


def in_order(
    make: Callable[[], Callable[[C], R]], chunks: Iterable[C], count: int
) -> Generator[R, None, None]:
    """Yield the result of each chunk in order, found by up to `count` processes.

    Each process makes its own function by `make`, which has to be picklable, at its first chunk. A
    thread reads the chunks, a few ahead, so that a result appears also while the next chunk is
    awaited. An error is raised in the turn of its chunk. When the caller stops, all processes end.
    """
    others = active_children()
    pool = ProcessPoolExecutor(count, get_context("spawn"), begin, (make,))
    coming = Queue[Future[R] | None]()
    room = Semaphore(AHEAD * count)
    Thread(target=submit, args=(pool, chunks, coming, room), daemon=True).start()
    try:
        while (future := coming.get()) is not None:
            yield future.result()
            room.release()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "--jobs: a process ended before its lines were done; if memory was short, fewer jobs"
            " need less"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # from now on no process starts
        while own := set(active_children()) - set(others):
            for process in own:
                process.terminate()
            time.sleep(POLL)


def submit(
    pool: ProcessPoolExecutor,
    chunks: Iterable[C],
    coming: "Queue[Future[Any] | None]",
    room: Semaphore,
) -> None:
    """Hand the chunks to the processes, and their future results on; an error is the last one."""
    failed = Future[Any]()
    try:
        for chunk in chunks:
            room.acquire()
            with interrupts_blocked():  # of the process that may start now
                coming.put(pool.submit(answer, chunk))
    except Exception as error:  # of the reader, or of a pool that is closed
        failed.set_exception(error)
        coming.put(failed)
    coming.put(None)


def begin(make: Callable[[], Callable[[C], R]]) -> None:
    """Remember how this process makes its function, and end it with its parent."""
    end_with_parent()
    MADE[:] = [make]


def answer(chunk: object) -> Any:
    """Return the result of a chunk; the function is made at the first one."""
    if len(MADE) == 1:
        MADE.append(MADE[0]())
    return MADE[1](chunk)


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


def job(
    folders: Sequence[str],
    options: argparse.Namespace,
    translate: "Callable[[Session, Chunk], R]",
) -> Callable[[Chunk], R]:
    """Return the function of one of several processes: from a chunk to its translations."""
    session = open_job(folders, options)

    def work(chunk: Chunk) -> R:
        session.lines = chunk.first - 1
        return translate(session, chunk)

    return work


def by_jobs(
    folders: Sequence[str],
    lines: Iterable[str],
    options: argparse.Namespace,
    translate: "Callable[[Session, Chunk], R]",
) -> Generator[R, None, None]:
    """Yield what `translate` makes of each chunk of the lines, in order, by several processes."""
    make = partial(job, folders, options, translate)
    return in_order(make, chunks_of(lines, JOB_LINES), options.jobs)


def best_texts(session: "Session", chunk: Chunk) -> list[str]:
    """Return the best translation of each line of a chunk."""
    return [best[0].text for best in session.translate(chunk.lines)]


def translated(
    folders: Sequence[str], lines: Sequence[str], options: argparse.Namespace
) -> list[str]:
    """Return the best translation of each line, found by several processes, with a progress bar."""
    from ..runs.logbook import translating_bar

    found = list[str]()
    with (
        translating_bar(len(lines)) as bar,
        closing(by_jobs(folders, lines, options, best_texts)) as results,
    ):
        for texts in results:
            found += texts
            bar.update(len(texts))
    return found
