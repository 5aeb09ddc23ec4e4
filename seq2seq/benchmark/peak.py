"""One contestant in a process of its own, which prints how much memory it took. Linux only.

    python -m seq2seq.benchmark.peak < JOB

JOB is a `MemoryJob` as JSON. What a job does not need is not imported.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .children import finish

STATUS = Path("/proc/self/status")
"""Where Linux says how much memory a process has."""


@dataclass
class MemoryJob:
    """What a process does: a `kind` of work, and what it needs for it."""

    kind: str
    """torch, application (imports alone), train, or decode."""
    folder: str = ""
    """A run's folder: of train its settings, of decode also its weights."""
    norm: str | None = None
    """None: the rival."""
    count: int = 1
    """Updates, or sentences to translate."""
    threads: int = 1


def peak(job: MemoryJob) -> float:
    """Return the largest resident memory, in MiB, of a new process that does a job.

    RuntimeError where it fails.
    """
    name = f"memory of {job.kind}" + f", norm={job.norm}" * (job.norm is not None)
    words = [sys.executable, "-m", __spec__.name]
    return float(finish(words, given=json.dumps(asdict(job)), name=name))


def check_memory() -> None:
    """Raise ValueError where there is no memory to be read."""
    if not STATUS.is_file():
        raise ValueError(f"{STATUS}: no such file; memory is measured on Linux alone")


def resident(which: str) -> float:
    """Return the MiB of this process in memory: now (VmRSS), or the largest so far (VmHWM)."""
    status = STATUS.read_text(encoding="utf-8")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024
    )


def make_updates(job: MemoryJob) -> None:
    """Make updates of a new translator."""
    from ..runs.folder import Run
    from .contestants import Contestant
    from .training import updates
    from .workload import workload

    config = Run.open(job.folder).config()
    contestant = Contestant(config, job.norm, by_length=job.norm is None)
    _, run = updates(workload(config, job.count, 1), contestant)
    run()


def translate(job: MemoryJob) -> None:
    """Translate sentences by beam search with a trained translator."""
    from ..runs.folder import Run
    from .contestants import Contestant
    from .decoding import new_search
    from .workload import workload

    run = Run.open(job.folder)
    config = run.config()
    _, search = new_search(Contestant(config, job.norm), run)
    search(workload(config, 1, job.count).sentences, config.decode)


def do(job: MemoryJob) -> None:
    """Do a job in this process."""
    import torch

    if job.kind == "application":
        from ..app import train as _application  # noqa: F401
        from ..training import loop as _loop  # noqa: F401
    torch.set_num_threads(job.threads)
    work = {"train": make_updates, "decode": translate}.get(job.kind)
    if work is not None:
        work(job)


if __name__ == "__main__":
    do(MemoryJob(**json.load(sys.stdin)))
    print(resident("VmHWM"))
