"""Batch norm's statistics: of a batch, running averages of them, and pools over many batches.

Each time step has its own statistics (Cooijmans et al. 2016, section 3). Stored variances are the
unbiased ones, as in `torch.nn.BatchNorm1d`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NormConfig, NormKind, Statistics


@dataclass
class StepMoments:
    """Means and variances of consecutive time steps of one batch."""

    indices: list[int]
    """Places of the steps' running statistics: consecutive, or all 0 where the steps share one
    pair.
    """
    rows: list[int]
    """Rows of each step."""
    means: Tensor
    """(n, F)"""
    variances: Tensor
    """(n, F), unbiased"""


class Pool:
    """Row-weighted mean and pooled variance of every step over many batches.

    The pooled variance is sum((n - 1) * var) / sum(n - 1) over batches of n rows with unbiased
    variance var.
    """

    def __init__(self, like: Tensor) -> None:
        self.rows = like.new_zeros(like.size(0), 1, dtype=torch.float64)
        self.degrees = torch.zeros_like(self.rows)
        self.mean_sum = torch.zeros_like(like, dtype=torch.float64)
        self.var_sum = torch.zeros_like(self.mean_sum)

    def add(self, steps: StepMoments) -> None:
        """Add the steps of a batch."""
        indices = torch.tensor(steps.indices, device=self.rows.device)
        rows = self.rows.new_tensor(steps.rows).unsqueeze(1)
        self.rows.index_add_(0, indices, rows)
        self.degrees.index_add_(0, indices, rows - 1)
        self.mean_sum.index_add_(0, indices, rows * steps.means)
        self.var_sum.index_add_(0, indices, (rows - 1) * steps.variances)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return which steps have rows (S,), and mean and variance (S, F), valid for these."""
        counted = self.rows.squeeze(1) > 0
        return counted, self.mean_sum / self.rows, self.var_sum / self.degrees


@dataclass
class BatchStatistics:
    """Batch norm's statistics of one term during one call of a layer."""

    running_mean: Tensor
    """(S, F), a buffer of the layer; S = 1: one pair for all steps."""
    running_var: Tensor
    """(S, F)"""
    num_updates: Tensor
    """(S,)"""
    momentum: float
    min_rows: int
    steps_seen: int
    """Steps that had statistics before the call."""
    use_batch: bool
    """Steps of at least min_rows rows are normalised by their own statistics; other steps by the
    running ones from before the call.
    """
    update: bool
    """`finish` averages the batch's statistics into the running ones; the first update copies."""
    whole_sequence: bool = False
    """The rows of all steps are normalised together: sequence-wise (Laurent et al. 2016)."""
    pool: Pool | None = None
    """Collects the batch's statistics."""
    _recorded: list[StepMoments] = field(default_factory=list)

    def normalise(
        self, v: Tensor, gain: Tensor, bias: Tensor | None, eps: float, step: int
    ) -> Tensor:
        """Return gain * N(v) + bias for the rows v (rows, F) of one time step."""
        if self.by_batch(v.size(0)):
            mean, var = v.new_zeros(v.size(1)), v.new_zeros(v.size(1))
            # With momentum 1, batch_norm writes the batch's statistics into mean and var.
            y = F.batch_norm(v, mean, var, gain, bias, training=True, momentum=1.0, eps=eps)
            self.record(step, [v.size(0)], mean.unsqueeze(0), var.unsqueeze(0))
            return y
        [index] = self.running_indices(step, 1)
        mean, var = self.running_mean[index], self.running_var[index]
        return F.batch_norm(v, mean.clone(), var.clone(), gain, bias, training=False, eps=eps)

    def by_batch(self, rows: int) -> bool:
        """Return whether a step of so many rows is normalised by its own statistics."""
        return self.use_batch and rows >= self.min_rows

    def running_indices(self, first_step: int, steps: int) -> list[int]:
        """Return the places of the steps' running statistics; later steps use the last one seen."""
        last = min(self.running_mean.size(0), max(self.steps_seen, 1)) - 1
        return [min(t, last) for t in range(first_step, first_step + steps)]

    def record(self, first_step: int, rows: list[int], means: Tensor, variances: Tensor) -> None:
        """Record means (n, F) and unbiased variances (n, F) of the steps from first_step on."""
        keeps_steps = self.running_mean.size(0) > 1
        indices = [first_step + t if keeps_steps else 0 for t in range(len(rows))]
        self._recorded.append(StepMoments(indices, rows, means.detach(), variances.detach()))

    @torch.no_grad()
    def finish(self) -> int:
        """Update the pool or the running statistics; return how many steps have statistics."""
        if not self._recorded:
            return self.steps_seen
        steps, pool = self._concatenated(), self.pool
        shared = self.running_mean.size(0) == 1 and not self.whole_sequence
        if pool is None and self.update and shared:
            pool = Pool(self.running_mean)
        if pool is not None:
            pool.add(steps)
        if not self.update:
            return self.steps_seen
        if pool is not None:  # all steps of the call count as one
            _, mean, var = pool.result()
            steps = StepMoments([0], [sum(steps.rows)], mean, var)
        self._average(steps)
        return max(self.steps_seen, steps.indices[-1] + 1)

    def _concatenated(self) -> StepMoments:
        if len(self._recorded) == 1:
            return self._recorded[0]
        return StepMoments(
            [i for s in self._recorded for i in s.indices],
            [r for s in self._recorded for r in s.rows],
            torch.cat([s.means for s in self._recorded]),
            torch.cat([s.variances for s in self._recorded]),
        )

    def _average(self, steps: StepMoments) -> None:
        at = slice(steps.indices[0], steps.indices[-1] + 1)
        weight = self.running_mean.new_full((at.stop - at.start, 1), self.momentum)
        weight.masked_fill_(self.num_updates[at].unsqueeze(1) == 0, 1.0)
        self.running_mean[at].lerp_(steps.means.to(weight.dtype), weight)
        self.running_var[at].lerp_(steps.variances.to(weight.dtype), weight)
        self.num_updates[at] += 1


class RunningStatistics(nn.Module):
    """Running statistics of batch norm, as buffers of a module; none with another norm.

    For each term (ih, hh, c) of a layer and direction (_l0, _l0_reverse, ...): running_mean_ih_l0
    and running_var_ih_l0 (S, F), num_updates_ih_l0 (S,). For each layer and direction:
    steps_seen_l0 (), the number of time steps that have statistics.
    """

    def __init__(self, norm: NormConfig) -> None:
        super().__init__()
        self.norm = norm
        self._by_batch = False
        self._pools: dict[str, Pool] = {}

    @property
    def has_statistics(self) -> bool:
        """Whether the norm is batch norm."""
        return self.norm.kind is NormKind.batch

    def _register_statistics(
        self, suffix: str, sizes: dict[str, int], device: Any, dtype: Any
    ) -> None:
        """Add the buffers of one layer and direction, whose terms have these sizes."""
        if not self.has_statistics:
            return
        for term, size in sizes.items():
            one_pair = self.norm.statistics is Statistics.shared or self._whole_sequence(term)
            steps = 1 if one_pair else self.norm.max_steps
            for name, buffer in (
                ("running_mean", torch.zeros(steps, size, device=device, dtype=dtype)),
                ("running_var", torch.ones(steps, size, device=device, dtype=dtype)),
                ("num_updates", torch.zeros(steps, device=device, dtype=torch.long)),
            ):
                self.register_buffer(f"{name}_{term}{suffix}", buffer)
        self.register_buffer(f"steps_seen{suffix}", torch.tensor(0, device=device))

    def _reset_statistics(self) -> None:
        for name, buffer in self.named_buffers():
            buffer.fill_(1.0 if name.startswith("running_var") else 0)

    def _whole_sequence(self, term: str) -> bool:
        return term == "ih" and self.norm.statistics is Statistics.sequence_input

    def _statistics(self, term: str, suffix: str) -> BatchStatistics | None:
        """Return a term's statistics for one call; None without batch norm."""
        if not self.has_statistics:
            return None
        return BatchStatistics(
            *self._buffers_of(term, suffix),
            self.norm.momentum,
            self.norm.min_rows,
            steps_seen=int(getattr(self, f"steps_seen{suffix}")),
            use_batch=self.training or self._by_batch,
            update=self.training and not self._by_batch,
            whole_sequence=self._whole_sequence(term),
            pool=self._pools.get(term + suffix),
        )

    def _buffers_of(self, term: str, suffix: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return running mean, running variance and number of updates of a term."""
        names = ("running_mean", "running_var", "num_updates")
        mean, var, updates = (getattr(self, f"{name}_{term}{suffix}") for name in names)
        return mean, var, updates

    def _finish_statistics(self, suffix: str, used: list[BatchStatistics]) -> None:
        """Take over what the terms of a layer and direction have recorded in one call."""
        seen = [statistics.finish() for statistics in used]
        if used and used[0].update:
            getattr(self, f"steps_seen{suffix}").fill_(max(seen))

    def _check_steps(self, steps: int) -> None:
        """Raise ValueError where statistics are kept of fewer steps than a sequence has."""
        keeps_steps = self.has_statistics and self.norm.statistics is not Statistics.shared
        most = self.norm.max_steps
        if keeps_steps and (self.training or self._pools) and steps > most:
            raise ValueError(
                f"input has {steps} time steps, but batch norm keeps statistics for"
                f" norm.max_steps={most}: train on shorter sequences or raise max_steps"
            )

    def _open_pools(self, terms: Iterable[tuple[str, str]]) -> dict[str, Pool]:
        """Collect the statistics of these terms and suffixes, until the pools are dropped."""
        self._pools = {t + suffix: Pool(self._buffers_of(t, suffix)[0]) for t, suffix in terms}
        return self._pools

    def _store_pools(self, terms: Iterable[tuple[str, str]]) -> None:
        """Make the pooled statistics the running ones."""
        for term, suffix in terms:
            counted, mean, var = self._pools[term + suffix].result()
            running_mean, running_var, num_updates = self._buffers_of(term, suffix)
            running_mean[counted] = mean[counted].to(running_mean.dtype)
            running_var[counted] = var[counted].to(running_var.dtype)
            num_updates[counted] += 1
            steps_seen = getattr(self, f"steps_seen{suffix}")
            steps_seen.fill_(max([int(steps_seen), *(counted.nonzero().flatten() + 1).tolist()]))
