"""The checks of the benchmark on a GPU, with the kernels as Triton's interpreter runs them."""

import pytest
import torch
import triton_cases
from triton_cases import DEVICE, kernels_in_layers
from triton_cases import interpreted as interpreted  # the fixture of MARKS

from seq2seq.benchmark import gpu
from seq2seq.rnn.gpu import elementwise, rnn, self_check

pytestmark = triton_cases.MARKS


@pytest.mark.parametrize("right", [True, False])
def test_a_kind_of_kernels_is_checked(right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "KNOWN", {})
    monkeypatch.setattr(self_check, "SIZES", [3, 2])
    tanh = elementwise.tanh
    monkeypatch.setattr(rnn, "tanh", lambda x: tanh(x) if right else x)
    layer, low = gpu.kinds(3, torch.device(DEVICE))["kernels of RNN tanh, norm=layer"]
    with kernels_in_layers() as ran:
        failure = gpu.kernels_failure(layer, low)
    assert ran
    assert (failure is None) == right
    assert right or "the GPU kernels of rnn_tanh with layer norm" in str(failure)
