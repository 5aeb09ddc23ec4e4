"""The single-step cells as modules: arguments, errors, contexts, copies, compilation, documentation."""

import copy
import doctest
import inspect
import pickle
import re
from collections.abc import Callable
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
    is_batch,
    layer_like,
    state_of,
    x_of,
)
from kernel_cases import needs_compiler
from oracles import config, parts
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.utils import parametrizations, prune

from seq2seq.rnn import (
    GRUCell,
    Layout,
    LSTMCell,
    RecurrentCell,
    RNNCell,
    batch_norm_layers,
    batch_statistics,
    is_norm_parameter,
    pooled_statistics,
    recalibrating,
    steps,
)

MODULES = {"LSTMCell": LSTMCell, "GRUCell": GRUCell, "RNNCell": RNNCell}
BATCH = [name for name, norm in NORMS.items() if is_batch(norm)]


# -- arguments ---


@pytest.mark.parametrize("name", MODULES)
def test_positional_arguments_are_those_of_torch(name: str) -> None:
    ours, theirs = MODULES[name], getattr(nn, name)
    expected = list(inspect.signature(theirs).parameters)
    found = inspect.signature(ours).parameters
    assert list(found) == [*expected, "norm", "backend"]
    assert all(found[n].kind is inspect.Parameter.KEYWORD_ONLY for n in ("norm", "backend"))
    values = {
        "input_size": 3,
        "hidden_size": 4,
        "bias": False,
        "nonlinearity": "relu",
        "device": "cpu",
        "dtype": torch.double,
    }
    cell = ours(*(values[n] for n in expected))
    assert {n: getattr(cell, n) for n in expected[:-2]} == {n: values[n] for n in expected[:-2]}
    assert cell.get_parameter("weight_ih").dtype is torch.double
    assert repr(cell).replace(", norm=layer", "") == repr(theirs(*(values[n] for n in expected)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_device_and_dtype_apply_to_all_tensors(cell: str, norm: str) -> None:
    tensors = cell_of(cell, norm, device="meta", dtype=torch.double).state_dict()
    assert all(t.device.type == "meta" for t in tensors.values())
    assert {t.dtype for t in tensors.values()} <= {torch.double, torch.long}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_parameters_and_statistics_are_those_of_the_layer(cell: str, norm: str) -> None:
    ours = cell_of(cell, norm)
    layer = layer_like(ours, cell)
    assert [f"{name}_l0" for name in ours.state_dict()] == list(layer.state_dict())
    ours.reset_norm()
    layer.reset_norm()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, layer.state_dict()[f"{name}_l0"]), name
        assert is_norm_parameter(name) == is_norm_parameter(f"{name}_l0")


# -- errors ---


ZEROS = torch.zeros(2, 4)
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: LSTMCell(0, 4), r"input_size=0: expected at least 1"),
    (lambda: GRUCell(3, 0), r"hidden_size=0: expected at least 1"),
    (lambda: RNNCell(3, 4, nonlinearity="gelu"), r"nonlinearity='gelu': expected 'tanh' or 'relu'"),
    (lambda: LSTMCell(3, 4, norm="group"), r"norm='group': expected one of none, batch, layer"),
    (lambda: LSTMCell(3, 4, backend="gpu"), r"backend='gpu': expected 'auto', 'reference' or"),
    (
        lambda: GRUCell(3, 4, norm=config("layer", cell="carried")),
        r"norm.cell=carried: a GRU has no cell state to normalise; expected output",
    ),
    (
        lambda: LSTMCell(3, 4, norm=config("layer", terms="joint_all")),
        r"norm.terms=joint_all: an LSTM has no n part; expected joint",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(1, 2, 3)),
        r"LSTMCell: Expected input to be 1D or 2D, got 3D instead",
    ),
    (lambda: RNNCell(3, 4)(torch.zeros(())), r"RNNCell: Expected input to be 1D or 2D, got 0D"),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 5)),
        r"input has inconsistent input_size: got 5 expected",
    ),
    (lambda: GRUCell(3, 4)(torch.zeros(5)), r"input has inconsistent input_size: got 5 expected 3"),
    (lambda: LSTMCell(3, 4)(torch.zeros(2, 3), ZEROS), r"hx has 1 tensors: expected h_0, c_0"),
    (lambda: LSTMCell(3, 4)(torch.zeros(2, 3), ()), r"hx has 0 tensors: expected h_0, c_0"),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 3), (ZEROS, ZEROS)),
        r"hx has 2 tensors: expected h_0",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3), (ZEROS, torch.zeros(3, 4))),
        r"c_0 has shape \(3, 4\): expected \(2, 4\); Input batch size 2 doesn't match hidden",
    ),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 5)),
        r"h_0 has shape \(2, 5\): expected \(2, 4\); hidden0 has inconsistent hidden_size: got 5,"
        r" expected 4",
    ),
    (
        lambda: GRUCell(3, 4)(torch.zeros(3), torch.zeros(1, 4)),
        r"h_0 has shape \(1, 4\): expected \(4,\)",
    ),
    (
        lambda: RNNCell(3, 4)(torch.zeros(2, 3), torch.zeros(1, 2, 4)),
        r"h_0 has shape .*: expected \(2, 4\); RNNCell: Expected hidden to be 1D or 2D, got 3D instead",
    ),
    (lambda: RNNCell(3, 4)(torch.zeros(2, 3), first_step=-1), r"first_step=-1: expected a time"),
    (
        lambda: LSTMCell(3, 4, norm="batch")(torch.zeros(2, 3), first_step=torch.tensor([1, 2])),
        r"first_step has a number for each sequence: .*expected an int, or eval mode",
    ),
    (
        lambda: LSTMCell(3, 4).eval()(torch.zeros(2, 3), first_step=torch.tensor([1])),
        r"first_step is torch.int64 of shape \(1,\): expected .* \(2,\), one for each sequence",
    ),
    (
        lambda: LSTMCell(3, 4, norm=config("batch", max_steps=2))(ZEROS[:, :3], first_step=2),
        r"input has 3 time steps, but batch norm keeps statistics for norm.max_steps=2",
    ),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_name_the_argument_the_value_and_what_was_expected(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", MODULES)
def test_what_torch_refuses_is_refused_in_its_words(name: str) -> None:
    ours, theirs = MODULES[name](3, 4), getattr(nn, name)(3, 4)
    for rows, features, shape in (
        (2, 5, (2, 4)),
        (2, 3, (3, 4)),
        (2, 3, (2, 5)),
        (2, 3, (1, 2, 4)),
    ):
        state = torch.zeros(shape)
        hx = (state, state) if name == "LSTMCell" else state
        with pytest.raises((RuntimeError, ValueError)) as expected:
            theirs(torch.zeros(rows, features), hx)
        with pytest.raises(ValueError, match=re.escape(str(expected.value))):
            ours(torch.zeros(rows, features), hx)


# -- batch norm's statistics ---


def trained(cell: str, norm: str) -> RecurrentCell:
    """Return a cell in eval mode, with statistics of five steps."""
    found = cell_of(cell, norm).double()
    for t in range(5):
        found(x_of(torch.double) * (t + 1), state_of(cell, torch.double), first_step=t)
    return found.eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_each_row_can_have_a_step_of_its_own(cell: str, norm: str) -> None:
    ours, at = trained(cell, norm), torch.tensor([0, 3, 1, 7, 4])
    x, hx = x_of(torch.double), state_of(cell, torch.double)
    found = parts(ours(x, hx, first_step=at))
    for row, step in enumerate(at.tolist()):
        alone = tuple(s[row] for s in parts(hx))
        for first_step in (step, at[row]):
            expected = ours(x[row], alone if len(alone) == 2 else alone[0], first_step=first_step)
            torch.testing.assert_close([s[row] for s in found], parts(expected))


@needs_compiler
@pytest.mark.parametrize("cell", STEP_CELLS)
@torch.no_grad()
def test_the_kernels_read_the_statistics_of_each_row(cell: str) -> None:
    ours, at = trained(cell, "batch").float(), torch.tensor([0, 3, 1, 7, 4])
    found = []
    for backend in ("fused", "reference"):
        ours.backend = backend
        found.append(parts(ours(x_of(), state_of(cell), first_step=at)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("norm", BATCH)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_batch_statistics_are_used_and_measured_again_as_those_of_the_layer(
    cell: str, norm: str
) -> None:
    model = nn.ModuleDict({"step": trained(cell, norm)})
    ours = model["step"]
    assert isinstance(ours, RecurrentCell)
    assert batch_norm_layers(model) == {"step": ours}
    layer = layer_like(ours, cell)
    both, hx = nn.ModuleList([ours, layer]), state_of(cell, torch.double)
    before = buffers_of(ours)
    with batch_statistics(both):
        found, expected = (m(2 * x_of(torch.double), hx) for m in (ours, as_cell(layer)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(buffers_of(ours), before, rtol=0, atol=0)
    with pooled_statistics(model) as pools:
        ours(x_of(torch.double), hx)
        assert set(pools["step"]) == set(ours.terms())
    with recalibrating(both):
        for t in range(3):
            x = x_of(torch.double) * (t + 2)
            ours(x, hx, first_step=t)
            as_cell(layer, t)(x, hx)
    torch.testing.assert_close(buffers_of(ours), buffers_of(layer), rtol=0, atol=0)
    assert any(not torch.equal(b, before[name]) for name, b in ours.named_buffers())


@pytest.mark.parametrize("norm", BATCH)
def test_without_h_0_the_recurrent_statistics_stay(norm: str) -> None:
    ours = cell_of("lstm", norm)
    before = buffers_of(ours)
    ours(x_of())
    changed = {name for name, b in ours.named_buffers() if not torch.equal(b, before[name])}
    assert {name.rpartition("_")[2] for name in changed} == {"ih", "c", "seen"}
    zeros = torch.zeros(ROWS, HIDDEN)
    ours(x_of(), (zeros, zeros))
    assert not torch.equal(ours.get_buffer("num_updates_hh"), before["num_updates_hh"])


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_without_batch_norm_no_h_0_is_an_h_0_of_zeros(cell: str, norm: str) -> None:
    ours, zeros = cell_of(cell, norm), torch.zeros(ROWS, HIDDEN)
    hx = (zeros, zeros) if cell == "lstm" else zeros
    torch.testing.assert_close(ours(x_of()), ours(x_of(), hx))


def test_a_step_can_be_observed() -> None:
    ours = cell_of("lstm", "layer")
    state = state_of("lstm")
    [step] = steps(x_of(), Layout.of_padded(1, ROWS), state, ours.cell_parameters(""))
    torch.testing.assert_close(step.state, ours(x_of(), state))
    assert step.summed.shape == (ROWS, 4 * HIDDEN)


# -- PyTorch ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_copies_compute_the_same(cell: str, norm: str) -> None:
    ours, x, hx = cell_of(cell, norm).eval(), x_of(), state_of(cell)
    expected = ours(x, hx)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(other(x, hx), expected, rtol=0, atol=0)
    fresh = STEP_CELLS[cell](INPUT, HIDDEN, norm=ours.norm).eval()
    fresh.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(fresh(x, hx), expected, rtol=0, atol=0)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_inference_gives_the_same(cell: str, norm: str, autocast: bool) -> None:
    ours, x, hx = cell_of(cell, norm).eval(), x_of(), state_of(cell)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = ours(x, hx)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = ours(x, hx)
            assert {s.dtype for s in parts(found)} == {torch.float32}
            tolerance = 2e-2 if autocast else 1e-5
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def looped(cell: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs of a loop."""
    state, outputs = None, []
    for t in range(x.size(0)):
        state = cell(x[t], state, first_step=t)
        outputs.append(parts(state)[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_a_loop_compiles_without_graph_breaks(cell: str, norm: str, backend: str) -> None:
    ours, x = cell_of(cell, norm, backend=backend), x_of(torch.float32, 3, ROWS, INPUT)
    torch.compiler.reset()
    compiled = torch.compile(looped, fullgraph=True, backend="aot_eager")
    found = []
    for function in (looped, compiled):
        ours.zero_grad()
        outputs = function(ours, x)
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(p.grad for p in ours.parameters())])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("cell", STEP_CELLS)
def test_parametrizations_act_as_on_the_cells_of_torch(cell: str) -> None:
    ours, theirs = cell_of(cell, "none"), TORCH_STEP_CELLS[cell](INPUT, HIDDEN)
    theirs.load_state_dict(ours.state_dict())
    for module in (ours, theirs):
        parametrizations.weight_norm(module, "weight_hh")
        prune.l1_unstructured(module, "weight_ih", 0.5)
    found, expected = (module(x_of(), state_of(cell)) for module in (ours, theirs))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_stacked_cells_run_in_one_call(norm: str) -> None:
    cells, x = [LSTMCell(INPUT, HIDDEN, norm=norm) for _ in range(3)], x_of()
    parameters, _ = stack_module_state(cells)
    found = torch.vmap(lambda p: functional_call(cells[0], p, (x,)))(parameters)
    expected = [torch.stack(states) for states in zip(*(c(x) for c in cells), strict=True)]
    torch.testing.assert_close(list(found), expected)


@needs_compiler
def test_a_named_backend_raises_if_it_cannot_serve() -> None:
    cell = LSTMCell(3, 4, backend="fused")
    assert cell(torch.zeros(2, 3))[0].shape == (2, 4)
    with pytest.raises(RuntimeError, match=r"do not support parameters of torch\.float64"):
        LSTMCell(3, 4, dtype=torch.double, backend="fused")


# -- documentation ---


@pytest.mark.parametrize("name", MODULES)
def test_the_example_of_each_cell_runs_as_shown(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    [test] = finder.find(MODULES[name], globs={"torch": torch, **MODULES})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_each_parameter_is_documented(name: str) -> None:
    for parameter, value in MODULES[name](3, 4, norm="layer").named_parameters():
        first = "IH"[value.size(1) == 4] if value.dim() == 2 else ""
        rows = value.size(0) // 4
        shape = ", ".join(filter(None, [f"{rows}H" if rows > 1 else "H", first]))
        assert f"{parameter} ({shape}{'' if first else ','})" in (MODULES[name].__doc__ or "")
