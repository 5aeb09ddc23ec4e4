from functools import partial

import pytest
import torch
from torch import Tensor, nn

from seq2seq.model import Unset
from seq2seq.rnn import LSTM

SEVEN = 7.0


@pytest.mark.parametrize(
    "fill",
    [
        nn.init.uniform_,
        nn.init.zeros_,
        nn.init.ones_,
        nn.init.xavier_normal_,
        nn.init.kaiming_uniform_,
        partial(nn.init.constant_, val=2.0),
        lambda tensor: nn.init.normal_(tensor=tensor),
        lambda tensor: tensor.fill_(3.0),
        lambda tensor: tensor[0].zero_(),
    ],
)
def test_first_values_are_not_written(fill: partial[Tensor]) -> None:
    weight, chance = torch.full((4, 4), SEVEN), torch.get_rng_state()
    with Unset():
        fill(weight)
    assert (weight == SEVEN).all()
    assert torch.equal(torch.get_rng_state(), chance)
    fill(weight)
    assert not (weight == SEVEN).all()


def test_a_layer_has_its_shapes_and_types() -> None:
    with Unset():
        layer = LSTM(3, 4, norm="batch")
    expected = LSTM(3, 4, norm="batch").state_dict()
    found = layer.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
        k: (v.shape, v.dtype) for k, v in expected.items()
    }
