"""The self-check of the GPU kernels: when it runs, what it says, and that it disturbs nothing.

Here CPU tensors count as those of a GPU, and functions in plain torch are the kernels.
"""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_cases import needs_compiler
from oracles import CELLS, config
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from seq2seq.rnn import LSTM, RecurrentLayers, backends, gpu, reference
from seq2seq.rnn.cpu import launch, operators
from seq2seq.rnn.gpu import self_check

pytestmark = needs_compiler
X = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
Run = Callable[..., Any]


class Kernels:
    """The kernels of a GPU, in place of Triton's; they note in which state of PyTorch they run."""

    def __init__(self) -> None:
        self.run: Run = reference.recurrence
        self.calls: list[dict[str, bool]] = []

    def recurrence(self, *args: Any) -> Any:
        self.calls.append(
            {
                "gradients": torch.is_grad_enabled(),
                "inference": torch.is_inference_mode_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
            }
        )
        return self.run(*args)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Let CPU tensors count as those of a GPU; nothing is known of the kernels."""
    made = Kernels()
    monkeypatch.setattr(gpu, "is_gpu", lambda device: device.type == "cpu")
    monkeypatch.setattr(operators, "gpu_failure", lambda: None)
    monkeypatch.setattr(backends, "eager_on_cpu", lambda *_: False)
    monkeypatch.setattr(launch, "recurrence", made.recurrence)
    monkeypatch.setattr(self_check, "KNOWN", {})
    monkeypatch.setattr(backends, "LOGGED", set())
    return made


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings of the backends."""
    caplog.set_level(logging.INFO, logger="seq2seq.rnn.backends")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def wrong(*args: Any) -> Any:
    output, last = reference.recurrence(*args)
    return output * 1.01, last


def failing(*_: Any) -> Any:
    raise KeyError("PTXAS error: no kernel image\n  for sm_90")


def layer(**options: Any) -> LSTM:
    torch.manual_seed(0)
    return LSTM(3, 4, **{"norm": "layer", **options})


# -- what it finds ---


KINDS = [
    *itertools.product(CELLS, ["none", "layer", "rms", "batch"]),
    *itertools.product(["lstm", "gru"], ["sequence_input"]),
]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("cell", "norm"), KINDS)
def test_kernels_that_agree_serve_for_every_kind(
    cell: str, norm: str, autocast: bool, kernels: Kernels
) -> None:
    settings = config("batch", statistics=norm) if norm == "sequence_input" else norm
    made = CELLS[cell](3, 4, norm=settings, bias=norm != "rms")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        p = made.cell_parameters("_l0")
        assert self_check.failure(p) is None
        problems = 3 if made.norm.kind.value == "batch" else 2
        assert len(kernels.calls) == 2 * problems  # in training and in inference
        kernels.run = wrong
        assert self_check.failure(p) is None  # it is known
        with torch.no_grad():
            assert self_check.failure(p) is None  # this too
    assert len(kernels.calls) == 2 * problems
    assert len(self_check.KNOWN) == 2
    assert {call["autocast"] for call in kernels.calls} == {autocast}


def test_wrong_kernels_are_reported_once_and_the_reference_serves(
    kernels: Kernels, warned: Callable[[], list[str]]
) -> None:
    kernels.run = wrong
    ours = layer()
    expected = layer(backend="reference")(X)[0]
    for _ in range(2):
        assert torch.equal(ours(X)[0], expected)
    [message] = warned()
    assert message == (
        "recurrent layers run in plain torch (backend=reference), more slowly: the GPU kernels of"
        " lstm with layer norm, products in float32, H=4, training, on cpu, are wrong: output with"
        " an initial state is off by 0.01 of its largest element from backend=reference; allowed is"
        " 0.0001 (21 more results are off)"
    )
    checked = len(kernels.calls)
    with pytest.raises(RuntimeError) as raised:
        layer(backend="fused")
    assert str(raised.value) == message.replace(message.partition(": ")[0], "backend='fused'")
    assert len(kernels.calls) == checked


def test_kernels_that_raise_are_reported_once_and_the_reference_serves(
    kernels: Kernels, warned: Callable[[], list[str]]
) -> None:
    kernels.run = failing
    ours = layer(norm="batch")
    for _ in range(2):
        assert torch.isfinite(ours(X)[0]).all()
    assert len(kernels.calls) == 1
    words = (
        "the GPU kernels of lstm with batch norm, products in float32, H=4, training, on cpu fail:"
        " KeyError: 'PTXAS error: no kernel image\\n for sm_90'"
    )
    assert warned() == [f"{backends.PLAIN}, more slowly: {words}"]
    with pytest.raises(RuntimeError, match="backend='fused': the GPU kernels of lstm with batch"):
        layer(norm="batch", backend="fused")


RECORDED = {"mean": "_means", "var": "_variances"}


@pytest.mark.parametrize(
    "name", ["output", "h_n", "c_n", "gradient of weight_hh", "running_mean_hh", "running_var_c"]
)
def test_each_quantity_is_compared(name: str, kernels: Kernels) -> None:
    def off(x: Tensor, layout: Any, state: Any, p: Any) -> Any:
        if name == "gradient of weight_hh":
            p.weight_hh = p.weight_hh + (0.1 * (p.weight_hh - p.weight_hh.detach()))
        output, (h_n, c_n) = reference.recurrence(x, layout, state, p)
        if name.startswith("running"):
            kind, term = name.split("_")[1:]
            recorded = getattr(getattr(p, term).statistics, RECORDED[kind])
            recorded[:] = [1.5 * numbers for numbers in recorded]
        found = {"output": output, "h_n": h_n, "c_n": c_n}
        if name in found:
            found[name] = found[name] + 0.01
        return found["output"], (found["h_n"], found["c_n"])

    kernels.run = off
    cause = self_check.failure(layer(norm="batch").cell_parameters("_l0"))
    assert cause is not None
    assert f"are wrong: {name} " in cause


@pytest.mark.parametrize("in_training", [True, False])
def test_kernels_of_training_and_of_inference_have_to_agree(
    in_training: bool, kernels: Kernels
) -> None:
    def half(*args: Any) -> Any:
        return (wrong if torch.is_grad_enabled() == in_training else reference.recurrence)(*args)

    kernels.run = half
    cause = self_check.failure(layer().cell_parameters("_l0"))
    assert cause is not None
    assert "are wrong: output with an initial state is off by 0.01 " in cause


def test_nan_counts_as_wrong(kernels: Kernels) -> None:
    kernels.run = lambda *args: (reference.recurrence(*args)[0] * float("nan"), wrong(*args)[1])
    cause = self_check.failure(layer().cell_parameters("_l0"))
    assert cause is not None
    assert "is off by inf of its largest element" in cause


def test_products_that_round_more_may_differ_more(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.run = lambda *args: (reference.recurrence(*args)[0] * 1.001, wrong(*args)[1])
    p = layer().cell_parameters("_l0")
    assert "allowed is 0.0001" in str(self_check.failure(p))
    self_check.KNOWN.clear()
    monkeypatch.setattr(self_check, "rounding", lambda kind: 2**-11)  # as with TF32
    assert self_check.failure(p) is None


def test_each_kind_is_checked_by_itself(kernels: Kernels) -> None:
    kernels.run = wrong
    for made in (layer(), layer(norm="rms"), LSTM(3, 5)):
        self_check.failure(made.cell_parameters("_l0"))
    with torch.no_grad():
        assert "inference" in str(self_check.failure(layer().cell_parameters("_l0")))
    assert len(self_check.KNOWN) == 4
    assert all(self_check.KNOWN.values())


def test_too_little_memory_is_no_answer(kernels: Kernels) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    kernels.run = full
    with pytest.raises(torch.OutOfMemoryError):
        layer()(X)
    kernels.run = reference.recurrence
    before = len(kernels.calls)
    assert torch.isfinite(layer()(X)[0]).all()
    assert len(kernels.calls) == before + 4 + 1  # checked, then run


# -- what it leaves alone ---


def test_nothing_of_the_caller_is_disturbed(kernels: Kernels) -> None:
    ours = layer()
    state = torch.get_rng_state()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: pytest.fail("saved"), lambda t: t):
        self_check.failure(ours.cell_parameters("_l0"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in ours.parameters())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ours(X)
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert not torch.is_grad_enabled()
    assert not any(call["inference"] for call in kernels.calls[:-1])  # the last one is the layer's
    assert kernels.calls[-1]["inference"]


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_running_statistics_of_the_layer_are_left_alone(norm: str, kernels: Kernels) -> None:
    ours = layer(norm=norm)
    before = {name: b.clone() for name, b in ours.named_buffers()}
    self_check.failure(ours.cell_parameters("_l0"))
    assert all(torch.equal(b, before[name]) for name, b in ours.named_buffers())


def test_a_first_call_within_checkpoint_has_the_same_gradients(kernels: Kernels) -> None:
    def gradients(ours: RecurrentLayers) -> list[Tensor]:
        checkpoint(lambda x: ours(x)[0], X, use_reentrant=False).sum().backward()
        return [p.grad for p in ours.parameters() if p.grad is not None]

    found, expected = gradients(layer()), gradients(layer(backend="reference"))
    assert kernels.calls
    assert all(map(torch.equal, found, expected))


# -- where it does not run ---


def test_traced_programs_take_the_reference_until_the_kind_is_known(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, expected = layer(), layer(backend="reference")(X)[0]
    torch._dynamo.reset()
    found = torch.compile(ours, backend="eager")(X)[0]
    torch.testing.assert_close(found, expected)
    assert kernels.calls == []
    assert self_check.KNOWN == {}
    ours(X)
    torch._dynamo.reset()
    monkeypatch.setattr(launch, "recurrence", wrong)  # what is traced now
    assert not torch.allclose(torch.compile(ours, backend="eager", fullgraph=True)(X)[0], expected)
    torch._dynamo.reset()


def test_a_captured_stream_takes_the_reference_until_the_kind_is_known(
    kernels: Kernels, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as capture:
        capture.setattr(torch.cuda, "is_initialized", lambda: True)
        capture.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        layer()(X)
        assert kernels.calls == []
        assert warned() == [f"{backends.PLAIN}, more slowly: {self_check.UNCHECKED}"]
        with pytest.raises(RuntimeError, match="backend='fused': the GPU kernels are not checked"):
            layer(backend="fused")
    layer()(X)
    assert len(kernels.calls) == 5


def test_fake_tensors_are_no_answer(kernels: Kernels) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        layer()(torch.zeros(3, 2, 3))
    assert kernels.calls == []
    assert self_check.KNOWN == {}
