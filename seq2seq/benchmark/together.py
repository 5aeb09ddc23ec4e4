"""Updates of several processes that train one model, or of one; the first prints their seconds.

    torchrun --nproc-per-node 2 -m seq2seq.benchmark.together JOB

JOB is a `ProcessJob` as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..runs.folder import Run
from ..training.optimizer import make_optimizer
from ..training.processes import Processes, joined
from ..training.step import train_step
from ..translation.loading import build_translator
from .training import CPU
from .workload import workload


@dataclass
class ProcessJob:
    """What each process does."""

    folder: str
    """A run's folder, of which the settings count."""
    updates: int
    threads: int
    ddp: bool = False
    """Gradients are exchanged by torch's DistributedDataParallel, during the backward pass."""


class AlreadySummed(Processes):
    """Processes whose gradients are sums over all of them after the backward pass."""

    @contextmanager
    def summing(self, model: nn.Module, at_once: bool = True) -> Iterator[None]:
        """Do nothing."""
        yield


def in_ddp(model: nn.Module) -> nn.Module:
    """Return the model in torch's wrapper, which sums gradients while others are computed."""

    def summed(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        found: torch.futures.Future[Tensor] = work.get_future().then(lambda f: f.value()[0])
        return found

    wrapper = DistributedDataParallel(model, gradient_as_bucket_view=True)
    wrapper.register_comm_hook(None, summed)
    return wrapper


def update_times(job: ProcessJob, processes: Processes) -> list[float]:
    """Return the seconds of each update, after one of the longest batch."""
    config = Run.open(job.folder).config()
    work = workload(config, job.updates, 1)
    torch.manual_seed(config.seed)
    model: Any = build_translator(config, work.prepared.tokenizers).train()
    model.load_kernels()
    optimizer = make_optimizer(model, config.optimizer)
    if job.ddp:
        model, processes = in_ddp(model), AlreadySummed(processes.rank, processes.size, CPU)
    longest = max(work.batches, key=lambda batch: int(work.train.tgt_lengths[batch].max()))
    times = list[float]()
    for indices in (longest, *work.batches):
        batch = work.train.batch(indices)
        processes.wait()
        started = time.perf_counter()
        train_step(model, optimizer, [batch], config, processes)
        times.append(time.perf_counter() - started)
    return times[1:]


def main() -> None:
    """Do the job of the command line."""
    job = ProcessJob(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    with joined(CPU) as processes:
        times = update_times(job, processes)
        if processes.is_main:
            print(json.dumps(times), flush=True)
        processes.wait()
        if job.ddp:
            os._exit(0)  # the destructors of DDP and of its group may wait for each other


if __name__ == "__main__":
    main()
