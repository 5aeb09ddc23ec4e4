"""Layers to export, and the inputs that an exported layer has to take."""

from typing import Any

import torch
from oracles import CELLS, randomised
from torch import Tensor, nn
from torch.export import Dim

from seq2seq.rnn import NormConfig, RecurrentLayers

NORMS = ["none", "layer", "rms", "batch"]
INPUTS, HIDDEN = 5, 8
SHAPES = [(9, 2), (6, 3), (2, 1), (1, 4), (1, 1), (20, 2)]
"""Steps and sequences. Batch norm has statistics of 6 steps."""
STEPS, SEQUENCES, ROWS = (Dim(name, min=1) for name in ("steps", "sequences", "rows"))
DYNAMIC = {"input": {0: STEPS, 1: SEQUENCES}}
STEP_SHAPES = ({1: ROWS}, {1: ROWS}, {1: ROWS}, {0: ROWS})
"""Of the inputs of `OneStep`."""


def trained(cell: str, norm: str | NormConfig, **options: Any) -> RecurrentLayers:
    """Return a layer with random gains and statistics, in eval mode."""
    torch.manual_seed(0)
    layer = randomised(CELLS[cell](INPUTS, HIDDEN, norm=norm, **options)).float()
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(0.5)  # with relu the states would grow without bound
        for _ in range(3):
            x = torch.randn(6, 4, INPUTS)
            layer(x.transpose(0, 1) if layer.batch_first else x)
    return layer.eval()


class OneStep(nn.Module):
    """A step of a decoder: rows have their own time steps."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.layer = trained("lstm", norm)
        self.eval()

    def forward(self, x: Tensor, h: Tensor, c: Tensor, first_step: Tensor) -> Any:
        return self.layer(x, (h, c), first_step=first_step)


def step_inputs(rows: int) -> tuple[Tensor, ...]:
    """Return inputs of `OneStep`."""
    h, c = torch.randn(2, 1, rows, HIDDEN)
    return torch.randn(1, rows, INPUTS), h, c, torch.arange(rows) % 8
