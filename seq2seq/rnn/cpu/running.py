"""Batch norm's statistics as the fused operators take and return them: all terms side by side."""

import torch
from torch import Tensor

from ..reference import CellParameters
from ..statistics import BatchStatistics


def places_with_statistics(p: CellParameters) -> int:
    """Return how many places of all terms may have statistics."""
    return max(
        s.last + 1 if isinstance(s.last, int) else s.running_mean.size(0) for s in p.statistics()
    )


def running_statistics(p: CellParameters, first_step: int, steps: int) -> list[Tensor]:
    """Return running means (T, F) and variances (T, F) of T steps."""
    terms = p.statistics()
    last = [s.last for s in terms]
    if all(isinstance(place, int) for place in last) and on_cpu(terms):
        means, variances = tables(terms)
        found = torch.ops.seq2seq.running_statistics(means, variances, first_step, steps, last)
        return list(found)
    places = torch.arange(first_step, first_step + steps, device=p.weight_hh.device)
    read = [s.running(places) for s in terms]
    return [
        torch.cat([part.detach() for part in parts], dim=1) for parts in zip(*read, strict=True)
    ]


@torch.no_grad()
def record_statistics(
    p: CellParameters, first_step: int, rows: Tensor, mean: Tensor, var: Tensor, has_state: bool
) -> None:
    """Record the statistics of the steps that were normalised by their own.

    mean and var (T, F), var is biased; `rows` (n,) are the rows of each such step. A step without a
    state before it has no recurrent term.
    """
    count = rows.size(0)
    if count == 0:
        return
    terms = p.statistics()
    skipped = [0 if has_state or s is not p.hh.statistics else 1 for s in terms]
    if averages_at_once(terms):
        torch.ops.seq2seq.average_statistics(
            *tables(terms),
            [s.num_updates for s in terms],
            terms[0].steps_seen,
            mean, var, rows, first_step, skipped, terms[0].norm.momentum,
        )  # fmt: skip
        return
    correction = (rows / (rows - 1)).to(var).unsqueeze(1)
    widths = [s.running_mean.size(1) for s in terms]
    means = mean[:count].split(widths, dim=1)
    variances = (var[:count] * correction).split(widths, dim=1)
    for statistics, start, m, v in zip(terms, skipped, means, variances, strict=True):
        # The statistics of a whole sequence were recorded as it was normalised.
        if not statistics.whole_sequence and count > start:
            statistics.record(first_step + start, rows[start:], m[start:], v[start:])


def averages_at_once(terms: list[BatchStatistics]) -> bool:
    """Return whether one operator averages the statistics of all terms, each step's on its own."""
    return on_cpu(terms) and all(
        s.update and s.pool is None and not s.whole_sequence and s.running_mean.size(0) > 1
        for s in terms
    )


def on_cpu(terms: list[BatchStatistics]) -> bool:
    """Return whether the CPU's operators take the statistics, in eager mode."""
    return not torch.compiler.is_compiling() and all(
        s.running_mean.device.type == "cpu" and s.running_mean.dtype is torch.float32 for s in terms
    )


def tables(terms: list[BatchStatistics]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the running means and variances (S, F) of each term."""
    return [s.running_mean for s in terms], [s.running_var for s in terms]
