"""Loops over time steps: the same results with each weight packed and differentiated once."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from kernel_cases import NORMS, apart, needs_compiler
from oracles import CELLS, config
from torch import Tensor

from seq2seq.rnn import RecurrentLayers, packs, stepwise

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not packs(torch.float32), reason="this CPU has no products of the kernels"),
]

SIZES = [7, 7, 5, 2]
"""Rows of each step."""
INPUT, HIDDEN = 6, 10


def layer_of(cell: str, norm: Any, backend: str = "fused", **options: Any) -> RecurrentLayers:
    torch.manual_seed(3)
    layer = CELLS[cell](INPUT, HIDDEN, norm=norm, backend=backend, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith(("gain", "bias_c")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def first_state(layer: RecurrentLayers) -> Any:
    shape = (layer.num_layers * layer.num_directions, SIZES[0], HIDDEN)
    h = torch.randn(shape, requires_grad=True)
    return (h, torch.randn(shape, requires_grad=True)) if layer.cell == "lstm" else h


def loop(layer: RecurrentLayers, x: Tensor, hx: Any) -> Tensor:
    """Feed each step's output (R, D * H) into the next one, as input feeding does."""
    outputs, feed = [], x.new_zeros(SIZES[0], 1)
    for t, rows in enumerate(x.split(SIZES)):
        size = len(rows)
        if hx is not None:
            hx = tuple(s[:, :size] for s in hx) if layer.cell == "lstm" else hx[:, :size]
        inputs = rows + feed[:size]
        output, hx = layer(inputs[None], hx, first_step=t)
        outputs.append(output[0])
        feed = output[0].sum(1, keepdim=True)
    return torch.cat(outputs)


@contextmanager
def by_steps(layer: RecurrentLayers, shared: bool) -> Iterator[None]:
    with stepwise([layer], SIZES) if shared else nullcontext():
        yield


def gradients(
    layer: RecurrentLayers, shared: bool, given: bool = True, bf16: bool = False
) -> dict[str, Tensor]:
    """Return output, gradients and buffers of a loop."""
    torch.manual_seed(4)
    layer.train().zero_grad()
    x = torch.randn(sum(SIZES), INPUT, requires_grad=True)
    hx = first_state(layer) if given else None
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), by_steps(layer, shared):
        output = loop(layer, x, hx)
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()
    found = {"output": output.detach(), "x": x.grad}
    for i, state in enumerate(hx if isinstance(hx, tuple) else [hx] if given else []):
        found[f"state {i}"] = state.grad
    found |= {name: p.grad for name, p in layer.named_parameters()}
    found |= {name: b.clone() for name, b in layer.named_buffers()}
    return {name: t for name, t in found.items() if t is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert {name: d for name, d in apart(found, expected).items() if d > tolerance} == {}


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("norm", [*NORMS, "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_has_the_results_of_single_calls(cell: str, norm: str, given: bool) -> None:
    alone = gradients(layer_of(cell, norm), False, given)
    assert_same(gradients(layer_of(cell, norm), True, given), alone, 3e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_in_bfloat16_it_is_as_near_to_float32_as_single_calls_are(cell: str, norm: str) -> None:
    exact = gradients(layer_of(cell, norm), False)
    alone, shared = (
        apart(gradients(layer_of(cell, norm), is_shared, bf16=True), exact)
        for is_shared in (False, True)
    )
    assert max(alone.values()) > 1e-3  # bfloat16 it is
    assert {name: d for name, d in shared.items() if d > 2 * alone[name] + 0.01} == {}


def test_layers_and_directions_have_the_results_of_single_calls() -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "bias": False}
    alone = gradients(layer_of("lstm", "layer", **options), False)
    assert_same(gradients(layer_of("lstm", "layer", **options), True), alone, 3e-4)


@pytest.mark.parametrize("statistics", ["shared", "sequence_input"])
@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
def test_kinds_of_batch_statistics_have_the_results_of_single_calls(
    cell: str, statistics: str
) -> None:
    norm = config("batch", statistics=statistics)
    alone = gradients(layer_of(cell, norm), False)
    assert_same(gradients(layer_of(cell, norm), True), alone, 3e-4)


def test_what_the_kernels_do_not_support_runs_as_it_did() -> None:
    layer = layer_of("lstm", "layer", "reference")
    alone = gradients(layer, False)
    with stepwise([layer], SIZES):
        assert layer._steps == {}
    assert_same(gradients(layer, True), alone, 1e-9)


def test_without_gradients_nothing_is_prepared() -> None:
    layer = layer_of("lstm", "layer")
    with torch.no_grad(), stepwise([layer], SIZES):
        assert layer._steps == {}


def test_afterwards_the_layer_is_as_before() -> None:
    layer = layer_of("lstm", "layer")
    x = torch.randn(3, 2, INPUT)
    before = layer(x)[0]
    gradients(layer, True)
    assert torch.equal(layer(x)[0], before)


def test_a_second_backward_pass_adds_the_same_gradient() -> None:
    layer = layer_of("lstm", "layer")
    x = torch.randn(sum(SIZES), INPUT, requires_grad=True)
    with stepwise([layer], SIZES):
        total = loop(layer, x, first_state(layer)).sum()
    total.backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    torch.autograd.grad(total, x, retain_graph=True)  # leaves nothing behind
    total.backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, 2 * once[name])


def test_a_weight_that_changes_before_the_backward_pass_is_an_error() -> None:
    layer = layer_of("lstm", "layer")
    x = torch.randn(sum(SIZES), INPUT, requires_grad=True)
    with stepwise([layer], SIZES):
        total = loop(layer, x, first_state(layer)).sum()
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation since `stepwise`"):
        total.backward()


def test_a_loop_has_no_second_derivatives_and_says_so() -> None:
    layer = layer_of("lstm", "layer")
    x = torch.randn(sum(SIZES), INPUT, requires_grad=True)
    with stepwise([layer], SIZES):
        total = loop(layer, x, first_state(layer)).square().sum()
    [gradient] = torch.autograd.grad(total, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_a_part_of_the_outputs_has_its_own_gradient() -> None:
    layer = layer_of("lstm", "none")
    x = torch.randn(sum(SIZES), INPUT)
    found = []
    for shared in (False, True):
        layer.zero_grad()
        with by_steps(layer, shared):
            loop(layer, x, None)[:3].sum().backward()
        found.append({name: p.grad for name, p in layer.named_parameters() if p.grad is not None})
    assert_same({k: v for k, v in found[1].items() if k in found[0]}, found[0], 1e-5)
    assert all(not v.any() for k, v in found[1].items() if k not in found[0])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(7, INPUT), (5, INPUT)], r"the input of step 1 has shape \(5, 6\): expected \(7, 6\)"),
        ([(7, INPUT)], "1 steps of a loop over 2 have run: expected all of them, or none"),
        ([(7, INPUT)] * 3, "step 2 of a loop over 2 steps: expected no more calls"),
    ],
)
def test_other_calls_than_the_loop_has_are_refused(
    shapes: list[tuple[int, int]], message: str
) -> None:
    layer = layer_of("gru", "layer")

    def calls() -> None:
        with stepwise([layer], [7, 7]):
            for shape in shapes:
                layer(torch.randn(shape)[None])

    with pytest.raises(ValueError, match=message):
        calls()
    assert layer._steps == {}


def test_several_steps_in_a_call_are_refused() -> None:
    layer = layer_of("gru", "layer")
    message = "2 steps in a call within `stepwise`: expected one"
    with pytest.raises(ValueError, match=message), stepwise([layer], [4]):
        layer(torch.randn(2, 2, INPUT))


def test_a_double_input_is_refused_as_in_a_single_call() -> None:
    layer, x = layer_of("gru", "layer"), torch.randn(1, 2, INPUT, dtype=torch.double)
    message = r"input dtype \(torch\.float64\) does not match weight dtype \(torch\.float32\)"
    for sizes in ([2], []):
        with pytest.raises(ValueError, match=message), stepwise([layer] if sizes else [], sizes):
            layer(x)


U, STATE = torch.zeros(2, 4 * HIDDEN), torch.zeros(2, HIDDEN)
VECTORS = torch.zeros(14 * HIDDEN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": torch.zeros(2, 7)}, r"expected u \(R, 4 \* H\), got \[2, 7\]"),
        ({"z": torch.zeros(1, 4 * HIDDEN)}, r"expected z \[2, 40\], got \[1, 40\]"),
        ({"h": torch.zeros(2, 3)}, r"expected float states \(2, 10\), got \[2, 3\]"),
        ({"c": STATE.double()}, r"expected float states \(2, 10\), got \[2, 10\] of type Double"),
        ({"vectors": torch.zeros(3)}, "expected float vectors of 140 elements, got 3"),
        (
            {"cell": "mlp"},
            "cell=mlp: expected lstm, lstm_plain_cell, gru, "
            "rnn_tanh(, rnn_relu, separate_rnn_tanh)? or (separate_)?rnn_relu",
        ),
        ({"u": U.double(), "z": None}, "expected products in float or bfloat16, got Double"),
    ],
    ids=str,
)
def test_the_operators_check_what_they_are_given(changes: dict[str, Any], message: str) -> None:
    layer_of("lstm", "layer")  # loads the operators
    given = {"u": U, "z": U, "h": STATE, "c": STATE, "vectors": VECTORS, "cell": "lstm"} | changes
    *tensors, cell = given.values()
    with pytest.raises(RuntimeError, match=message):
        torch.ops.seq2seq.cell_step(*tensors, cell, "layer", 1e-5, True)
    statistics = torch.zeros(1, 9 * HIDDEN)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.seq2seq.batch_norm_step(*tensors, statistics, statistics, True, cell, 1e-5, True)


def test_statistics_of_another_size_are_refused() -> None:
    layer_of("lstm", "batch")
    with pytest.raises(RuntimeError, match=r"expected float statistics \(1, 90\), got \[2, 90\]"):
        torch.ops.seq2seq.batch_norm_step(
            U, U, STATE, STATE, VECTORS, *[torch.zeros(2, 90)] * 2, True, "lstm", 1e-5, True
        )


def test_a_backward_pass_needs_what_was_saved() -> None:
    layer_of("lstm", "layer")
    tensors = (U, U, STATE, STATE, VECTORS)
    kept = torch.ops.seq2seq.cell_step(*tensors, "lstm", "layer", 1e-5, False)
    with pytest.raises(RuntimeError, match="expected what cell_step returned with save=true"):
        torch.ops.seq2seq.cell_step_backward(STATE, None, *tensors, *kept, "lstm", "layer")


@pytest.mark.parametrize("part", ["ih", "hh"])
def test_nothing_of_a_loop_stays_in_memory_after_it(part: str) -> None:
    layer = layer_of("lstm", config("none"))
    with stepwise([layer], SIZES):
        shared = weakref.ref(getattr(layer._steps["_l0"], part))
        loop(layer, torch.randn(sum(SIZES), INPUT), None).sum().backward()
    assert shared() is None


@pytest.mark.parametrize("cell", CELLS)
def test_an_input_that_is_written_again_is_an_error(cell: str) -> None:
    """As without `stepwise`: its gradient of the weight would be that of other inputs."""
    layer, buffer, hx, outputs = layer_of(cell, "layer"), torch.empty(1, 7, INPUT), None, []
    with stepwise([layer], [7] * 3):
        for t in range(3):
            output, hx = layer(buffer.copy_(torch.randn(1, 7, INPUT)), hx, first_step=t)
            outputs.append(output)
    with pytest.raises(RuntimeError, match="modified by an inplace operation: expected a tensor"):
        torch.cat(outputs).sum().backward()


def test_a_backward_pass_within_the_loop_is_an_error() -> None:
    layer = layer_of("lstm", "none")

    def early() -> None:
        with stepwise([layer], [7] * 3):
            layer(torch.randn(1, 7, INPUT))[0].sum().backward()

    with pytest.raises(RuntimeError, match="after 1 steps of `stepwise`: expected it after the la"):
        early()
