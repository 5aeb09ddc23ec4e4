"""The tables of the layers: which contestants meet in each, by size."""

from collections.abc import Callable
from functools import partial

from tqdm import tqdm

from ..rnn import load_kernels
from . import layers as contestants
from .layers import Size
from .memory import Memory, memory
from .timing import Run, Timing, geometric_means, interleave

SIZES = {
    "small": [(10, 8, 32, 32)],
    "full": [(25, 64, 256, 256), (25, 64, 512, 512), (25, 128, 512, 512), (50, 32, 1024, 1024)],
}
"""(T, B, I, H) of the layers."""
Tables = dict[str, list[Timing]]


def layers(size: str, rounds: int, compiled: bool) -> Tables:
    """Measure one layer: training and inference of the LSTM, training of GRU and RNN, one step."""
    runs: dict[str, Callable[[], dict[str, Run]]] = {}
    for shape in SIZES[size]:
        name = named(shape)
        runs[f"LSTM, training, {name}"] = partial(contestants.lstms, shape, compiled)
        runs[f"LSTM, inference, {name}"] = partial(contestants.lstms_forward, shape, compiled)
        for cell in ("GRU", "RNN"):
            runs[f"{cell}, training, {name}"] = partial(contestants.others, cell, shape)
    for hidden in sorted({hidden for *_, hidden in SIZES[size]}):
        single = partial(contestants.single_steps, hidden)
        runs[f"LSTM, 20 single steps of 5 rows, H={hidden}"] = single
    load_kernels()
    bar = tqdm(runs.items(), "layers", unit="table")
    return {title: interleave(make(), rounds) for title, make in bar}


def memories(size: str) -> dict[str, list[Memory]]:
    """Measure the memory of training one layer, by size."""
    return {f"LSTM, training, {named(shape)}": memory(shape) for shape in SIZES[size]}


def named(shape: Size) -> str:
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
