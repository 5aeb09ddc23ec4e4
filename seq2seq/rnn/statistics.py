"""Batch norm's statistics: of a batch, running averages of them, and pools over many batches.

Each time step has its own statistics (Cooijmans et al. 2016, section 3). Stored variances are the
unbiased ones, as in `torch.nn.BatchNorm1d`.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import NormConfig
from .packing import Steps
from .synchronization import AllRows, batch_norm


class Pool:
    """Row-weighted mean and pooled variance of every step over many batches.

    The pooled variance is sum((n - 1) * var) / sum(n - 1) over batches of n rows with unbiased
    variance var.
    """

    def __init__(self, like: Tensor, stores: bool = False) -> None:
        self.stores = stores
        """Whether each call makes the pool's statistics the running ones."""
        self.stored = like.new_zeros(like.size(0), dtype=torch.bool)
        """The steps of which it has been stored."""
        self.rows = like.new_zeros(like.size(0), 1, dtype=torch.float64)
        self.degrees = torch.zeros_like(self.rows)
        self.mean_sum = torch.zeros_like(like, dtype=torch.float64)
        self.var_sum = torch.zeros_like(self.mean_sum)

    def add(self, places: Tensor, rows: Tensor, means: Tensor, variances: Tensor) -> None:
        """Add n statistics: places among S and rows (n,), means and variances (n, F)."""
        index, weights = places.to(self.rows.device), rows.to(self.rows).unsqueeze(1)
        self.rows.index_add_(0, index, weights)
        self.degrees.index_add_(0, index, weights - 1)
        self.mean_sum.index_add_(0, index, weights * means)
        self.var_sum.index_add_(0, index, (weights - 1) * variances)

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
    steps_seen: Tensor
    """(), of all terms of the layer and direction"""
    last: int | Tensor
    """The last place that had statistics before the call; later steps read it too. A tensor ()
    where no number can be read: while a program is traced, under torch.func, on a GPU without
    waiting for it, on a meta device.
    """
    norm: NormConfig
    use_batch: bool
    """Steps of at least min_rows rows are normalised by their own statistics; other steps by the
    running ones from before the call.
    """
    update: bool
    """`finish` averages the batch's statistics into the running ones; the first update copies."""
    whole_sequence: bool
    """The rows of all steps are normalised together: sequence-wise (Laurent et al. 2016)."""
    pool: Pool | None
    """Collects the batch's statistics."""
    all_rows: AllRows | None = None
    """Statistics are over the rows of several processes (norm.sync)."""
    _first: int = 0
    """The first step that was recorded; later ones follow."""
    _rows: list[Tensor] = field(default_factory=list)
    _means: list[Tensor] = field(default_factory=list)
    _variances: list[Tensor] = field(default_factory=list)

    def normalise(self, v: Tensor, gain: Tensor, bias: Tensor | None, step: Steps) -> Tensor:
        """Return gain * N(v) + bias for the rows v (rows, F) of one time step.

        With `whole_sequence` they are the rows of all steps. Where rows have time steps of their
        own they are normalised by the running statistics.
        """
        eps = self.norm.eps
        if isinstance(step, int) and self.all_rows is not None:
            count = self.all_rows.rows_at(None if self.whole_sequence else step)
            if self.by_batch(count):
                y, mean, var = batch_norm(v, count, gain, bias, eps)
                self.record(step, torch.tensor([count]), mean.unsqueeze(0), var.unsqueeze(0))
                return y
        elif isinstance(step, int) and self.by_batch(v.size(0)):
            mean, var = v.new_zeros(v.size(1)), v.new_zeros(v.size(1))
            # With momentum 1, batch_norm writes the batch's statistics into mean and var.
            y = F.batch_norm(v, mean, var, gain, bias, training=True, momentum=1.0, eps=eps)
            rows = torch.full((1,), v.size(0), device="cpu")
            self.record(step, rows, mean.unsqueeze(0), var.unsqueeze(0))
            return y
        mean, var = (s.to(gain.dtype) for s in self.running(step))
        if isinstance(step, int):
            return F.batch_norm(v, mean[0], var[0], gain, bias, training=False, eps=eps)
        y = (v - mean) * torch.rsqrt(var + eps) * gain
        return y if bias is None else y + bias

    def running(self, steps: Steps) -> tuple[Tensor, Tensor]:
        """Return copies of the running means and variances (n, F) of n time steps."""
        if isinstance(steps, int):
            steps = torch.full((1,), steps, device=self.running_mean.device)
        places = steps.clamp(max=self.last)
        return self.running_mean.index_select(0, places), self.running_var.index_select(0, places)

    def by_batch(self, rows: int) -> bool:
        """Return whether a step of so many rows is normalised by its own statistics."""
        return self.use_batch and rows >= self.norm.min_rows

    def record(self, first_step: int, rows: Tensor, means: Tensor, variances: Tensor) -> None:
        """Record means (n, F) and unbiased variances (n, F) of n steps of so many rows (n,).

        They are the steps from first_step on, or those that follow what was recorded before.
        """
        self._first = self._first if self._rows else first_step
        self._rows.append(rows)
        self._means.append(means.detach())
        self._variances.append(variances.detach())

    def finish(self) -> None:
        """Add what was recorded to the pool, or average it into the running statistics."""
        if not self._rows:
            return
        with torch.no_grad():
            means, variances = torch.cat(self._means), torch.cat(self._variances)
            if self.pool is not None:
                self._add_to(self.pool, means, variances)
                if self.pool.stores:
                    self.store_pool()
            elif self.update:
                self._average(means, variances)

    def _add_to(self, pool: Pool, means: Tensor, variances: Tensor) -> None:
        """Add the statistics (n, F) of the steps that were recorded to a pool."""
        rows = torch.cat(self._rows)
        places = torch.arange(self._first, self._first + rows.size(0), device="cpu")
        pool.add(
            places if pool.rows.size(0) > 1 else torch.zeros_like(rows), rows, means, variances
        )

    def _average(self, means: Tensor, variances: Tensor) -> None:
        if self.running_mean.size(0) == 1 and not self.whole_sequence:
            pool = Pool(self.running_mean)  # all steps of the call count as one
            self._add_to(pool, means, variances)
            _, means, variances = pool.result()
        first = self._first if self.running_mean.size(0) > 1 else 0
        at = slice(first, first + means.size(0))
        weight = self.running_mean.new_full((len(means), 1), self.norm.momentum)
        weight.masked_fill_(self.num_updates[at].unsqueeze(1) == 0, 1.0)
        self.running_mean[at].lerp_(means.to(weight.dtype), weight)
        self.running_var[at].lerp_(variances.to(weight.dtype), weight)
        self.num_updates[at] += 1
        self.steps_seen.clamp_(min=at.stop)

    def store_pool(self) -> None:
        """Make the pooled statistics the running ones."""
        assert self.pool is not None
        counted, mean, var = self.pool.result()
        self.running_mean[counted] = mean[counted].to(self.running_mean.dtype)
        self.running_var[counted] = var[counted].to(self.running_var.dtype)
        self.num_updates[counted & ~self.pool.stored] += 1
        self.pool.stored |= counted
        self.steps_seen.clamp_(min=max(counted.nonzero().flatten().tolist(), default=-1) + 1)
