"""The self-check of the GPU kernels, as Triton's interpreter or a GPU runs them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton_cases
from kernel_cases import BATCH, PLAIN_CELL, SEPARATE, layer_of
from triton_cases import DEVICE, kernels_in_layers
from triton_cases import interpreted as interpreted  # the fixture of MARKS

from seq2seq.rnn import RNN, RecurrentLayers, backends, gpu
from seq2seq.rnn.cpu import operators
from seq2seq.rnn.gpu import elementwise, rnn, self_check

pytestmark = triton_cases.MARKS
PLACES = {
    **BATCH,
    "layer, plain cell": PLAIN_CELL["layer"],
    "plain cell": PLAIN_CELL["batch"],
    "separate": SEPARATE,
}
KINDS = [
    ("lstm", "layer", False),
    ("gru", "sequence_input", True),
    ("rnn_tanh", "layer", True),
    ("rnn_tanh", "per_step", False),
    ("rnn_relu", "none", False),
    ("lstm", "layer, plain cell", False),
    ("lstm", "plain cell", False),
    ("rnn_tanh", "separate", False),
]
"""The interpreter takes some seconds for an LSTM or a GRU."""
SLOW = [
    (cell, norm, autocast)
    for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    for norm in ("none", "layer", "rms", "per_step", "sequence_input")
    for autocast in (False, True)
    if (cell, norm, autocast) not in KINDS
]
SLOW += [("lstm", "layer, plain cell", True), ("lstm", "plain cell", True)]


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what is known of kernels; the interpreter takes a second for a few rows."""
    monkeypatch.setattr(self_check, "KNOWN", {})
    if DEVICE == "cpu":
        monkeypatch.setattr(self_check, "SIZES", [3, 2])
        monkeypatch.setattr(self_check, "MIN_ROWS", 3)


def checked(layer: RecurrentLayers, autocast: bool = False) -> str | None:
    """Return the answer about the kernels of a layer."""
    p = layer.float().to(DEVICE).cell_parameters("_l0")
    with kernels_in_layers() as ran, torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        found = self_check.failure(p)
    assert {name.removeprefix("batch_norm_") for name in ran} <= {
        "recurrence",
        "recurrence_backward",
    }
    assert ran
    return found


@pytest.mark.parametrize(
    ("cell", "norm", "autocast"),
    [*KINDS, *(pytest.param(*kind, marks=pytest.mark.slow) for kind in SLOW)],
)
def test_the_kernels_agree(cell: str, norm: str, autocast: bool) -> None:
    assert checked(layer_of(3, PLACES.get(norm, norm), cell), autocast) is None


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = elementwise.tanh
    monkeypatch.setattr(rnn, "tanh", lambda x: right(x) * 1.001)
    cause = checked(layer_of(3, "layer", "rnn_tanh"))
    assert cause is not None
    assert "rnn_tanh with layer norm" in cause
    assert "are wrong: output with an initial state is off by 0.00" in cause


def test_a_kernel_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rnn, "rows_forward", None)
    cause = checked(layer_of(3, "layer", "rnn_tanh"))
    assert cause is not None
    assert "fail: " in cause


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let tensors of the tests' device be those of a GPU; yield the operators that ran."""
    monkeypatch.setattr(gpu, "is_gpu", lambda device: True)
    monkeypatch.setattr(operators, "gpu_failure", lambda: None)
    with kernels_in_layers() as ran:
        yield ran


def test_a_layer_takes_the_kernels_after_their_check(as_on_a_gpu: list[str]) -> None:
    torch.manual_seed(0)
    layer = RNN(2, 3, norm="layer").to(DEVICE)
    x = torch.randn(2, 2, 2, device=DEVICE)
    with torch.no_grad():
        found = layer(x)[0]
        assert as_on_a_gpu == ["recurrence"] * 3  # two problems, and the call
        layer(x)
        assert as_on_a_gpu == ["recurrence"] * 4
        layer.backend = "reference"
        torch.testing.assert_close(found, layer(x)[0])


def test_a_layer_whose_kernel_is_wrong_takes_the_reference(
    as_on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "LOGGED", set())
    monkeypatch.setattr(rnn, "tanh", lambda x: x)
    layer: Any = RNN(2, 3, norm="layer").to(DEVICE)
    x = torch.randn(2, 2, 2, device=DEVICE)
    with torch.no_grad():
        found = layer(x)[0]
        layer.backend = "reference"
        assert torch.equal(found, layer(x)[0])
        layer.backend = "fused"
        with pytest.raises(RuntimeError, match="backend='fused': the GPU kernels of rnn_tanh"):
            layer(x)
    assert as_on_a_gpu == ["recurrence"] * 2
