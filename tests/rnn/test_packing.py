"""Rows of packed sequences."""

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import Layout


@pytest.mark.parametrize("lengths", [[5, 4, 4, 1], [3, 3], [1, 1, 1], [7]], ids=str)
def test_each_sequence_is_flipped_separately(lengths: list[int]) -> None:
    sentences = [torch.randn(length, 2) for length in lengths]
    packed = pack_sequence(sentences)
    layout = Layout.of_packed(packed.batch_sizes)
    flipped = layout.flipped(packed.data)
    assert torch.equal(flipped, pack_sequence([s.flip(0) for s in sentences]).data)
    assert torch.equal(layout.flipped(flipped), packed.data)
