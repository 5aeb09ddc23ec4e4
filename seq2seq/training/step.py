"""One parameter update: forward, backward, clip, step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..config import Config
from ..data.batches import Batch
from ..device import autocast
from ..errors import TrainingError
from ..model import Translator
from .processes import ONE_PROCESS, Processes


@dataclass
class StepResult:
    """Sums over the target tokens of one update, and its gradient."""

    loss: float  # summed loss with label smoothing, in nats
    nll: float  # summed negative log-likelihood, in nats
    tokens: int  # number of target tokens, over all processes
    gradient_norm: float  # Euclidean norm of the whole gradient before clipping


def train_step(
    model: Translator,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    config: Config,
    device: torch.device,
    processes: Processes = ONE_PROCESS,
) -> StepResult:
    """Update the parameters once, by the mean loss of the target tokens of `batches`.

    Several batches accumulate their gradients. Of each batch this process computes its own share.
    Clipping bounds the norm of the whole gradient (Pascanu et al. 2013, algorithm 1).

    Raises TrainingError, and leaves the parameters alone, if loss or gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    tokens = sum(batch.tgt_tokens for batch in batches)
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss, nll
    for share in (batch.share(processes.rank, processes.size) for batch in batches):
        if share is None:
            continue
        with autocast(device, config.trainer.precision):
            loss, nll = model(*share.to(device).inputs, config.trainer.label_smoothing, tokens)
        loss.backward()
        sums += torch.stack([loss.detach() * tokens, nll])
    processes.sum_gradients(model)
    processes.share_buffers(model)
    loss_sum, nll_sum = processes.sum(sums).tolist()
    limit = config.optimizer.clip_norm or math.inf
    total = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norm = total.item()
    if norm > limit:
        nn.utils.clip_grads_with_norm_(model.parameters(), limit, total)
    if not (math.isfinite(loss_sum) and math.isfinite(norm)):
        raise TrainingError(
            f"loss {loss_sum / tokens} or gradient norm {norm} is not finite; try a lower "
            "optimizer.lr, a smaller optimizer.clip_norm or trainer.precision=fp32"
        )
    optimizer.step()
    return StepResult(loss_sum, nll_sum, tokens, norm)
