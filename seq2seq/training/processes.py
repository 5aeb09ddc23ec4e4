"""Several processes training one model, as torchrun starts them: data parallelism by hand.

Each process computes its share of every batch. Losses and gradients are summed over the processes
before each update, so together they do what one process does, up to three things: rounding, the
random numbers of dropout, and the rows that batch norm's statistics are over. Each process
normalises by its own share, and all store the main process' statistics, unless norm.sync is true.

Sums begin during the backward pass, as in DistributedDataParallel. That expects a backward pass in
every process, and its end may wait for ever for that of its group.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..device import is_end_of_memory
from ..errors import TrainingError
from ..shown import brief

PART = 8 << 20
"""Bytes of gradients, about, that are summed over the processes together."""
SEED_STRIDE = 1_000_003
"""Distance between the seeds of two processes: larger than any distance between runs' seeds."""
LONGEST_WAIT = timedelta(days=1)
"""How long the others wait for the main process, which validates and scores alone."""
CPU = torch.device("cpu")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among all of a run. The main one (rank 0) alone validates and writes."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    """Device of the tensors that they exchange."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, the same in each; `values` may be overwritten."""
        if self.size > 1:
            _all(dist.all_reduce, values)
        return values

    @contextmanager
    def summing(self, model: nn.Module, at_once: bool = True) -> Iterator[None]:
        """Replace every gradient by its sum over all processes; a missing one counts as 0.

        at_once: The sums of some parameters begin when the backward pass inside has computed their
            gradients, while it goes on; otherwise all begin at the end.
        """
        if self.size == 1:
            yield
            return
        sums = Sums([p for p in model.parameters() if p.requires_grad])
        hooks = [p.register_post_accumulate_grad_hook(sums.add) for p in sums.part_of if at_once]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        _all(sums.finish)

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the main process' buffers, batch norm's statistics, to every process."""
        if self.size > 1:
            for buffer in model.buffers():
                _all(dist.broadcast, buffer, 0)

    def max(self, value: float) -> float:
        """Return the largest value of any process, in every process; waits for no GPU."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        _all(dist.all_reduce, shared, dist.ReduceOp.MAX)
        return float(shared)

    def from_main(self, value: Value) -> Value:
        """Return the main process' value, in every process."""
        shared = [value]
        if self.size > 1:
            _all(dist.broadcast_object_list, shared, 0, None, self.device)
        return shared[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            _all(dist.barrier)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked by rank; they have one shape."""
        if self.size == 1:
            return tensor[None]
        found = [torch.empty_like(tensor, device=self.device) for _ in range(self.size)]
        _all(dist.all_gather, found, tensor.to(self.device))
        return torch.stack(found).to(tensor.device)


class Sums:
    """Sums of gradients over all processes, begun part by part.

    A part is some parameters that follow each other, in the order in which a backward pass comes to
    them: the last ones first. All processes begin the parts in this order.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parts = list[list[nn.Parameter]]()
        size = PART
        for p in reversed(parameters):
            if size >= PART:
                self.parts.append([])
                size = 0
            self.parts[-1].append(p)
            size += p.nbytes
        self.part_of = {p: number for number, part in enumerate(self.parts) for p in part}
        self.missing = [len(part) for part in self.parts]
        """Of each part, the gradients that it has not got."""
        self.begun: list[tuple[Tensor, Any]] = []
        """Of each part that has begun its gradients, one after the other, and what to wait for."""

    def add(self, parameter: Tensor) -> None:
        """Note that a gradient is there; begin the parts that are complete."""
        self.missing[self.part_of[cast(nn.Parameter, parameter)]] -= 1
        while len(self.begun) < len(self.parts) and not self.missing[len(self.begun)]:
            _all(self.begin)

    def begin(self) -> None:
        """Begin to sum the gradients of the next part."""
        part = self.parts[len(self.begun)]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in part]
        whole = torch.cat([grad.flatten() for grad in grads])
        self.begun.append((whole, dist.all_reduce(whole, async_op=True)))

    def finish(self) -> None:
        """Begin the other parts, wait for all sums, and make them the gradients."""
        while len(self.begun) < len(self.parts):
            self.begin()
        for part, (whole, work) in zip(self.parts, self.begun, strict=True):
            work.wait()
            for p, grad in zip(part, whole.split([p.numel() for p in part]), strict=True):
                p.grad = grad.view_as(p)


def _all(operation: Callable[..., Any], *arguments: Any) -> None:
    """Call an operation that all processes take part in; TrainingError if one of them has ended."""
    try:
        operation(*arguments)
    except RuntimeError as error:
        if is_end_of_memory(error):
            raise
        cause = str(error).rpartition("] ")[2].partition(".")[0]
        raise TrainingError(
            f"another process of this training has ended ({brief(cause)}); the same command goes on"
            " from the last checkpoint, as torchrun does by itself with --max-restarts=N"
        ) from error


ONE_PROCESS = Processes()


def is_main() -> bool:
    """Return whether this is the main process, by torchrun's variables: before they join."""
    return _process_count() == 1 or int(os.environ.get("RANK", "0")) == 0


def _process_count() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Connect the processes that torchrun started; without torchrun there is one."""
    size = _process_count()
    if size == 1:
        yield ONE_PROCESS
        return
    # Its functions keep the group that exists when it is imported, as a default argument. Torch
    # imports it with its compiler: by then the group would never end, and its threads could end
    # the process with an error while Python shuts down.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT
    )
    try:
        together = Processes(dist.get_rank(), size, device)
        yield together
        # torchrun ends all processes once one has exited with a failure: they leave together.
        with suppress(TrainingError):  # one has ended already: there is nothing left to lose
            together.wait()
    finally:
        dist.destroy_process_group()
