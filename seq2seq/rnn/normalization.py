"""N(v) of the three norms, and the statistics that batch norm keeps.

    layer   N(v) = (v - mean) / sqrt(var + eps)    over the features of a row    Ba et al. 2016, eq.
            3
    rms     N(v) = v / sqrt(mean(v^2) + eps)       over the features of a row    Zhang & Sennrich
            2019, eq. 4
    batch   N(v) = (v - mean) / sqrt(var + eps)    over the rows of a time step  Cooijmans et al.
            2016, eq. 5

Variances are biased; the running variance alone is the unbiased one, as in `torch.nn.BatchNorm1d`.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Steps:
    """Steps that follow each other, normalised by their own statistics."""

    indices: list[int]
    """Of each, where its running statistics are: one after the other, or all 0 where the steps
    share one pair.
    """
    rows: list[int]
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

    def add(self, steps: Steps) -> None:
        """Count a batch's steps."""
        indices = torch.tensor(steps.indices, device=self.rows.device)
        rows = self.rows.new_tensor(steps.rows).unsqueeze(1)
        self.rows.index_add_(0, indices, rows)
        self.degrees.index_add_(0, indices, rows - 1)
        self.mean_sum.index_add_(0, indices, rows * steps.means)
        self.var_sum.index_add_(0, indices, (rows - 1) * steps.variances)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """Which steps were counted (S,), and the mean and variance (S, F) of these."""
        counted = self.rows.squeeze(1) > 0
        return counted, self.mean_sum / self.rows, self.var_sum / self.degrees


@dataclass
class BatchStatistics:
    """Batch norm's statistics of one term during one call.

    `running_mean` and `running_var` (S, F) and `num_updates` (S,) are the layer's buffers; S = 1
    means one pair for all steps. `steps_seen` counts the steps that had statistics before the call.
    With `use_batch` a step of at least `min_rows` rows is normalised by its own statistics; any
    other step is normalised by the running ones, those of before the call. With `update` `finish`
    averages the batch's own into the running ones, with weight `momentum` (the first update
    copies).
    """

    running_mean: Tensor
    running_var: Tensor
    num_updates: Tensor
    momentum: float
    min_rows: int
    steps_seen: int
    use_batch: bool
    update: bool
    whole_sequence: bool = False
    """The rows of all steps are normalised at once: the input term, sequence-wise as in Laurent et
    al. 2016.
    """
    pool: Pool | None = None
    """Where set, the batches' statistics are gathered here."""
    _recorded: list[Steps] = field(default_factory=list)

    def normalise(
        self, v: Tensor, gain: Tensor, bias: Tensor | None, eps: float, step: int
    ) -> Tensor:
        """gain * N(v) + bias for the rows v (rows, F) of one time step."""
        if self.by_batch(v.size(0)):
            mean, var = v.new_zeros(v.size(1)), v.new_zeros(v.size(1))
            y = F.batch_norm(
                v, mean, var, gain, bias, training=True, momentum=1.0, eps=eps
            )  # fills mean, var
            self.record(step, [v.size(0)], mean.unsqueeze(0), var.unsqueeze(0))
            return y
        [index] = self.running_indices(step, 1)
        mean, var = self.running_mean[index], self.running_var[index]
        return F.batch_norm(v, mean.clone(), var.clone(), gain, bias, training=False, eps=eps)

    def by_batch(self, rows: int) -> bool:
        """Whether a step of so many rows is normalised by its own statistics."""
        return self.use_batch and rows >= self.min_rows

    def running_indices(self, first_step: int, steps: int) -> list[int]:
        """Where the steps' running statistics are; those of the last step seen, for later ones."""
        last = min(self.running_mean.size(0), max(self.steps_seen, 1)) - 1
        return [min(t, last) for t in range(first_step, first_step + steps)]

    def record(self, first_step: int, rows: list[int], means: Tensor, variances: Tensor) -> None:
        """Take note of the steps' own means (n, F) and unbiased variances (n, F), from `first_step`
        on.
        """
        keeps_steps = self.running_mean.size(0) > 1
        indices = [first_step + t if keeps_steps else 0 for t in range(len(rows))]
        self._recorded.append(Steps(indices, rows, means.detach(), variances.detach()))

    @torch.no_grad()
    def finish(self) -> int:
        """Make the running statistics, or the pool, hold what was recorded; returns how many steps
        have statistics.
        """
        if not self._recorded:
            return self.steps_seen
        steps, pool = self._together(), self.pool
        if pool is None and self.update and self._shared():
            pool = Pool(self.running_mean)
        if pool is not None:
            pool.add(steps)
        if not self.update:
            return self.steps_seen
        self._average(steps if pool is None else self._as_one(steps, pool))
        return max(self.steps_seen, steps.indices[-1] + 1)

    def _together(self) -> Steps:
        if len(self._recorded) == 1:
            return self._recorded[0]
        return Steps(
            [i for s in self._recorded for i in s.indices],
            [r for s in self._recorded for r in s.rows],
            torch.cat([s.means for s in self._recorded]),
            torch.cat([s.variances for s in self._recorded]),
        )

    def _shared(self) -> bool:
        return self.running_mean.size(0) == 1 and not self.whole_sequence

    @staticmethod
    def _as_one(steps: Steps, pool: Pool) -> Steps:
        """All steps of the call as one, for the pair that they share."""
        _, mean, var = pool.result()
        return Steps([0], [sum(steps.rows)], mean, var)

    def _average(self, steps: Steps) -> None:
        at = slice(steps.indices[0], steps.indices[-1] + 1)
        weight = self.running_mean.new_full((at.stop - at.start, 1), self.momentum)
        weight.masked_fill_(self.num_updates[at].unsqueeze(1) == 0, 1.0)
        self.running_mean[at].lerp_(steps.means.to(weight.dtype), weight)
        self.running_var[at].lerp_(steps.variances.to(weight.dtype), weight)
        self.num_updates[at] += 1


@dataclass
class Term:
    """One normalised term of a cell: y = gain * N(v) + bias, for v (rows, F).

    `segments` are the lengths of the parts of a row that layer and rms norm treat apart; they sum
    to F.
    """

    kind: str
    gain: Tensor | None
    bias: Tensor | None
    eps: float
    segments: list[int]
    statistics: BatchStatistics | None = None

    def __call__(self, v: Tensor, step: int) -> Tensor:
        """The term at one time step."""
        if self.kind == "none":
            return v if self.bias is None else v + self.bias
        assert self.gain is not None
        if self.statistics is not None:
            return self.statistics.normalise(v, self.gain, self.bias, self.eps, step)
        parts = v.split(self.segments, dim=1)
        gains = self.gain.split(self.segments)
        biases = [None] * len(parts) if self.bias is None else self.bias.split(self.segments)
        ys = [self._normalise_rows(*part) for part in zip(parts, gains, biases, strict=True)]
        return ys[0] if len(ys) == 1 else torch.cat(ys, dim=1)

    def _normalise_rows(self, v: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(v, gain.shape, gain, bias, self.eps)
        y = F.rms_norm(v, gain.shape, gain, self.eps)
        return y if bias is None else y + bias

    def over_sequence(self, v: Tensor, batch_sizes: list[int], first_step: int) -> Tensor:
        """The term for the packed rows v (N, F) of all steps, step t being the next batch_sizes[t]
        rows.
        """
        if self.statistics is None or self.statistics.whole_sequence:
            return self(v, first_step)
        return torch.cat(
            [self(rows, first_step + t) for t, rows in enumerate(v.split(batch_sizes))]
        )

    def at_zero(self) -> Tensor | None:
        """The term where N(v) is 0."""
        return self.bias
