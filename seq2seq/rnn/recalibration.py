"""Batch norm's statistics in eval mode: a batch's own instead of the stored ones, gathered, or
stored anew.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from torch import nn

from .backends import Pool
from .config import NormKind
from .layers import RecurrentLayers


def batch_norm_layers(model: nn.Module) -> dict[str, RecurrentLayers]:
    """The recurrent layers in `model` that have batch norm, by name."""
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, RecurrentLayers) and m.norm.kind is NormKind.batch
    }


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, batch norm normalises by each batch's own statistics also in eval mode."""
    layers = batch_norm_layers(model).values()
    for layer in layers:
        layer._by_batch = True
    try:
        yield
    finally:
        for layer in layers:
            layer._by_batch = False


@contextmanager
def pooled_statistics(model: nn.Module) -> Iterator[dict[str, dict[str, Pool]]]:
    """`batch_statistics` that are gathered: by layer, and by term with its suffix, as in ih_l0, the
    pools.
    """
    layers = batch_norm_layers(model)
    for layer in layers.values():
        layer._pools = {
            term + suffix: Pool(layer._own("running_mean", term, suffix))
            for suffix, term in product(layer.suffixes(), layer.term_sizes())
        }
    try:
        with batch_statistics(model):
            yield {name: layer._pools for name, layer in layers.items()}
    finally:
        for layer in layers.values():
            layer._pools = {}


@contextmanager
def recalibration(model: nn.Module) -> Iterator[None]:
    """Re-estimate batch norm's statistics of every recurrent layer in `model` from the forward
    passes made inside.

    On leaving, the running statistics become the mean and pooled variance over all rows of each
    step. Call model.eval() first: dropout off, batch statistics normalising.
    """
    with pooled_statistics(model):
        yield
        for layer in batch_norm_layers(model).values():
            layer._store_pools()
