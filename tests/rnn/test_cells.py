"""LSTMCell, GRUCell and RNNCell compared with torch's cells and with our layers."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from cell_cases import (
    HIDDEN,
    INPUT,
    NORMS,
    ROWS,
    STEP_CELLS,
    TORCH_STEP_CELLS,
    as_cell,
    buffers_of,
    cell_of,
    layer_like,
    state_of,
    step_results,
    x_of,
)
from kernel_cases import apart, needs_compiler
from oracles import parts, randomised
from torch import Tensor, nn
from torch.func import functional_call

from seq2seq.rnn import RecurrentCell, packs, stepwise

DTYPES = {"float32": torch.float32, "float64": torch.float64}
needs_products = pytest.mark.skipif(
    not packs(torch.float32), reason="this CPU has no products of the kernels"
)


# -- torch's cells ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("rows", [ROWS, 1, None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_without_norm_everything_equals_torch(
    cell: str, dtype: str, bias: bool, rows: int | None, given: bool
) -> None:
    kind = DTYPES[dtype]
    ours = cell_of(cell, "none", bias=bias, dtype=kind)
    theirs = TORCH_STEP_CELLS[cell](INPUT, HIDDEN, bias=bias, dtype=kind)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = x_of(kind, *([INPUT] if rows is None else [rows, INPUT]))
    state = state_of(cell, kind, rows) if given else None
    expected = step_results(theirs, x, state)
    torch.testing.assert_close(step_results(ours, x, state), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_weights_load_both_ways(cell: str, bias: bool) -> None:
    torch.manual_seed(5)
    ours = STEP_CELLS[cell](INPUT, HIDDEN, bias, norm="none")
    torch.manual_seed(5)
    theirs = TORCH_STEP_CELLS[cell](INPUT, HIDDEN, bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])  # the initial values too
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert (ours.bias_ih is None) == (theirs.bias_ih is None) == (not bias)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_no_rows_have_the_results_of_torch(cell: str, norm: str) -> None:
    ours, theirs = cell_of(cell, norm), TORCH_STEP_CELLS[cell](INPUT, HIDDEN)
    before = buffers_of(ours)
    for state in (None, state_of(cell, rows=0)):
        found, expected = (
            step_results(module, torch.empty(0, INPUT), state) for module in (ours, theirs)
        )
        shared = {name: expected[name] for name in found if name in expected}
        torch.testing.assert_close({name: found[name] for name in shared}, shared)
    torch.testing.assert_close(buffers_of(ours), before, rtol=0, atol=0)


# -- our layers ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_a_step_is_that_of_the_layer(
    cell: str, norm: str, dtype: str, bias: bool, training: bool, given: bool
) -> None:
    kind = DTYPES[dtype]
    ours = cell_of(cell, norm, bias=bias, dtype=kind)
    for t in range(3):  # statistics of three steps
        ours(x_of(kind) + t, state_of(cell, kind), first_step=t)
    ours.train(training)
    layer, state = layer_like(ours, cell), state_of(cell, kind) if given else None
    for t in (2, 3, 5):
        found = step_results(ours, x_of(kind), state, lambda x, hx, t=t: ours(x, hx, first_step=t))
        expected = step_results(layer, x_of(kind), state, as_cell(layer, t))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(buffers_of(ours), buffers_of(layer), rtol=0, atol=0)


def loop(cell: RecurrentCell, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Return the outputs (T, B, H) of a loop, and the state after it."""
    outputs = []
    for t, x_t in enumerate(x):
        state = cell(x_t, state, first_step=t)
        outputs.append(parts(state)[0])
    return torch.stack(outputs), state


def loop_results(
    cell: RecurrentCell, state: Any, shared: bool, bf16: bool = False
) -> dict[str, Tensor]:
    """Return the outputs, gradients and buffers of a loop of six steps."""
    x = x_of(torch.float32, 6, ROWS, INPUT).requires_grad_()
    cell.zero_grad()
    sharing = stepwise([cell], [ROWS] * 6) if shared else nullcontext()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), sharing:
        outputs, last = loop(cell, x, state)
    return collected(cell, x, outputs, last)


def collected(module: nn.Module, x: Tensor, outputs: Tensor, last: Any) -> dict[str, Tensor]:
    """Return outputs, gradients from random upstream ones, and buffers."""
    values = [outputs, *parts(last)]
    generator = torch.Generator().manual_seed(8)
    torch.autograd.backward(values, [torch.randn(v.shape, generator=generator) for v in values])
    found = {"outputs": outputs.detach(), "x": x.grad} | buffers_of(module)
    found |= {f"d {name.removesuffix('_l0')}": p.grad for name, p in module.named_parameters()}
    return {name: t for name, t in found.items() if t is not None}


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "stepwise"])
@pytest.mark.parametrize("norm", ["none", "layer", "rms", "batch"])
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_a_loop_has_the_outputs_gradients_and_statistics_of_the_layer(
    cell: str, norm: str, shared: bool
) -> None:
    ours = cell_of(cell, norm)
    layer, x = layer_like(ours, cell), x_of(torch.float32, 6, ROWS, INPUT).requires_grad_()
    outputs, last = layer(x)
    last = tuple(s[0] for s in parts(last))
    found = loop_results(ours, None, shared)
    distances = apart(found, collected(layer, x, outputs, last))
    assert {name: d for name, d in distances.items() if d > 3e-4} == {}


@needs_compiler
@needs_products
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_stepwise_packs_the_weights_of_a_cell_and_changes_nothing(cell: str, norm: str) -> None:
    ours = cell_of(cell, norm)
    other, state = copy.deepcopy(ours), state_of(cell)
    with stepwise([ours], [ROWS]):
        assert list(ours._steps) == [""]
    assert ours._steps == {}
    distances = apart(loop_results(ours, state, True), loop_results(other, state, False))
    assert {name: d for name, d in distances.items() if d > 3e-4} == {}


@needs_compiler
@needs_products
@pytest.mark.parametrize("norm", ["none", "layer", "rms", "batch"])
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_under_bfloat16_a_loop_is_as_near_to_float32_as_the_layer(cell: str, norm: str) -> None:
    ours = cell_of(cell, norm)
    layer, x = layer_like(ours, cell), x_of(torch.float32, 6, ROWS, INPUT).requires_grad_()
    exact = loop_results(copy.deepcopy(ours), None, False)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, last = layer(x)
    of_layer = apart(collected(layer, x, outputs, tuple(s[0] for s in parts(last))), exact)
    assert max(of_layer.values()) > 1e-3  # bfloat16 it is
    for shared in (False, True):
        found = apart(loop_results(copy.deepcopy(ours), None, shared, bf16=True), exact)
        assert {name: d for name, d in found.items() if d > 2 * of_layer[name] + 0.01} == {}


def test_calls_of_a_loop_are_checked() -> None:
    cell = cell_of("lstm", "layer", backend="auto")
    with stepwise([cell], [ROWS, 3]):  # fewer rows later
        state = cell(x_of())
        h, _ = cell(x_of()[:3], tuple(s[:3] for s in state), first_step=1)
    assert h.shape == (3, HIDDEN)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_gradients_agree_with_finite_differences(cell: str, norm: str) -> None:
    ours = randomised(STEP_CELLS[cell](2, 3, norm=NORMS[norm]))
    names = [name for name, _ in ours.named_parameters()]
    x, *state = x_of(torch.double, 4, 2), *parts(state_of(cell, torch.double, 4))
    state = [s[:, :3].contiguous() for s in state]
    leaves = [t.detach().clone().requires_grad_() for t in (x, *state, *ours.parameters())]

    def f(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        hx = others[: len(state)]
        weights = dict(zip(names, others[len(state) :], strict=True))
        found = functional_call(ours, weights, (x, hx if len(hx) == 2 else hx[0]))
        return tuple(parts(found))

    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)
