"""Batch norm of the input term over all steps at once, as the CPU's kernels do it."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import BATCH, needs_compiler
from torch import Tensor
from torch.library import opcheck

from seq2seq.rnn import LSTM, load_kernels

pytestmark = needs_compiler
EPS = 1e-5
SHAPES = [(5, 1), (5, 64), (300, 65), (1000, 200)]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    assert load_kernels()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def drawn(rows: int, features: int, dtype: torch.dtype, biased: bool) -> list[Tensor | None]:
    """Return u, gain and bias."""
    torch.manual_seed(0)
    u = (torch.randn(rows, features) * 2 + 5).to(dtype)
    return [u, torch.randn(features), torch.randn(features) if biased else None]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_results_and_gradients_are_those_in_double(
    shape: tuple[int, int], dtype: torch.dtype, biased: bool, own: bool
) -> None:
    u, gain, bias = drawn(*shape, dtype, biased)
    assert u is not None
    assert gain is not None
    running = (None, None) if own else (torch.randn(shape[1]), torch.rand(shape[1]) + 0.5)
    y, mean, var = torch.ops.seq2seq.sequence_norm(u, gain, bias, *running, EPS)
    given = [t.double().requires_grad_() for t in (u, gain)]
    given += [] if bias is None else [bias.double().requires_grad_()]
    weight, shift = given[1], given[2] if biased else None
    others = [None if t is None else t.double() for t in running]
    expected = F.batch_norm(given[0], others[0], others[1], weight, shift, training=own, eps=EPS)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)
    if own:
        torch.testing.assert_close(mean.double(), u.double().mean(0), atol=1e-5, rtol=1e-5)
        exact = u.double().var(0, unbiased=False)
        torch.testing.assert_close(var.double(), exact, atol=1e-5, rtol=1e-5)
    else:
        assert len(mean) == len(var) == 0
    d = torch.randn(shape)
    expected.backward(d.double())
    used = (mean, var) if own else running
    found = torch.ops.seq2seq.sequence_norm_backward(d, u, gain, *used, own, EPS)
    for f, leaf in zip(found, given, strict=False):
        assert leaf.grad is not None
        near = (2e-2 if f.dtype is torch.bfloat16 else 1e-4) * float(leaf.grad.abs().max())
        torch.testing.assert_close(f.double(), leaf.grad, atol=near, rtol=0)


@pytest.mark.parametrize("own", [True, False])
def test_schema(own: bool) -> None:
    u, gain, bias = drawn(4, 3, torch.float32, True)
    running = (None, None) if own else (torch.zeros(3), torch.ones(3))
    checks = ("test_schema", "test_faketensor")
    opcheck(torch.ops.seq2seq.sequence_norm, (u, gain, bias, *running, EPS), test_utils=checks)
    given = (torch.ones(4, 3), u, gain, torch.zeros(3), torch.ones(3), own, EPS)
    opcheck(torch.ops.seq2seq.sequence_norm_backward, given, test_utils=checks)


def test_what_does_not_fit_is_refused() -> None:
    u, gain, bias = drawn(4, 3, torch.float32, True)
    norm = torch.ops.seq2seq.sequence_norm
    with pytest.raises(RuntimeError, match=r"expected u \(N, F\) with rows, got \[0, 3\]"):
        norm(torch.zeros(0, 3), gain, bias, None, None, EPS)
    with pytest.raises(RuntimeError, match="expected float vectors of 3 elements, got 2"):
        norm(u, gain, torch.zeros(2), None, None, EPS)
    with pytest.raises(RuntimeError, match="expected u of type Float or BFloat16, got Double"):
        norm(torch.zeros(4, 3).double(), gain, bias, None, None, EPS)
    with pytest.raises(RuntimeError, match="expected a mean with a variance"):
        norm(u, gain, bias, torch.zeros(3), None, EPS)
    backward = torch.ops.seq2seq.sequence_norm_backward
    with pytest.raises(RuntimeError, match=r"expected a gradient \[4, 3\], got \[4, 2\]"):
        backward(torch.zeros(4, 2), u, gain, torch.zeros(3), torch.ones(3), True, EPS)


@pytest.mark.parametrize("frozen", ["gain_ih_l0", "bias_ih_l0", "weight_ih_l0", "x"])
@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_need_no_gradient_of_all(frozen: str, training: bool) -> None:
    torch.manual_seed(0)
    layer = LSTM(3, 4, norm=BATCH["sequence_input"], backend="reference").train(training)
    x = torch.randn(5, 6, 3, requires_grad=frozen != "x")
    for name, p in layer.named_parameters():
        p.requires_grad_(name != frozen)
    leaves = [t for t in (x, *layer.parameters()) if t.requires_grad]

    def second() -> tuple[Tensor, ...]:
        first = torch.autograd.grad(layer(x)[0].square().sum(), leaves, create_graph=True)
        total = torch.stack([g.square().sum() for g in first]).sum()
        return torch.autograd.grad(total, leaves)

    expected = second()
    layer.backend = "fused"
    for f, e in zip(second(), expected, strict=True):
        torch.testing.assert_close(f, e, atol=1e-3, rtol=1e-3)
