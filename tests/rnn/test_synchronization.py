"""Batch norm over the rows of several processes gives what one process gives for all rows."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from oracles import CELLS, randomised
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
from two_processes import run_together

from seq2seq.rnn import NormConfig, NormKind, RecurrentLayers, Statistics
from seq2seq.rnn.synchronization import alone, is_synchronized

INPUTS, HIDDEN = 3, 4
LENGTHS = [7, 6, 6, 4, 3, 3, 2, 1]
"""Later steps have rows of some processes alone; the last ones have too few for a variance."""
COUNTS = (2, 4)
CASES = {
    f"{cell} {statistics.value}": (cell, statistics)
    for cell, statistics in product(("lstm", "gru", "rnn_tanh"), Statistics)
    if cell != "rnn_tanh" or statistics is not Statistics.sequence_input
}


def layer_of(cell: str, statistics: Statistics) -> RecurrentLayers:
    """Return the same layer in every process."""
    torch.manual_seed(0)
    norm = NormConfig(NormKind.batch, statistics=statistics, min_rows=2, sync=True)
    return randomised(CELLS[cell](INPUTS, HIDDEN, 2, bidirectional=True, norm=norm))


def updated(
    layer: RecurrentLayers, sentences: list[Tensor], weights: list[Tensor]
) -> dict[str, Tensor]:
    """Return gradients and statistics after a training pass over packed sentences."""
    packed = pack_sequence(sentences, enforce_sorted=False)
    output, _ = layer(packed)
    upstream = pack_sequence(weights, enforce_sorted=False)
    (output.data * upstream.data).sum().backward()
    return found_in(layer)


def found_in(layer: RecurrentLayers) -> dict[str, Tensor]:
    grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    return grads | {name: b.clone() for name, b in layer.named_buffers()}


def drawn() -> tuple[list[Tensor], list[Tensor]]:
    """Return the same sentences in every process, and the gradients into their outputs."""
    torch.manual_seed(1)
    sentences = [torch.randn(n, INPUTS, dtype=torch.double) for n in LENGTHS]
    return sentences, [torch.randn(n, 2 * HIDDEN, dtype=torch.double) for n in LENGTHS]


def padded(layer: RecurrentLayers, part: slice) -> dict[str, Tensor]:
    """Return gradients and statistics after a training pass over some of three padded rows."""
    torch.manual_seed(2)
    x, upstream = (torch.randn(5, 3, n, dtype=torch.double)[:, part] for n in (INPUTS, 2 * HIDDEN))
    (layer(x)[0] * upstream).sum().backward()
    return found_in(layer)


def one_of_several(rank: int, folder: Path, count: int) -> None:
    """Take every so many-th sentence, and save the summed gradients and the statistics."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count
    )
    own, found = slice(rank, None, count), dict[str, Any]()
    for name, case in CASES.items():
        found[name] = updated(layer_of(*case), *(part[own] for part in drawn()))
    found["padded"] = padded(layer_of("lstm", Statistics.per_step), own)
    for results in found.values():
        for name, value in results.items():
            if name.partition("_")[0] in ("weight", "bias", "gain"):
                dist.all_reduce(value)
    if rank == 0:
        assert is_synchronized()
        with alone():  # the others do something else
            assert not is_synchronized()
            found["alone"] = updated(layer_of("lstm", Statistics.per_step), *drawn())
        layer = layer_of("lstm", Statistics.per_step).eval()
        layer(drawn()[0][0])  # in eval mode nothing is exchanged
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=COUNTS)
def several(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each of several processes has found, by case."""
    folder = tmp_path_factory.mktemp("several")
    run_together(one_of_several, (folder, request.param), request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def assert_all_equal(several: list[dict[str, Any]], case: str, expected: dict[str, Tensor]) -> None:
    for found in several:
        assert found[case].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[case][name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_packed_rows_give_what_one_process_gives(several: list[dict[str, Any]], case: str) -> None:
    expected = updated(layer_of(*CASES[case]), *drawn())
    moved = [value for name, value in expected.items() if name.startswith("running_mean")]
    assert all(value.abs().sum() > 0 for value in moved)
    assert_all_equal(several, case, expected)


def test_a_process_without_a_row_takes_part(several: list[dict[str, Any]]) -> None:
    assert_all_equal(several, "padded", padded(layer_of("lstm", Statistics.per_step), slice(None)))


def test_a_process_alone_exchanges_nothing(several: list[dict[str, Any]]) -> None:
    expected = updated(layer_of("lstm", Statistics.per_step), *drawn())
    assert_all_equal(several[:1], "alone", expected)


def test_without_other_processes_nothing_is_exchanged() -> None:
    assert not is_synchronized()
    assert "WORLD_SIZE" not in os.environ
