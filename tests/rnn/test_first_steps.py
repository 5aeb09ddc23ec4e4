"""A first step of its own for each sequence: batch norm's statistics per step in inference."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kernel_cases import BATCH, FLOAT32, INPUTS, distances, layer_of, needs_compiler, small
from oracles import CELLS, config
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from seq2seq.rnn import LSTM, RNN, RecurrentLayers, batch_statistics, fused

HIDDEN = 70
LENGTHS = [3, 1, 4, 4, 2, 3]
STARTS = [0, 0, 3, 8, 12, 2]
"""The last statistics are those of step 9."""


def trained(cell: str = "lstm", statistics: str = "per_step", **options: Any) -> RecurrentLayers:
    """Return a layer in eval mode with other statistics at every step."""
    layer = layer_of(HIDDEN, BATCH[statistics], cell, **options)
    for name, buffer in layer.named_buffers():
        if "running_mean" in name:
            buffer.normal_(0, 0.3)
        elif "running_var" in name:
            buffer.uniform_(0.3, 2)
        elif "steps_seen" in name:
            buffer.fill_(10)
    return layer.eval()


def inputs(layer: RecurrentLayers) -> tuple[list[Tensor], list[Any]]:
    """Return sentences, and the initial state (L * D, H) of each."""
    dtype, directions = layer.get_parameter("weight_hh_l0").dtype, len(layer.suffixes())
    sentences = [torch.randn(length, INPUTS, dtype=dtype) for length in LENGTHS]
    h, c = torch.randn(2, len(LENGTHS), directions, HIDDEN, dtype=dtype)
    return sentences, [(a, b) if layer.cell == "lstm" else a for a, b in zip(h, c, strict=True)]


def stacked(states: list[Any]) -> Any:
    """Return the states (L * D, B, H) of all sentences."""
    if isinstance(states[0], Tensor):
        return torch.stack(states, dim=1)
    return tuple(torch.stack(parts, dim=1) for parts in zip(*states, strict=True))


def together_and_alone(layer: RecurrentLayers) -> tuple[Tensor, Tensor]:
    """Return the outputs of sentences in one call, and of each by itself, padded."""
    sentences, states = inputs(layer)
    packed = pack_sequence(sentences, enforce_sorted=False)
    output, _ = layer(packed, stacked(states), first_step=torch.tensor(STARTS))
    alone = [
        layer(s, state, first_step=start)[0]
        for s, state, start in zip(sentences, states, STARTS, strict=True)
    ]
    return pad_packed_sequence(output)[0], torch.nn.utils.rnn.pad_sequence(alone)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("statistics", BATCH)
@pytest.mark.parametrize("cell", CELLS)
def test_each_sequence_is_as_it_is_alone(
    cell: str, statistics: str, options: dict[str, Any]
) -> None:
    torch.testing.assert_close(*together_and_alone(trained(cell, statistics, **options)))


@needs_compiler
@pytest.mark.parametrize("statistics", BATCH)
@pytest.mark.parametrize("cell", CELLS)
def test_the_kernels_agree_with_the_reference(cell: str, statistics: str) -> None:
    layer = trained(cell, statistics)
    sentences, states = inputs(layer)
    found = []
    for backend, dtype in (("auto", torch.float32), ("reference", torch.double)):
        layer.to(dtype).backend = backend
        packed = pack_sequence([s.to(dtype) for s in sentences], enforce_sorted=False)
        state = torch.utils._pytree.tree_map(lambda s, to=dtype: s.to(to), stacked(states))
        with torch.no_grad():
            output, _ = layer(packed, state, first_step=torch.tensor(STARTS, dtype=torch.int32))
        found.append({"output": output.data.double()})
    assert distances(*found)["output"] < FLOAT32


@needs_compiler
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@torch.no_grad()
def test_one_step_of_the_kernels_has_the_bits_of_a_common_first_step(
    cell: str, autocast: bool
) -> None:
    layer = trained(cell).float()
    layer.backend = "fused"
    x, state = torch.randn(1, 6, INPUTS), torch.randn(1, 6, HIDDEN)
    hx = (state, state / 2) if cell == "lstm" else state
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, _ = layer(x, hx, first_step=torch.tensor(STARTS))
        for i, start in enumerate(STARTS):
            assert torch.equal(found[:, i], layer(x, hx, first_step=start)[0][:, i])


@needs_compiler
@pytest.mark.parametrize("backend", ["fused", "reference"])
@torch.no_grad()
def test_changed_statistics_are_noticed(backend: str) -> None:
    layer = trained().float()
    layer.backend = backend
    x, state = torch.randn(1, 2, INPUTS), (torch.randn(1, 2, HIDDEN),) * 2
    steps = torch.tensor([4, 600])
    before = layer(x, state, first_step=steps)[0]
    layer.get_buffer("running_mean_hh_l0")[4] += 1
    after = layer(x, state, first_step=steps)[0]
    assert (before[0, 0] - after[0, 0]).abs().max() > 0.001
    assert torch.equal(before[0, 1], after[0, 1])
    layer.get_buffer("steps_seen_l0").fill_(5)
    last = layer(x, state, first_step=steps)[0]
    assert torch.equal(last[0, 0], after[0, 0])
    torch.testing.assert_close(last, layer(x, state, first_step=4)[0])


def test_an_unbatched_input_takes_a_single_number() -> None:
    layer = trained()
    x = torch.randn(2, INPUTS, dtype=torch.double)
    found, expected = (layer(x, first_step=step)[0] for step in (torch.tensor(3), 3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", ["none", "layer", "rms", BATCH["shared"]], ids=str)
def test_without_statistics_per_step_it_changes_nothing(norm: Any) -> None:
    layer = LSTM(3, 4, norm=norm)
    x = torch.randn(2, 2, 3)
    assert torch.equal(layer(x, first_step=torch.tensor([4, 1]))[0], layer(x)[0])


WRONG = [
    (torch.tensor([1]), r"first_step is torch.int64 of shape \(1,\): .* of shape \(2,\)"),
    (torch.tensor(1), r"first_step is torch.int64 of shape \(\)"),
    (torch.tensor([1.0, 2.0]), r"first_step is torch.float32 of shape \(2,\): .* whole numbers"),
    (torch.tensor([3, -1]), r"first_step has -1: expected time steps, 0 or later"),
]


@pytest.mark.parametrize(("steps", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_name_what_was_given(steps: Tensor, message: str) -> None:
    for norm in ("layer", "batch"):
        layer = LSTM(3, 4, norm=norm).eval()
        with pytest.raises(ValueError, match=message):
            layer(torch.zeros(2, 2, 3), first_step=steps)
        packed = pack_sequence([torch.zeros(1, 3), torch.zeros(2, 3)], enforce_sorted=False)
        with pytest.raises(ValueError, match=message):
            layer(packed, first_step=steps)


def test_it_is_refused_where_a_batch_is_normalised_by_its_own_statistics() -> None:
    layer, steps = LSTM(3, 4, norm="batch"), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="expected an int, or eval mode"):
        layer(torch.zeros(2, 2, 3), first_step=steps)
    with batch_statistics(layer.eval()), pytest.raises(ValueError, match="or eval mode"):
        layer(torch.zeros(2, 2, 3), first_step=steps)


# -- backends ---


@needs_compiler
def test_gradients_are_those_of_the_reference() -> None:
    layer = trained().float()
    x, steps = torch.randn(2, 2, INPUTS), torch.tensor([1, 5])
    layer.backend = "fused"
    with pytest.raises(RuntimeError, match="do not support a first_step of each row with grad"):
        layer(x, first_step=steps)
    layer.backend = "auto"
    layer(x, first_step=steps)[0].sum().backward()
    assert layer.get_parameter("gain_hh_l0").grad is not None


@torch.no_grad()
def test_a_gpu_takes_the_reference() -> None:
    p = LSTM(3, 4, norm="batch").eval().cell_parameters("_l0")
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    p = replace(p, weight_hh=on_gpu)
    assert fused.unsupported(p, by_row=True) == "a first_step of each row on a GPU"
    assert fused.unsupported(p) is None


@pytest.mark.parametrize(
    "layer",
    [RNN(3, 4, norm=BATCH["sequence_input"]), LSTM(3, 4, norm=config("layer", cell="none"))],
    ids=["separate terms", "no cell norm"],
)
def test_a_gpu_has_the_kernels_of_the_cpu(layer: RecurrentLayers) -> None:
    p = layer.cell_parameters("_l0")
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    assert fused.unsupported(p) is None
    assert fused.unsupported(replace(p, weight_hh=on_gpu)) is None


@needs_compiler
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@torch.no_grad()
def test_the_operator_passes_opcheck(cell: str) -> None:
    gates, terms = {"lstm": (4, 9), "gru": (3, 6), "rnn_tanh": (1, 1)}[cell]
    h, size = 5, [3, 1]
    vectors = {"lstm": 3 * 4 + 2, "gru": 4 * 3, "rnn_tanh": 2}[cell]
    state = torch.randn(3, h)
    torch.library.opcheck(
        torch.ops.seq2seq.batch_norm_inference.default,
        (
            torch.randn(4, gates * h),
            torch.randn(gates * h, h),
            state,
            state if cell == "lstm" else None,
            torch.randn(vectors * h),
            torch.tensor(size),
            torch.randn(6, terms * h),
            torch.rand(6, terms * h),
            torch.tensor([0, 5, 2, 1]),
            size[0],
            cell,
            1e-5,
            True,
        ),
        test_utils=("test_schema", "test_faketensor"),
    )


def bad_call(**changes: Any) -> Callable[[], Any]:
    arguments = {
        "u": torch.zeros(2, 4),
        "weight_hh": torch.zeros(4, 1),
        "h_0": None,
        "c_0": None,
        "vectors": torch.zeros(14),
        "batch_sizes": torch.tensor([2]),
        "mean": torch.zeros(3, 9),
        "var": torch.ones(3, 9),
        "places": torch.tensor([0, 2]),
        "sequences": 2,
        "cell": "lstm",
        "eps": 1e-5,
        "normalises_input": True,
    }
    return lambda: torch.ops.seq2seq.batch_norm_inference(*(arguments | changes).values())


@needs_compiler
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"places": torch.tensor([0, 3])}, "expected places of 3 steps, got 3"),
        ({"places": torch.tensor([0, -1])}, "expected places of 3 steps, got -1"),
        ({"places": torch.tensor([0])}, r"expected places \(2,\)"),
        ({"mean": torch.zeros(3, 8)}, r"expected float statistics \(S, 9\)"),
        ({"var": torch.zeros(2, 9)}, r"expected float statistics \(S, 9\)"),
    ],
    ids=str,
)
def test_the_operator_checks_what_it_is_given(changes: dict[str, Any], message: str) -> None:
    small()
    bad_call()()
    with pytest.raises(RuntimeError, match=message):
        bad_call(**changes)()
