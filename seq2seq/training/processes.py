"""Several processes on one run, as torchrun starts them: each works on its share of every batch.

Together they do what one process does. Losses and gradients are summed over them before each
update, so their number changes nothing but rounding, the random numbers of dropout and, with batch
norm, the rows that a statistic is over: each process normalises by its own share, and all go on
with the main one's statistics.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

SEED_STRIDE = 1_000_003
"""Between the seeds of two processes: dropout differs in them, while runs of neighbouring seeds
stay apart.
"""
LONGEST_WAIT = timedelta(days=1)
"""For the main process, which validates and scores alone."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is. The main one (rank 0) alone validates and writes."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """Where what they exchange has to be."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, model: nn.Module) -> None:
        """Make every gradient the sum over all processes; one that has none here counts as 0."""
        if self.size == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        whole = self.sum(torch.cat([g.flatten() for g in grads]))
        for p, grad in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
            p.grad = grad.view_as(p)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: the statistics of batch norm."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def max(self, value: float) -> float:
        """The largest value of any process, in every process."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared)

    def from_main(self, value: float) -> float:
        """The main process' value, in every process."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def wait(self) -> None:
        """For all the others to come here."""
        if self.size > 1:
            dist.barrier()

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process' tensor, stacked by rank; all of one shape."""
        if self.size == 1:
            return tensor[None]
        found = [torch.empty_like(tensor, device=self.device) for _ in range(self.size)]
        dist.all_gather(found, tensor.to(self.device))
        return torch.stack(found).to(tensor.device)


ONE_PROCESS = Processes()


def is_main() -> bool:
    """Whether this will be the main one of the processes that torchrun started, before they have
    joined.
    """
    return _started() == 1 or int(os.environ.get("RANK", "0")) == 0


def _started() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one."""
    size = _started()
    if size == 1:
        yield ONE_PROCESS
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        together = Processes(dist.get_rank(), size, device)
        yield together
        # torchrun ends the others where one fails at its exit: they leave when all is done
        together.wait()
    finally:
        dist.destroy_process_group()
