"""Memory of a training step, each contestant in a process of its own. Linux only."""

from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from ..rnn import LSTM
from .layers import NORMS, Size, forward_and_backward


@dataclass
class Memory:
    """Growth of a process by training steps of one contestant."""

    name: str
    mebibytes: float
    ratio: float
    """Compared with the first contestant's."""


def memory(size: Size) -> list[Memory]:
    """Return the memory of training torch.nn.LSTM, and ours by norm."""
    names = ["torch.nn.LSTM", *(f"LSTM norm={norm}" for norm in NORMS)]
    grown = []
    for name in names:
        with get_context("spawn").Pool(1) as pool:
            grown.append(pool.apply(growth, (name, size)))
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


def resident(which: str) -> float:
    """Return the MiB of this process in memory: now (VmRSS), or the largest so far (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024
    )
