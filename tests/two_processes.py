"""Two processes that train together, with the variables that torchrun sets, but without it.

They are copies of a process that has imported torch, which saves the time of the import.
"""

import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import pytest
import torch
from conftest import empty_figure
from forked_programs import PRELOADED
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from seq2seq.app.commands import train
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import validation

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LIMIT = 300
"""Seconds after which processes that have not ended are killed, and the test fails."""
MEETING: list[TCPStore] = []
"""Where the two processes that were started last meet."""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "USE_LIBUV": "0"}
get_context("forkserver").set_forkserver_preload(PRELOADED)


def variables() -> list[dict[str, str]]:
    """Return the environment of two processes, with the variables that torchrun sets.

    As with torchrun, this process listens at the port: nothing else can have taken it.
    """
    MEETING[:] = [TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False, use_libuv=False)]
    address = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(MEETING[0].port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        {**ENVIRONMENT, **address, **size, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")
    ]


def run_together(function: Callable[..., None], given: tuple[object, ...], count: int = 2) -> None:
    """Run a function in two processes, or more, which get their number and what is given to all."""
    all_ = start_processes(function, given, nprocs=count, join=False, start_method="forkserver")
    deadline = time.monotonic() + LIMIT
    while not all_.join(timeout=1):
        if time.monotonic() > deadline:
            for process in all_.processes:
                process.kill()
            pytest.fail(f"{count} processes have not ended after {LIMIT} seconds")


class StartTwo(Protocol):
    """Train the toy corpus in two processes, with some overrides, in a folder of a given name."""

    def __call__(self, folder: str, *overrides: str) -> str: ...


def one_of_two(
    rank: int, arguments: list[str], folder: Path, environments: list[dict[str, str]]
) -> None:
    """Run train.py in one process, with all that it prints in a file; attention is not drawn."""
    pytest.MonkeyPatch().setattr(validation, "attention_figure", empty_figure)
    os.chdir(folder)
    with open(f"output{rank}", "wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.environ |= environments[rank]
    torch.set_num_threads(1)
    sys.argv = ["train.py", *arguments]
    train()


def last(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(Run(folder).checkpoint("last"))[0]


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_metrics(Run(folder).metrics_file) if e["kind"] == "train"]
