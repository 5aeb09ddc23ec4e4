"""The encoder, the recurrent layers that it shares with the decoder, and the bridge between them.

B sentences, N packed rows, E embedding, H hidden.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..config import CellConfig, CellKind, ModelConfig
from ..rnn import GRU, LSTM, RNN, NormConfig, RecurrentLayers, State, as_state
from .dropout import Dropout
from .linear import Linear
from .packing import Packing


def recurrent_layer(
    cell: CellConfig,
    norm: NormConfig,
    backend: str,
    inputs: int,
    hidden: int,
    bidirectional: bool = False,
) -> RecurrentLayers:
    """Return one layer of the configured cell and norm."""
    layers: dict[CellKind, Callable[..., RecurrentLayers]] = {
        CellKind.lstm: LSTM,
        CellKind.gru: GRU,
        CellKind.rnn: partial(RNN, nonlinearity=cell.nonlinearity.value),
    }
    layer = layers[cell.kind]
    return layer(inputs, hidden, bidirectional=bidirectional, norm=norm, backend=backend)


class Encoder(nn.Module):
    """A stack of recurrent layers over the source, each bidirectional if so configured.

    The state at source step s is [h_forward; h_backward] (Bahdanau et al. 2015, section 3.2), each
    H / 2 long. Dropout lies between the layers. With `residual`, from the second layer on, the
    output is x + layer(dropout(x)) (He et al. 2016; Wu et al. 2016, section 3.1).
    """

    def __init__(
        self, config: ModelConfig, norm: NormConfig, cell: CellConfig, backend: str
    ) -> None:
        """Make `encoder_layers` layers; raise ValueError if H cannot be split in two."""
        super().__init__()
        directions = 2 if config.bidirectional else 1
        if config.hidden_size % directions:
            raise ValueError(
                f"model.hidden_size={config.hidden_size}: a bidirectional encoder needs an even"
                " number"
            )
        sizes = [config.embedding_size] + [config.hidden_size] * (config.encoder_layers - 1)
        hidden, self.residual = config.hidden_size // directions, config.residual
        self.layers = nn.ModuleList(
            recurrent_layer(cell, norm, backend, size, hidden, config.bidirectional)
            for size in sizes
        )

    def forward(
        self, rows: Tensor, packing: Packing, dropout: Dropout, projected: Tensor | None = None
    ) -> tuple[Tensor, list[State]]:
        """Return the states (N, H) of embedded rows (N, E), packed, and each layer's last state.

        With `projected` rows (N,) are those of the first layer's input terms. A last state has
        parts (B, H), both directions together, in the batch's order.
        """
        last = []
        for i, layer in enumerate(self.layers):
            inputs = dropout(f"encoder{i}", rows) if i else rows
            output, hx = layer(packing.sequence(inputs), projected=None if i else projected)
            rows = output.data + rows if i and self.residual else output.data
            parts = [
                torch.cat(tuple(part), dim=1) for part in as_state(hx)
            ]  # (D, B, H/D) -> (B, H)
            last.append(tuple(part[packing.unsorted_indices] for part in parts))
        return rows, last


class Bridge(nn.Module):
    """The decoder's first state s_0 = tanh(W s + b) from the encoder's last state s.

    As in Bahdanau et al. 2015 (appendix A.2.2), but from the last state in both directions, for
    each layer and for h and c apart. Decoder layer i starts from encoder layer i, or from the last
    one where the encoder has fewer.
    """

    def __init__(self, config: ModelConfig, cell: CellConfig, backend: str) -> None:
        """Make a projection for each part of each decoder layer's state."""
        super().__init__()
        parts, size = 2 if cell.kind is CellKind.lstm else 1, config.hidden_size
        self.sources = [min(i, config.encoder_layers - 1) for i in range(config.decoder_layers)]
        self.projections = nn.ModuleList(
            nn.ModuleList(Linear(size, size, True, backend) for _ in range(parts))
            for _ in self.sources
        )

    def forward(self, last: list[State]) -> list[State]:
        """Return each decoder layer's state from each encoder layer's; parts (B, H)."""
        layers = cast(list[nn.ModuleList], self.projections)
        return [
            tuple(
                torch.tanh(project(s)).to(s.dtype) for project, s in zip(ps, last[i], strict=True)
            )
            for ps, i in zip(layers, self.sources, strict=True)
        ]
