"""What cells share with the layers: inputs of other types, empty batches, tools, parametrizations."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from idiom_cases import NORMS
from oracles import config, parts
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import update_bn

from seq2seq.rnn import GRUCell, LSTMCell, RNNCell, frozen, recalibrating

CELLS: dict[str, Any] = {"LSTMCell": LSTMCell, "GRUCell": GRUCell, "RNNCell": RNNCell}
X = torch.randn(6, 8, 5, generator=torch.Generator().manual_seed(0))


class Loop(nn.Module):
    """A loop over a cell, as people write it."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for t, rows in enumerate(x):
            state = self.cell(rows, state, first_step=t)
            outputs.append(parts(state)[0])
        return torch.stack(outputs)


def state_of(name: str, rows: int, **options: Any) -> Any:
    zeros = torch.zeros(rows, 4, **options)
    return (zeros, zeros) if name == "LSTMCell" else zeros


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64], ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CELLS)
def test_other_types_are_one_error(name: str, norm: str, dtype: torch.dtype) -> None:
    theirs, cell = getattr(nn, name)(5, 4), CELLS[name](5, 4, norm=norm)
    state = state_of(name, 8, dtype=dtype)
    for arguments in ((X[0].to(dtype),), (X[0], state)):
        with pytest.raises(RuntimeError):
            theirs(*arguments)
        with pytest.raises(RuntimeError, match=f"{dtype}.*float32|float32.*{dtype}"):
            cell(*arguments)


@pytest.mark.parametrize("name", CELLS)
def test_other_devices_are_an_error(name: str) -> None:
    cell = CELLS[name](5, 4)
    with pytest.raises(RuntimeError, match="Input and parameter tensors are not at the same"):
        cell(X[0].to("meta"))
    with pytest.raises(RuntimeError, match="Input and hidden tensors are not at the same device"):
        cell(X[0], state_of(name, 8, device="meta"))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CELLS)
def test_an_empty_batch_has_an_empty_state(name: str, norm: str) -> None:
    found = []
    for cell in (getattr(nn, name)(5, 4), CELLS[name](5, 4, norm=norm)):
        results: Iterable[Tensor] = parts(cell(X[0, :0], state_of(name, 0)))
        found.append([t.shape for t in results])
        torch.stack([t.sum() for t in results]).sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in cell.parameters())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CELLS)
def test_update_bn_gives_the_statistics_of_the_data(name: str) -> None:
    torch.manual_seed(0)
    model = Loop(CELLS[name](5, 4, norm=config("batch", max_steps=10)))
    model(3 * X + 1)
    batches = [X, X.flip(1) * 2]
    model.eval()
    with recalibrating(model), torch.no_grad():
        for batch in batches:
            model(batch)
    expected = {n: b.clone() for n, b in model.named_buffers() if "num_updates" not in n}
    update_bn(batches, model)
    found = {n: b for n, b in model.named_buffers() if "num_updates" not in n}
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CELLS)
@torch.no_grad()
def test_weights_are_read_in_each_step_and_kept_within_a_scope(name: str, norm: str) -> None:
    model = Loop(CELLS[name](5, 4, norm=norm))
    model(X)
    model.eval()
    before = model(X)
    with frozen(model):
        torch.testing.assert_close(model(X), before, rtol=1e-5, atol=1e-6)
    model.cell.get_parameter("weight_hh").data.neg_()
    after = model(X)
    assert (after - before).abs().max() > 1e-4
    with frozen(model):
        torch.testing.assert_close(model(X), after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CELLS)
def test_second_derivatives_and_parametrizations(name: str, norm: str) -> None:
    model = Loop(CELLS[name](5, 4, norm=norm))
    parametrizations.weight_norm(model.cell, "weight_hh")
    x = X.clone().requires_grad_()
    [gradient] = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def gradient_with_ended_rows(cell: Any, in_place: bool, **steps: Any) -> Tensor:
    """Return the gradient of weight_hh where the state of row 2 is 0 after every step."""
    cell.zero_grad()
    state, total, kept = None, torch.zeros(()), torch.ones(8, 1)
    kept[2] = 0
    for t, rows in enumerate(X):
        h, *c = parts(cell(rows, state, **dict.fromkeys(steps, t)))
        if in_place:
            h[2] = 0
        else:
            h = h * kept
        state = (h, *c) if c else h
        total = total + h.square().sum()
    total.backward()
    found: Tensor = cell.weight_hh.grad.clone()
    return found


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_rows_of_a_state_are_reset_in_place(name: str, norm: str) -> None:
    """As where an episode ends. torch's RNNCell refuses it at the backward pass."""
    cell = CELLS[name](5, 4, norm=norm)
    found = gradient_with_ended_rows(cell, True, first_step=True)
    expected = gradient_with_ended_rows(cell, False, first_step=True)
    torch.testing.assert_close(found, expected)
    if norm == "none":
        plain = getattr(nn, name)(5, 4)
        plain.load_state_dict(cell.state_dict())
        theirs = gradient_with_ended_rows(plain, True)
        torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5)
