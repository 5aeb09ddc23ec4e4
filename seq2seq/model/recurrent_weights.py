"""The recurrent matrices W_hh of a model, and how far they stretch a state."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def recurrent_weights(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the name and value of each W_hh (gates * H, H) of a module."""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2].startswith("weight_hh"):
            yield name, parameter


def gates(weight: Tensor) -> tuple[Tensor, ...]:
    """Return the matrices (H, H) of the gates of W_hh (gates * H, H)."""
    found: tuple[Tensor, ...] = weight.split(weight.size(1))
    return found


def spectral_radius(matrix: Tensor) -> float:
    """Return the largest absolute value of the eigenvalues of a matrix (H, H)."""
    values: Tensor = torch.linalg.eigvals(matrix.detach().cpu().double())
    return values.abs().max().item()


def largest_singular_value(weight: Tensor) -> float:
    """Return by how much W_hh (gates * H, H) stretches a state at most, in any of its gates."""
    stretched = [torch.linalg.matrix_norm(gate, 2) for gate in gates(weight.detach().double())]
    return torch.stack(stretched).max().item()


@torch.no_grad()
def set_spectral_radius(weight: Tensor, radius: float) -> None:
    """Multiply the matrix of each gate of W_hh by one number, so that it has this radius.

    A matrix whose eigenvalues are all 0 stays as it is.
    """
    for gate in gates(weight):
        if (found := spectral_radius(gate)) > 0:
            gate.mul_(radius / found)
