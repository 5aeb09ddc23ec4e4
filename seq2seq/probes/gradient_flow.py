"""Sizes of the summed inputs of a recurrent layer and of the gradients through it, by time step.

Ba et al. 2016, section 3.1: "In a standard RNN, there is a tendency for the average magnitude of
the summed inputs to the recurrent units to either grow or shrink at every time-step, leading to
exploding or vanishing gradients".

Measured on the encoder's first layer, forward direction, for sequences of several lengths: real
text, sentence after sentence. The loss is a random projection of the last state, so the gradient
of h_t has passed through every later step.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..model.recurrent_weights import largest_singular_value
from ..rnn import Layout, RecurrentLayers, batch_statistics, steps
from .subject import Subject

SEED = 1
"""Seed of the projection: the same for every run."""


def gradient_flow(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield the sizes of sums and gradients by step, for each configured length.

    singular_value is the largest one of the matrices of W_hh: where it is below 1, the gradient of
    a plain cell without a norm must shrink at every step (Pascanu et al. 2013, section 2.1).
    """
    layer = subject.first_layer()
    stretch = largest_singular_value(layer.get_parameter("weight_hh_l0"))
    for length in subject.config.probe.lengths:
        found = flow(layer, subject.running_text(length))
        yield {"length": length, "singular_value": stretch, **found}


def flow(layer: RecurrentLayers, x: Tensor) -> dict[str, list[float]]:
    """Return sizes at each of the T steps of x (T, B, I) through one layer, forward.

    The initial state is zero; batch norm normalises by the batch's own statistics; all in double.
    Root mean squares over rows and features:

    - raw: the summed inputs u + z before any norm
    - summed: the summed inputs as they enter the gates
    - hidden: h_t

    Root mean squares over rows of the gradient's Euclidean norm:

    - gradient: of the loss with respect to h_t
    - gradient_c: of the loss with respect to c_t, for an LSTM

    The loss is sum(r * h_T) with standard normal r: the last gradient is about sqrt(H).
    """
    layer = copy.deepcopy(layer).double().requires_grad_(False)
    length, rows, _ = x.shape
    x = x.detach().double().requires_grad_(True)
    with batch_statistics(layer):
        parameters = layer.cell_parameters("_l0")
        found = list(steps(x.flatten(0, 1), Layout.of_padded(length, rows), None, parameters))
    states = [step.state for step in found]
    generator = torch.Generator().manual_seed(SEED)
    projection = torch.randn(states[-1][0].shape, generator=generator, dtype=torch.float64).to(
        x.device
    )
    gradients = torch.autograd.grad(
        (states[-1][0] * projection).sum(),
        [s for state in states for s in state],
        allow_unused=True,
    )
    width = len(states[0])
    sizes = {
        "raw": [_size(step.raw) for step in found],
        "summed": [_size(step.summed) for step in found],
        "hidden": [_size(h) for h, *_ in states],
        "gradient": [_norm(g) for g in gradients[::width]],
    }
    return sizes if width == 1 else sizes | {"gradient_c": [_norm(g) for g in gradients[1::width]]}


def _size(v: Tensor) -> float:
    """Return the root mean square over rows and features."""
    scale = v.abs().max()  # the square of a large double is not finite
    return 0.0 if scale == 0 else (scale * (v / scale).square().mean().sqrt()).item()


def _norm(gradient: Tensor | None) -> float:
    """Return the root mean square over rows (B, H) of their Euclidean norm; 0 for None."""
    return 0.0 if gradient is None else math.sqrt(gradient.size(1)) * _size(gradient)
