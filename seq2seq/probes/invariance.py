"""Invariances: transformations of weights and data that leave a layer's output as it is.

Sources: Ba et al. 2016, table 1 (section 5.1), for batch and layer norm; Zhang & Sennrich 2019,
table 1, for rms norm. The tables have one summed input W x. A recurrent layer has two,
u = W_ih x_t and z = W_hh h_{t-1}:

- *weights*: W_ih and W_hh, each transformed by itself, if the terms are normalised apart. With
  joint terms the summed input is u + z: its matrix (W_ih W_hh) is transformed as a whole.
- *re-centring a matrix*: adding one vector to the weights of every unit. All units of a row shift
  by the same amount.
- *data*: the input x. With joint terms the state is part of the summed input too and does not
  scale, so re-scaling x is no invariance. Re-centring x under batch norm still is.
- a *training case*: a sentence. The output of the whole batch may not change.

Re-scaling by s is exact but for eps inside the root: N(s v) = s (v - mean) / sqrt(s^2 var + eps),
as if eps were eps / s^2. The relative change of N is at most eps / (2 var). Shifts are exact at
any eps, up to rounding.
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
"""Invariances by norm and by whether terms are joint; all other changes change the output."""
SCALE = 3.0
SEED = 10
LENGTH = 20
"""Number of time steps of the sequences."""
EPS = 1e-12
"""Negligible eps: the tables are about N(v) without it."""


def invariance(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield how much each transformation changes the output on real text.

    Measured on the encoder's first layer, forward direction, in double:

    - change: the largest change of an output over the outputs' root mean square, with eps 1e-12
    - change_eps: the same with the run's own eps
    - claimed: whether the papers' tables say that the output stays as it is
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
    """Return the largest change of an output over the outputs' root mean square.

    Of the first layer, forward direction; sentences (T, I). Batch norm normalises by the batch's
    own statistics.
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
    """Return the weight matrix of each summed input of the first layer, forward direction.

    A matrix is a list of the parameters that are its columns.
    """
    parameters = layer.cell_parameters("_l0")
    both = [parameters.weight_ih, parameters.weight_hh]
    return [both] if layer.joint else [[w] for w in both]


@torch.no_grad()
def change_weights(layer: RecurrentLayers, change: str) -> None:
    """Transform the weight matrix of every summed input, each by other numbers.

    Of the first layer, forward direction, in place.
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
    """Return sentences (T, I) with the data of all transformed, or of the first case alone."""
    if change == "data re-scaling":
        return [SCALE * s for s in sentences]
    if change == "data re-centring":
        shift = _random(sentences[0].size(1), SEED).to(sentences[0])
        return [s + shift for s in sentences]
    return [sentences[0] * SCALE, *sentences[1:]]


def _random(size: int, seed: int) -> Tensor:
    """Return a standard normal vector (size,), the same for the same seed."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
