"""The statistics that batch norm should have, computed by NumPy.

The vectors that a term normalises come from the naive oracle.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from oracles import CELLS, config, randomised
from torch import Tensor

from seq2seq.rnn import RecurrentLayers

EPS = 0.05
MOMENTUM = 0.3
STEPS = 7
BATCHES = [[5, 2, 4, 5], [3, 6, 6, 3, 2], [1, 2, 2]]
STATISTICS = ["per_step", "sequence_input", "shared"]


def layer_of(
    cell: str = "lstm", layers: int = 1, bidirectional: bool = False, seed: int = 0, **options: Any
) -> RecurrentLayers:
    """Return a batch-normalised layer in double with random parameters."""
    options = {"eps": EPS, "momentum": MOMENTUM, "max_steps": STEPS} | options
    layer = CELLS[cell](
        3, 4, num_layers=layers, bidirectional=bidirectional, norm=config("batch", **options)
    )
    return randomised(layer, seed)


Buffers = dict[str, Tensor]
Raw = dict[str, dict[int, list[Tensor]]]
"""The vectors that each term normalised, by step: see Oracle."""
Matrix = NDArray[Any]


def buffers_of(layer: RecurrentLayers) -> Buffers:
    """Return copies of the buffers."""
    return {name: b.clone() for name, b in layer.named_buffers()}


def assert_buffers(found: Buffers, expected: Buffers) -> None:
    """Assert that buffers agree."""
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def rows_of(vectors: list[Tensor]) -> Matrix:
    """Return vectors as the rows of a NumPy matrix."""
    return torch.stack(vectors).numpy()


def averaged(
    buffers: Buffers, term: str, index: int, mean: Matrix, var: Matrix, momentum: float = MOMENTUM
) -> None:
    """Average a new mean and variance into the buffers."""
    weight = momentum if buffers[f"num_updates_{term}"][index] else 1.0
    for name, new in (("mean", mean), ("var", var)):
        running = buffers[f"running_{name}_{term}"]
        running[index] = (1 - weight) * running[index] + weight * torch.from_numpy(new)
    buffers[f"num_updates_{term}"][index] += 1


def pooled(samples: list[Matrix]) -> tuple[Matrix, Matrix]:
    """Return the row-weighted mean and the pooled unbiased variance of groups of rows."""
    sizes = [len(rows) for rows in samples]
    mean = sum(n * rows.mean(0) for n, rows in zip(sizes, samples, strict=True)) / sum(sizes)
    var = sum((n - 1) * rows.var(0, ddof=1) for n, rows in zip(sizes, samples, strict=True))
    return mean, var / sum(n - 1 for n in sizes)


def steps_seen_after(buffers: Buffers, raw: Raw, min_rows: int = 2) -> None:
    """Change `steps_seen` as one training call does that normalised `raw`."""
    for term, steps in raw.items():
        name = "steps_seen_" + term.partition("_")[2]
        shared = len(buffers[f"num_updates_{term}"]) == 1
        seen = [1 if shared else t + 1 for t, vectors in steps.items() if len(vectors) >= min_rows]
        buffers[name] = torch.tensor(max([int(buffers[name]), *seen]))


def update_expected(buffers: Buffers, raw: Raw, statistics: str, min_rows: int = 2) -> None:
    """Change the buffers as one training call does that normalised `raw`."""
    for term, steps in raw.items():
        counted = {t: rows_of(vectors) for t, vectors in steps.items() if len(vectors) >= min_rows}
        if statistics == "shared" and counted:
            averaged(buffers, term, 0, *pooled(list(counted.values())))
        elif statistics != "shared":
            for t, rows in counted.items():
                averaged(buffers, term, t, rows.mean(0), rows.var(0, ddof=1))
    steps_seen_after(buffers, raw, min_rows)
