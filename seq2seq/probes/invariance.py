"""What may be done to weights and data without changing the output: Ba et al. 2016, table 1
(section 5.1), for batch and layer norm, and Zhang & Sennrich 2019, table 1, for rms norm.

The tables speak of one summed input W x. The recurrent layers have two, u = W_ih x_t and z = W_hh
h_{t-1}:

- *weights* are W_ih, and for themselves W_hh, where the terms are normalised apart; with joint
  terms the summed input is u + z, whose weight matrix is (W_ih W_hh) and is transformed as a whole.
- *re-centring a matrix* adds one vector to the weights of every unit: it shifts all units of a row
  alike.
- *data* is the input x. With joint terms the state stands beside it in the summed input and doesn't
  scale along, so re-scaling x is no invariance; re-centring x under batch norm still is.
- a *training case* is a sentence, and what may not change is the whole batch's output.

Re-scaling by s is exact but for eps, which stands inside the root: N(s v) = s (v - mean) / sqrt(s^2
var + eps), as if eps were eps / s^2. The relative change of N is at most eps / (2 var). Shifts are
exact at any eps, up to rounding.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from ..rnn import NormKind, RecurrentLayers, batch_statistics
from .subject import Subject

CHANGES = (
    "matrix re-scaling",
    "matrix re-centring",
    "vector re-scaling",
    "data re-scaling",
    "data re-centring",
    "case re-scaling",
)
UNCHANGED = {
    ("none", False): set(),
    ("batch", False): {
        "matrix re-scaling",
        "vector re-scaling",
        "data re-scaling",
        "data re-centring",
    },
    ("layer", False): {
        "matrix re-scaling",
        "matrix re-centring",
        "data re-scaling",
        "case re-scaling",
    },
    ("rms", False): {"matrix re-scaling", "data re-scaling", "case re-scaling"},
    ("none", True): set(),
    ("batch", True): {"matrix re-scaling", "vector re-scaling", "data re-centring"},
    ("layer", True): {"matrix re-scaling", "matrix re-centring"},
    ("rms", True): {"matrix re-scaling"},
}
"""What changes nothing, by norm and whether terms are joint; everything else has to change the
output.
"""
SCALE = 3.0
SEED = 10
LENGTH = 20
"""Time steps of the sequences."""
EPS = 1e-12
"""So small that it does not count: the tables are about N(v) without it."""


def invariance(subject: Subject) -> Iterator[dict[str, Any]]:
    """Of the encoder's first layer, forward direction, on real text: how much each change changes
    the output.

    `change`: the largest change of an output over the outputs' root mean square, in double, eps
    1e-12; `change_eps`: with the run's own eps. `claimed`: whether the papers' tables say that
    nothing changes.
    """
    layer = subject.first_layer()
    sentences = list(subject.running_text(LENGTH).double().unbind(1))
    claimed = UNCHANGED[layer.norm.kind.value, layer.joint]
    for change in CHANGES:
        yield {
            "transformation": change,
            "claimed": change in claimed,
            "change": relative_change(layer, sentences, change, EPS),
            "change_eps": relative_change(layer, sentences, change, layer.norm.eps),
        }


def relative_change(
    layer: RecurrentLayers, sentences: list[Tensor], change: str, eps: float
) -> float:
    """Largest change of an output (of the first layer, forward) over the outputs' root mean square.

    Batch norm normalises by the batch's own statistics.
    """
    layer = copy.deepcopy(layer).double()
    if layer.norm.kind is not NormKind.none:
        layer.norm = replace(layer.norm, eps=eps)
    before = _outputs(layer, sentences)
    if change.startswith(("data", "case")):
        sentences = changed_data(sentences, change)
    else:
        change_weights(layer, change)
    return (
        (_outputs(layer, sentences) - before).abs().max() / before.square().mean().sqrt()
    ).item()


@torch.no_grad()
def _outputs(layer: RecurrentLayers, sentences: list[Tensor]) -> Tensor:
    with batch_statistics(layer):
        output, _ = layer(pack_sequence(sentences, enforce_sorted=False))
    rows: Tensor = output.data
    return rows[:, : layer.hidden_size]


def weight_matrices(layer: RecurrentLayers) -> list[list[Tensor]]:
    """The matrices of the first layer's summed inputs, forward: of each, the parameters that stand
    side by side.
    """
    parameters = layer.cell_parameters("_l0")
    both = [parameters.weight_ih, parameters.weight_hh]
    return [both] if layer.joint else [[w] for w in both]


@torch.no_grad()
def change_weights(layer: RecurrentLayers, change: str) -> None:
    """Transform the weight matrices of every summed input of the first layer, forward, each in its
    own way.
    """
    for i, matrix in enumerate(weight_matrices(layer)):
        for j, w in enumerate(matrix):
            if change == "matrix re-scaling":
                w.mul_(SCALE + i)
            elif change == "matrix re-centring":
                w.add_(_random(w.size(1), SEED + i + 2 * j).to(w))
            else:
                w[1].mul_(SCALE + i)  # the weights of one unit


def changed_data(sentences: list[Tensor], change: str) -> list[Tensor]:
    """The sentences, each (T, I), with their inputs transformed: all of them, or the first
    alone.
    """
    if change == "data re-scaling":
        return [SCALE * s for s in sentences]
    if change == "data re-centring":
        shift = _random(sentences[0].size(1), SEED).to(sentences[0])
        return [s + shift for s in sentences]
    return [sentences[0] * SCALE, *sentences[1:]]


def _random(size: int, seed: int) -> Tensor:
    """A normal vector, the same at each call."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
