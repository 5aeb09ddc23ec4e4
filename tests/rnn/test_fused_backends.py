"""The choice of a backend: by name, or automatically."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_cases import X, needs_compiler, small
from oracles import config

from seq2seq.rnn import GRU, LSTM, RNN, reference
from seq2seq.rnn import backends as ops
from seq2seq.rnn.cpu import launch

pytestmark = needs_compiler
BEYOND = [
    (
        lambda backend: RNN(3, 4, norm=config("layer", terms="separate"), backend=backend),
        "norm.terms=separate",
    ),
    (
        lambda backend: GRU(3, 4, norm=config("layer", terms="joint"), backend=backend),
        "norm.terms=joint",
    ),
    (
        lambda backend: GRU(3, 4, norm=config("layer", terms="joint_all"), backend=backend),
        "norm.terms=joint_all",
    ),
    (
        lambda backend: GRU(3, 4, norm=config("layer", group="gate"), backend=backend),
        "norm.group=gate",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("layer", terms="joint"), backend=backend),
        "norm.terms=joint",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("layer", cell="carried"), backend=backend),
        "norm.cell=carried",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("rms", cell="carried_only"), backend=backend),
        "norm.cell=carried_only",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("rms", group="gate"), backend=backend),
        "norm.group=gate",
    ),
    (
        lambda backend: LSTM(3, 4, dtype=torch.double, backend=backend),
        "parameters of torch.float64",
    ),
    (lambda backend: LSTM(3, 4, device="meta", backend=backend), "device meta"),
]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log of the backends, with nothing logged before."""
    ops.LOGGED.clear()
    caplog.set_level(logging.INFO, logger="seq2seq.rnn.backends")
    return caplog


@pytest.mark.parametrize(("make", "what"), BEYOND, ids=[what for _, what in BEYOND])
def test_backend_fused_raises_for_an_unsupported_case(make: Callable[..., Any], what: str) -> None:
    with pytest.raises(
        RuntimeError, match=f"backend='fused': the fused kernels do not support {what}"
    ):
        make("fused")


@pytest.mark.parametrize(("make", "what"), BEYOND[:-1], ids=[what for _, what in BEYOND[:-1]])
def test_auto_uses_the_reference_for_an_unsupported_case_and_logs_once(
    make: Callable[..., Any], what: str, logged: pytest.LogCaptureFixture
) -> None:
    layer = make("auto")
    x = torch.randn(2, 3, 3, dtype=layer.get_parameter("weight_hh_l0").dtype)
    assert layer(x)[0].grad_fn is not None
    layer(x)
    assert [r.getMessage() for r in logged.records] == [
        f"recurrent layers run in plain torch (backend=reference) for {what}"
    ]


def test_auto_uses_the_fused_kernels_and_logs_once(
    logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def noted(inputs: Any, layout: Any, states: Any, cells: Any, first_step: Any) -> Any:
        calls.extend(cells)
        return [
            reference.recurrence(x, layout, state, p, first_step)
            for x, state, p in zip(inputs, states, cells, strict=True)
        ]

    monkeypatch.setattr(launch, "recurrences", noted)
    for layer in (LSTM(3, 4), LSTM(3, 4, norm="none", bidirectional=True)):
        layer(X)
    assert len(calls) == 3
    assert [r.getMessage() for r in logged.records] == [
        "recurrent layers run in fused CPU kernels (backend=fused)"
    ]


def test_autocast_to_float16_raises() -> None:
    layer = small()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(RuntimeError, match=r"autocast to torch\.float16"),
    ):
        layer(X)


def test_backend_reference_uses_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("recurrence", "recurrences"):
        monkeypatch.setattr(launch, name, lambda *a: pytest.fail("fused"))
    LSTM(3, 4, backend="reference")(X)


def test_a_layer_moved_to_an_unsupported_type_raises() -> None:
    layer = small().double()
    with pytest.raises(RuntimeError, match=r"do not support parameters of torch\.float64"):
        layer(X.double())
