"""The input term of a long sequence without gradients: made for some steps at a time."""

from typing import Any

import pytest
import torch
from kernel_cases import BATCH, FLOAT32, NORMS, distances, needs_compiler
from oracles import CELLS, parts
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import NormConfig, RecurrentLayers, frozen

PART_ROWS = 1024  # kPartRows of input_terms.h
LENGTHS: dict[str, list[int]] = {
    "equal": [700] * 3,
    "falling": [1500, 900, 600, 300, 40, 2, 1],
    "one": [2 * PART_ROWS],
    "wide": [2] * 1500,
    "below": [2 * PART_ROWS - 1],
}
SETTINGS: dict[str, str | NormConfig] = {**{norm: norm for norm in NORMS}, **BATCH}


def run(layer: RecurrentLayers, x: Any) -> dict[str, Tensor]:
    output, last = layer(x)
    return dict(zip("ohc", [output.data, *parts(last)], strict=False))


@needs_compiler
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("norm", SETTINGS)
@pytest.mark.parametrize("cell", CELLS)
def test_results_are_those_of_the_whole(cell: str, norm: str, lengths: str) -> None:
    torch.manual_seed(0)
    layer = CELLS[cell](3, 4, bidirectional=True, norm=SETTINGS[norm], backend="fused").eval()
    for p in layer.parameters():
        nn.init.normal_(p, 0.1, 0.4)
    x = pack_sequence([torch.randn(n, 3) for n in LENGTHS[lengths]])
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            whole = run(layer, x)  # with gradients
            with torch.no_grad():
                found = run(layer, x)
                with frozen(layer):
                    kept = run(layer, x)
        for some in (found, kept):
            apart = distances(some, {name: t.detach() for name, t in whole.items()})
            assert max(apart.values()) < FLOAT32, (low, apart)
