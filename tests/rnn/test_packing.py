"""Rows of packed sequences."""

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import flipped_rows


@pytest.mark.parametrize("lengths", [[5, 4, 4, 1], [3, 3], [1, 1, 1], [7]], ids=str)
def test_each_sequence_is_flipped_separately(lengths: list[int]) -> None:
    sentences = [torch.randn(length, 2) for length in lengths]
    packed = pack_sequence(sentences)
    order = flipped_rows(packed.batch_sizes.tolist(), torch.device("cpu"))
    assert torch.equal(packed.data[order], pack_sequence([s.flip(0) for s in sentences]).data)
    assert torch.equal(order[order], torch.arange(sum(lengths)))
