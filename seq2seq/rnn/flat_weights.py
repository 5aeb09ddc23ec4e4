"""What programs read of torch.nn's recurrent layers besides their parameters' names."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class FlatWeights(nn.Module):
    """Base of recurrent layers: lists of the weights and biases, as torch.nn.RNNBase has them.

    They have what torch.nn's layers have too: no gains and no bias_c, whose meaning is another.
    """

    cell: str
    nonlinearity: str
    bias: bool

    def suffixes(self, layer: int | None = None) -> list[str]:
        """Return the suffixes of one layer, or of all layers, in torch's order."""
        raise NotImplementedError

    @property
    def mode(self) -> str:
        """LSTM, GRU, RNN_TANH or RNN_RELU."""
        return self.cell.upper() + (f"_{self.nonlinearity.upper()}" if self.cell == "rnn" else "")

    @property
    def _all_weights(self) -> list[list[str]]:
        """The names for each layer and direction: weight_ih, weight_hh, bias_ih, bias_hh."""
        kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        return [[kind + suffix for kind in kinds] for suffix in self.suffixes()]

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters for each layer and direction, in the order of `_all_weights`."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> tuple[Tensor | None, ...]:
        """The tensors in use; a tuple, because putting another one into it would have no effect."""
        return tuple(getattr(self, name, None) for name in self._flat_weights_names)

    @_flat_weights.setter
    def _flat_weights(self, weights: Sequence[Tensor | None]) -> None:
        for name, weight in zip(self._flat_weights_names, weights, strict=True):
            if getattr(self, name, None) is not weight:
                setattr(self, name, weight)
