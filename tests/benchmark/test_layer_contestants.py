"""Layers as contestants: what each task runs, in which mode, and on how many rows and steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from seq2seq.benchmark import layer_products, layers
from seq2seq.rnn import LSTM, LSTMCell
from seq2seq.rnn.packing import Steps

SIZE = (3, 4, 5, 6)


class Noted(nn.Module):
    """A layer that notes how it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 6)
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> tuple[Tensor]:
        modes = self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        self.seen.append(modes)
        output: Tensor = self.linear(x)
        return (output,)


@pytest.mark.parametrize("training", [True, False])
def test_layers_run_in_training_or_in_eval_mode(training: bool) -> None:
    made = {"a": Noted(), "b": Noted()}
    named = {name: (cast(nn.Module, layer), name == "b") for name, layer in made.items()}
    for task in layers.passes(named, SIZE, 6, training).values():
        task()
    assert made["a"].seen == [(training, training, False)]
    assert made["b"].seen == [(training, training, True)]


def test_each_training_pass_has_gradients_of_its_own() -> None:
    torch.manual_seed(0)
    layer, x = Noted(), torch.randn(3, 4, 5, requires_grad=True)
    upstream, found = torch.randn(3, 4, 6), []
    for _ in range(2):
        layers.forward_and_backward(layer, x, upstream)
        assert x.grad is not None
        assert layer.linear.weight.grad is not None
        found.append((x.grad.clone(), layer.linear.weight.grad.clone()))
    expected = upstream @ layer.linear.weight, upstream.flatten(0, 1).t() @ x.flatten(0, 1)
    for grads in found:
        torch.testing.assert_close(grads, expected)


class CountedCell(LSTMCell):
    """A cell that notes its time steps."""

    def forward(self, input: Tensor, hx: Any = None, *, first_step: Steps = 0) -> Any:
        self.steps = [*getattr(self, "steps", []), first_step]
        return super().forward(input, hx, first_step=first_step)


def test_a_loop_over_our_cell_counts_its_steps() -> None:
    """Batch norm has statistics of each."""
    cell, x = CountedCell(5, 6, norm="batch"), torch.randn(3, 4, 5)
    [output] = layers.CellLoop(cell)(x)
    assert output.shape == (3, 4, 6)
    assert cell.steps == [0, 1, 2]


# -- single steps ---


def test_single_steps_are_those_of_beam_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps of five rows, in eval mode; `frozen` is around all of them."""
    inside: list[nn.Module] = []

    @contextmanager
    def frozen(layer: nn.Module) -> Iterator[None]:
        inside.append(layer)
        yield
        inside.remove(layer)

    monkeypatch.setattr(layers, "frozen", frozen)
    tasks = layers.single_step_tasks(7)
    for name, task in tasks.items():
        step = cast("partial[Any]", cast("partial[Any]", task).args[-1])
        layer, seen = cast(nn.Module, step.func), list[tuple[bool, bool, int, Any]]()

        def note(layer: nn.Module, given: Any, _: Any, seen: Any = seen) -> None:
            modes = layer.training, torch.is_grad_enabled()
            seen.append((*modes, inside.count(layer), given[0].shape))

        handle = layer.register_forward_hook(note)
        task()
        handle.remove()
        shape = (5, 7) if name == "torch.nn.LSTMCell" else (1, 5, 7)
        is_training = name == "torch.nn.LSTMCell"  # it has one mode
        assert seen == [(is_training, False, int(name.endswith("frozen")), shape)] * 20, name
    assert inside == []


# -- the products beside them ---


@pytest.mark.parametrize("training", [True, False])
def test_the_products_are_those_of_the_layers_beside_them(
    monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    asked: list[tuple[Any, ...]] = []

    def products(
        size: Any, backward: bool, cell: str = "LSTM", layers: int = 1, directions: int = 1
    ) -> Callable[[], None]:
        asked.append((size, backward, cell, layers, directions))
        return lambda: None

    monkeypatch.setattr(layers, "products", products)
    layers.lstm_tasks(SIZE, training, False)
    for cell in ("LSTM", "GRU", "RNN"):
        layers.stack_tasks(cell, 2, True, training, SIZE)
    layers.stack_tasks("GRU", 1, False, training, SIZE)
    assert asked == [
        (SIZE, training, "LSTM", 1, 1),
        *((SIZE, training, cell, 2, 2) for cell in ("LSTM", "GRU", "RNN")),
        (SIZE, training, "GRU", 1, 1),
    ]


def test_stacked_layers_have_the_norm_of_their_names() -> None:
    tasks = layers.stack_tasks("LSTM", 2, True, False, SIZE)
    ours = {name: cast("partial[Any]", task).args[0] for name, task in tasks.items() if "=" in name}
    assert all(isinstance(layer, LSTM) for layer in ours.values())
    assert {name: f"LSTM norm={layer.norm.kind.name}" for name, layer in ours.items()} == {
        name: name for name in ours
    }
    assert {(layer.num_layers, layer.bidirectional) for layer in ours.values()} == {(2, True)}


def test_threads_of_directions_run_operators_alone() -> None:
    """Each has one thread, and the program keeps its own."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with layer_products.threads(2) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(before)
