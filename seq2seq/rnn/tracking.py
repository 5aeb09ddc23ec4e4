"""Batch norm's running statistics, as tools for the batch norm of torch.nn see them."""

from typing import Any, Protocol

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .config import NormConfig


class Tracked(Protocol):
    """A layer with batch norm."""

    norm: NormConfig
    pools: dict[str, Any]

    def reset_statistics(self) -> None:
        """Set the statistics to those before any training."""

    def set_momentum(self, momentum: float) -> None:
        """Set norm.momentum of this layer alone."""

    def pool_statistics(self, *, stores: bool = False) -> None:
        """Collect the statistics of the batches to come; `stores`: in the running ones, too."""


class RunningStatistics(_BatchNorm):
    """What `torch.optim.swa_utils.update_bn` and the like find of a layer with batch norm.

    They look for instances of torch's class. This one has no tensors of its own. It passes on what
    they do: `reset_running_stats()`; `momentum = None`, which makes the statistics those of all
    batches to come, until a number ends it; eval(), which freezes the statistics, and lets
    them normalise in training too.
    """

    affine: bool = False  # annotations of its own, for torch.jit reads those of a base class
    track_running_stats: bool = False
    __constants__ = ["affine", "track_running_stats"]  # noqa: RUF012  # as in the base class
    __jit_unused_properties__ = ("momentum",)

    def __init__(self, layer: Tracked) -> None:
        nn.Module.__init__(self)
        for name in ("weight", "bias"):
            self.register_parameter(name, None)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, None)
        self.__dict__["layer"] = layer  # as an attribute it would be a child of its own child

    @property
    def momentum(self) -> float | None:
        """The layer's norm.momentum; None while all batches are pooled."""
        layer: Tracked = self.__dict__["layer"]
        return None if layer.pools else layer.norm.momentum

    @momentum.setter
    def momentum(self, momentum: float | None) -> None:
        layer: Tracked = self.__dict__["layer"]
        if momentum is None:
            layer.pool_statistics(stores=True)
            return
        layer.pools = {}
        layer.set_momentum(momentum)

    def reset_running_stats(self) -> None:
        """Set the layer's statistics to those before any training."""
        layer: Tracked = self.__dict__["layer"]
        layer.reset_statistics()
        if layer.pools:
            layer.pool_statistics(stores=True)

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError with the reason for num_features, which conversions ask for."""
        if name == "num_features":
            raise AttributeError(
                "the batch norm inside a recurrent cell cannot be converted, as to SyncBatchNorm;"
                " NormConfig(sync=True) gives the layer statistics over all processes"
            )
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        """Return nothing: the layer has the settings."""
        return ""
