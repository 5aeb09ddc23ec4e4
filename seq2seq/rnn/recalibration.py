"""Contexts in which batch norm uses a batch's own statistics, collects them or stores them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .config import NormKind
from .recurrent import RecurrentModule
from .statistics import Pool


class TooFewRows(ValueError):
    """No batch had a step with enough rows for statistics of its own."""


def batch_norm_layers(model: nn.Module) -> dict[str, RecurrentModule]:
    """Return the recurrent layers and cells with batch norm in `model`, by name."""
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, RecurrentModule) and m.norm.kind is NormKind.batch
    }


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by each batch's own statistics, in eval mode too; no running statistic changes."""
    layers = batch_norm_layers(model).values()
    before = [layer._by_batch for layer in layers]
    for layer in layers:
        layer._by_batch = True
    try:
        yield
    finally:
        for layer, by_batch in zip(layers, before, strict=True):
            layer._by_batch = by_batch


@contextmanager
def pooled_statistics(model: nn.Module) -> Iterator[dict[str, dict[str, Pool]]]:
    """Collect the statistics of batches, and normalise by them.

    Gives the pools: by module, then by term and suffix, as in ih_l0 (ih of a cell).
    """
    layers = batch_norm_layers(model)
    for layer in layers.values():
        layer.pool_statistics()
    try:
        with batch_statistics(model):
            yield {name: layer.pools for name, layer in layers.items()}
    finally:
        for layer in layers.values():
            layer.pools = {}


@contextmanager
def recalibrating(model: nn.Module) -> Iterator[None]:
    """Re-estimate batch norm's running statistics from the forward passes made inside.

    On leaving, they become the mean and the pooled variance over all rows of each step; after an
    exception they stay as they were. So do those of steps with fewer than norm.min_rows rows in
    every batch. Call model.eval() first, so that dropout is off.

    Raises TooFewRows if no step of a layer had so many rows.
    """
    with pooled_statistics(model):
        yield
        layers = batch_norm_layers(model)
        for name, layer in layers.items():
            if not any(pool.rows.any() for pool in layer.pools.values()):
                raise TooFewRows(
                    f"recalibrating{f' {name}' if name else ''}: no step of any batch had"
                    f" norm.min_rows={layer.norm.min_rows} rows; expected larger batches"
                )
        for layer in layers.values():
            layer.store_pools()
