"""The tables of the layers: which contestants meet in each, by size."""

from collections.abc import Callable
from functools import partial

from tqdm import tqdm

from ..rnn import load_kernels
from .layer_products import Size
from .layers import cell_tasks, lstm_tasks, single_step_tasks, stack_tasks
from .memory import Memory, layer_memory
from .timing import Task, Timing, geometric_means, interleave

SIZES = {
    "small": [(10, 8, 32, 32)],
    "full": [(25, 64, 256, 256), (25, 64, 512, 512), (25, 128, 512, 512), (50, 32, 1024, 1024)],
}
"""(T, B, I, H) of the layers."""
DIRECTIONS = {"small": [(10, 8, 32, 16)], "full": [(25, 64, 512, 256)]}
"""(T, B, I, H) of layers that are run in both directions."""
FEW_ROWS = {
    "small": [(10, 1, 32, 32)],
    "full": [(25, 1, 256, 256), (25, 4, 256, 256), (25, 1, 512, 512), (25, 4, 512, 512)],
}
"""(T, B, I, H) of one sequence, or of a few."""
Tables = dict[str, list[Timing]]


Makers = dict[str, Callable[[], dict[str, Task]]]
"""What makes the contestants of a table, by its title."""


def layer_timings(size: str, rounds: int, compiled: bool) -> Tables:
    """Measure layers and cells, in training, inference and single steps."""
    makers = one_layer(size, compiled) | several_layers(size) | few_rows(size)
    load_kernels()
    bar = tqdm(makers.items(), "layers", unit="table")
    return {title: interleave(make(), rounds) for title, make in bar}


def one_layer(size: str, compiled: bool) -> Makers:
    """Return the tables of one layer and direction: LSTM, GRU, RNN, a loop over cells, one step."""
    makers: Makers = {}
    for shape in SIZES[size]:
        name = shape_name(shape)
        makers[f"LSTM, training, {name}"] = partial(lstm_tasks, shape, True, compiled)
        makers[f"LSTM, inference, {name}"] = partial(lstm_tasks, shape, False, compiled)
        for cell in ("GRU", "RNN"):
            makers[f"{cell}, training, {name}"] = partial(stack_tasks, cell, 1, False, True, shape)
    shape = SIZES[size][0]
    makers[f"cells, training, {shape_name(shape)}"] = partial(cell_tasks, shape)
    for hidden in sorted({hidden for *_, hidden in SIZES[size]}):
        single = partial(single_step_tasks, hidden)
        makers[f"LSTM, 20 single steps of 5 rows, H={hidden}"] = single
    return makers


def several_layers(size: str) -> Makers:
    """Return the tables of an LSTM of two directions, and of two such layers."""
    return {
        f"{name}, {what}, {shape_name(shape)}": partial(
            stack_tasks, "LSTM", number, True, what == "training", shape
        )
        for shape in DIRECTIONS[size]
        for number, name in ((1, "two directions"), (2, "two layers of two directions"))
        for what in ("training", "inference")
    }


def few_rows(size: str) -> Makers:
    """Return the tables of an LSTM over one sequence, or a few."""
    return {
        f"few rows, {what}, {shape_name(shape)}": partial(
            stack_tasks, "LSTM", 1, False, what == "training", shape
        )
        for what in ("training", "inference")
        for shape in FEW_ROWS[size]
    }


def memories(size: str) -> dict[str, list[Memory]]:
    """Measure the memory of training one layer, by size."""
    return {f"LSTM, training, {shape_name(shape)}": layer_memory(shape) for shape in SIZES[size]}


def shape_name(shape: Size) -> str:
    """Return sizes as the tables' titles give them: T=25 B=64 I=256 H=256."""
    return " ".join(f"{letter}={size}" for letter, size in zip("TBIH", shape, strict=True))


def means(tables: Tables) -> dict[str, dict[str, float]]:
    """Return the geometric means of the ratios over tables that differ in sizes alone."""
    groups: dict[str, list[list[Timing]]] = {}
    for title, timings in tables.items():
        groups.setdefault(title.rpartition(", ")[0], []).append(timings)
    return {
        f"{group}, {len(found)} sizes": geometric_means(found)
        for group, found in groups.items()
        if len(found) > 1
    }
