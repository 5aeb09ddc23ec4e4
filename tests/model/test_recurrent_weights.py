"""The spectral radius of W_hh, and by how much it stretches a state."""

import numpy as np
import pytest
import torch

from seq2seq.config import CellConfig, CellKind, ModelConfig
from seq2seq.model import Translator
from seq2seq.model.recurrent_weights import (
    gates,
    largest_singular_value,
    recurrent_weights,
    set_spectral_radius,
    spectral_radius,
)
from seq2seq.model.translator import Vocabulary
from seq2seq.rnn import NormConfig, NormKind


def radii(weight: torch.Tensor) -> list[float]:
    """Return the spectral radius of each gate, by NumPy."""
    found = weight.detach().double().numpy()
    return [
        max(abs(np.linalg.eigvals(gate))) for gate in np.split(found, len(found) // found.shape[1])
    ]


def test_radius_and_stretch_are_those_of_the_gates() -> None:
    weight = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    assert [spectral_radius(gate) for gate in gates(weight)] == pytest.approx(radii(weight))
    values = [np.linalg.svd(gate.double().numpy())[1].max() for gate in gates(weight)]
    assert largest_singular_value(weight) == pytest.approx(max(values))


def test_a_rotation_has_complex_eigenvalues_and_its_radius() -> None:
    rotation = 3 * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert spectral_radius(rotation) == pytest.approx(3)
    set_spectral_radius(rotation, 0.5)
    assert rotation.tolist() == [[0.0, -0.5], [0.5, 0.0]]


def test_a_matrix_without_eigenvalues_other_than_0_stays_as_it_is() -> None:
    nilpotent = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    set_spectral_radius(nilpotent, 2.0)
    assert nilpotent.tolist() == [[0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("norm", list(NormKind))
@pytest.mark.parametrize("cell", list(CellKind))
def test_every_recurrent_matrix_of_a_model_starts_with_the_radius(
    cell: CellKind, norm: NormKind
) -> None:
    def model(radius: float | None) -> Translator:
        torch.manual_seed(1)
        config = ModelConfig(
            embedding_size=4, hidden_size=8, decoder_layers=2, spectral_radius=radius
        )
        return Translator(config, NormConfig(norm), CellConfig(cell), Vocabulary(9, 9, False))

    scaled, plain = model(1.5), model(None)
    matrices = dict(recurrent_weights(scaled))
    assert len(matrices) == 4  # two directions of the encoder, two layers of the decoder
    for weight in matrices.values():
        assert radii(weight) == pytest.approx([1.5] * (weight.size(0) // weight.size(1)))
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, scaled.get_parameter(name)) == (name not in matrices)
