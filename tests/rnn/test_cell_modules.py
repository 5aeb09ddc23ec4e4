"""The single-step cells as modules of PyTorch: statistics, contexts, copies, compilation."""

import copy
import pickle

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
from combinations import few
from kernel_cases import needs_compiler
from oracles import parts
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call, stack_module_state
from torch.nn.utils import parametrizations, prune

from seq2seq.rnn import (
    Layout,
    LSTMCell,
    RecurrentCell,
    batch_norm_layers,
    batch_statistics,
    frozen,
    packs,
    pooled_statistics,
    recalibrating,
    steps,
)

BATCH = [name for name, norm in NORMS.items() if is_batch(norm)]


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


@needs_compiler
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
@torch.no_grad()
def test_weights_are_kept_within_a_scope_and_read_anew_outside(cell: str, norm: str) -> None:
    ours, x, hx = cell_of(cell, norm).eval(), x_of(), state_of(cell)
    before = ours(x, hx)
    with frozen(ours):
        for _ in range(2):
            torch.testing.assert_close(ours(x, hx), before, rtol=1e-5, atol=1e-6)
        if packs(torch.float32):
            assert list(ours.kept() or ()) == [""]
    assert ours.kept() is None
    ours.get_parameter("weight_hh").data[::3] += 1
    assert not torch.allclose(parts(ours(x, hx))[0], parts(before)[0], rtol=1e-3)


@pytest.mark.parametrize("norm", BATCH)
def test_update_bn_measures_the_statistics_of_a_cell(norm: str) -> None:
    ours = cell_of("gru", norm)
    expected = copy.deepcopy(ours).eval()
    batches = [(k + 1.0) * x_of() for k in range(3)]
    with recalibrating(expected):
        for x in batches:
            expected(x)
    torch.optim.swa_utils.update_bn(batches, ours)
    torch.testing.assert_close(buffers_of(ours), buffers_of(expected))


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


@few(
    {
        "cell": ["lstm", "gru", "rnn_tanh"],
        "norm": ["none", "layer", "batch"],
        "backend": ["reference", "auto"],
    }
)
def test_a_loop_compiles_without_graph_breaks(cell: str, norm: str, backend: str) -> None:
    ours, x = cell_of(cell, norm, backend=backend), x_of(torch.float32, 3, ROWS, INPUT)
    ours.train(norm != "batch")
    torch.compiler.reset()
    compiled = torch.compile(looped, fullgraph=True, backend="aot_eager")
    found = []
    for function in (looped, compiled):
        ours.zero_grad()
        outputs = function(ours, x)
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(p.grad for p in ours.parameters())])
    torch.testing.assert_close(*found)


@few({"cell": STEP_CELLS, "norm": NORMS, "given": [True, False]}, rounds=2)
@torch.no_grad()
def test_an_exported_cell_takes_any_rows_at_any_steps(cell: str, norm: str, given: bool) -> None:
    ours, at, rows = (
        trained(cell, norm).float(),
        torch.tensor([4, 0, 2, 1, 7, 3, 9]),
        {0: Dim("rows")},
    )
    state = state_of(cell) if given else None
    of_state = None if state is None else (rows, rows) if cell == "lstm" else rows
    shapes = {"input": rows, "hx": of_state, "first_step": rows}
    arguments = (x_of(), state), {"first_step": at[:ROWS]}
    exported = torch.export.export(ours, *arguments, dynamic_shapes=shapes).module()
    x, state = x_of(torch.float32, 7, INPUT), state_of(cell, rows=7) if given else None
    torch.testing.assert_close(exported(x, state, first_step=at), ours(x, state, first_step=at))


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
