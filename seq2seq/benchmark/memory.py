"""Memory of layers and translators, each contestant in a process of its own. Linux only."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from tqdm import tqdm

from ..data.dataset import Prepared
from ..parent import end_with_parent
from ..rnn import LSTM
from ..runs.folder import Run
from .contestants import Contestant
from .layer_products import Size
from .layers import NORMS, forward_and_backward
from .peak import MemoryJob, peak, resident
from .trained import trained_run


@dataclass
class Memory:
    """Memory of a process that runs one contestant."""

    name: str
    mebibytes: float
    """Growth by a layer's training steps; for translators the peak of the whole process."""
    ratio: float
    """Compared with the first contestant's."""


def layer_memory(size: Size) -> list[Memory]:
    """Return the memory of training torch.nn.LSTM, and ours by norm."""
    names = ["torch.nn.LSTM", *(f"LSTM norm={norm}" for norm in NORMS)]
    grown = []
    for name in names:
        context = get_context("spawn")  # fails if its process does
        with ProcessPoolExecutor(1, context, end_with_parent) as pool:
            grown.append(pool.submit(growth, name, size).result())
    return [Memory(name, g, g / grown[0]) for name, g in zip(names, grown, strict=True)]


def growth(name: str, size: Size) -> float:
    """Return the largest growth of this process, in MiB, in training steps of a contestant.

    Parameters do not count.
    """
    steps, batch, inputs, hidden = size
    make = nn.LSTM if name == "torch.nn.LSTM" else partial(LSTM, norm=name.partition("=")[2])
    # A first pass loads the libraries.
    small = torch.randn(5, 2, 8, requires_grad=True)
    forward_and_backward(make(8, 8), small, torch.randn(5, 2, 8))
    layer, x = make(inputs, hidden), torch.randn(steps, batch, inputs, requires_grad=True)
    upstream = torch.randn(steps, batch, hidden)
    CDLL(None).malloc_trim(0)  # memory that is free already would not count
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    for _ in range(2):
        forward_and_backward(layer, x, upstream)
    return resident("VmHWM") - before


# -- translators ---


def training_peaks(
    found: Sequence[Contestant], updates: int, threads: int
) -> dict[str, list[Memory]]:
    """Return the largest resident memory of whole processes that train: a table by its title."""
    jobs = dict[str, MemoryJob]()
    with TemporaryDirectory() as folder:
        for number, contestant in enumerate(found):
            run = Run(Path(folder) / str(number))
            run.save_config(contestant.config)
            jobs[contestant.name] = MemoryJob(
                "train", str(run.folder), contestant.norm, updates, threads
            )
        title = f"peak of the process, training, {found[0].config.data.name}: {updates} updates"
        return {title: peaks(jobs)}


def decoding_peaks(
    found: Sequence[Contestant], prepared: Prepared, trained: int, sentences: int, threads: int
) -> dict[str, list[Memory]]:
    """Return the largest resident memory of whole processes that translate: a table by its title.

    The translators have been trained by so many updates.
    """
    jobs = {
        contestant.name: MemoryJob(
            "decode",
            str(trained_run(contestant, prepared, trained).folder),
            contestant.norm,
            sentences,
            threads,
        )
        for contestant in found
    }
    config = found[0].config
    title = f"peak of the process, beam {config.decode.beam_size}, {config.data.name}:"
    return {f"{title} {sentences} sentences": peaks(jobs)}


def peaks(jobs: Mapping[str, MemoryJob]) -> list[Memory]:
    """Return the peak of each job in a new process, compared with the first job, and of imports."""
    imports = {"import torch": MemoryJob("torch"), "import of train.py": MemoryJob("application")}
    found = {name: peak(job) for name, job in tqdm({**jobs, **imports}.items(), disable=None)}
    baseline = next(iter(found.values()))
    return [Memory(name, mebibytes, mebibytes / baseline) for name, mebibytes in found.items()]
