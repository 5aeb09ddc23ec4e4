"""One parameter update: forward, backward, clip, step. A GPU is never waited for."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Config
from ..data.batches import Batch
from ..device import autocast, is_end_of_memory, is_read_freely
from ..errors import TrainingError
from ..model import Translator
from ..rnn.synchronization import alone
from ..shown import counted
from .processes import ONE_PROCESS, Processes


@dataclass
class StepResult:
    """Sums over the target tokens of one update, and the norm of its gradient."""

    loss: float  # summed loss, with label smoothing and R-Drop, in nats
    nll: float  # summed negative log-likelihood, in nats
    gradient_norm: float  # Euclidean norm of the whole gradient before clipping
    skipped: bool  # whether loss or gradient was not finite, and the update left out
    tokens: int  # number of target tokens, over all processes


@dataclass
class Unread:
    """The result of an update that may still be under way on a GPU."""

    numbers: Tensor  # (4,) float64: loss, nll, gradient norm, and 1 where it was skipped
    tokens: int


def read(updates: Sequence[Unread]) -> list[StepResult]:
    """Return the results of updates; wait for a GPU once."""
    if not updates:
        return []
    rows = torch.stack([update.numbers for update in updates]).tolist()
    return [
        StepResult(loss, nll, norm, bool(skipped), update.tokens)
        for (loss, nll, norm, skipped), update in zip(rows, updates, strict=True)
    ]


def train_step(
    model: Translator,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    config: Config,
    processes: Processes = ONE_PROCESS,
) -> Unread:
    """Update the parameters once, by the mean loss of the target tokens of `batches`.

    Several batches accumulate their gradients. Of each batch this process computes its own share.
    Clipping bounds the norm of the whole gradient (Pascanu et al. 2013, algorithm 1).

    Where loss or gradient norm is not finite, parameters, optimizer and batch norm's statistics
    stay as they are, in all processes.
    """
    trainer, smoothing, device = config.trainer, config.trainer.label_smoothing, model.device
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(batch.tgt_tokens for batch in batches)
    saved = saved_statistics(model, max(max(b.src.size(1), b.tgt.size(1)) for b in batches))
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, nll
    for number, batch in enumerate(batches, start=1):
        summing = processes.summing(model, at_once=not config.norm.sync)
        with summing if number == len(batches) else nullcontext():
            share = batch.share(processes.rank, processes.size)
            if share is None:
                continue
            with nullcontext() if batch.is_divided(processes.size) else alone():
                inputs = share.to(device).inputs
                with autocast(device, trainer.precision):
                    loss, nll = model(*inputs, smoothing, divisor=tokens, r_drop=trainer.r_drop)
                loss.backward()
            sums += torch.stack([loss.detach() * tokens, nll])
    processes.share_buffers(model)
    sums = processes.sum(sums)
    limit = config.optimizer.clip_norm or math.inf
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    gradient_norm = nn.utils.get_total_norm(gradients)
    if may_be(gradient_norm > limit):
        nn.utils.clip_grads_with_norm_(model.parameters(), limit, gradient_norm)
    skipped = ~(sums[0].isfinite() & gradient_norm.isfinite())
    optimizer.found_inf = None  # type: ignore[attr-defined]
    if may_be(skipped):  # where found_inf is 1, the step of a fused optimizer does nothing
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        for buffer, old in saved:
            buffer.copy_(torch.where(skipped, old, buffer))
    optimizer.step()
    ends = torch.stack([gradient_norm.double(), skipped.double()])
    return Unread(torch.cat([sums, ends]), tokens)


@contextmanager
def naming_batches(update: int, batches: Sequence[Batch]) -> Iterator[None]:
    """Turn the end of memory inside into a TrainingError that names update and batches."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_end_of_memory(error):
            raise
        sizes = ", ".join(
            f"{counted(len(b.src), 'sentence')}, {counted(b.tgt_tokens, 'target token')}"
            for b in batches
        )
        raise TrainingError(
            f"update {update}: out of memory in a batch of {sizes}; try a smaller data.batch_tokens"
            " or data.batch_sentences (optimizer.accumulate makes up for it), or data.max_length"
        ) from error


def may_be(condition: Tensor) -> bool:
    """Return False only for a condition () that is known not to hold; a GPU is not waited for."""
    return not is_read_freely(condition.device) or bool(condition)


def saved_statistics(model: nn.Module, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Return views of batch norm's statistics of the first steps, each with a copy.

    The model has no other buffers.
    """
    views = [buffer[:steps] if buffer.dim() else buffer for buffer in model.buffers()]
    return [(view, view.clone()) for view in views]
