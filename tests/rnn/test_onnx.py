"""Layers as ONNX: onnxruntime's outputs are the layers', for any length and number of sequences."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from combinations import few
from export_cases import (
    DYNAMIC,
    HIDDEN,
    INPUTS,
    NORMS,
    SEQUENCES,
    SHAPES,
    STEP_SHAPES,
    STEPS,
    OneStep,
    step_inputs,
    trained,
)
from oracles import CELLS, parts
from torch import Tensor, nn

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytestmark = pytest.mark.filterwarnings(  # of torch's exporter
    "ignore::FutureWarning", "ignore:# The axis name"
)


class Session:
    """A program in onnxruntime."""

    def __init__(self, module: nn.Module, inputs: Any, shapes: Any, folder: Path) -> None:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module, inputs, dynamic_shapes=shapes, dynamo=True, verbose=False
        )
        assert program is not None
        program.save(str(folder / "layer.onnx"))
        self.operators = [node.op_type for node in program.model.graph]
        self.session = onnxruntime.InferenceSession(str(folder / "layer.onnx"))

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        names = [i.name for i in self.session.get_inputs()]
        given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(np.asarray(o)) for o in self.session.run(None, given)]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-5, atol=1e-5)


@few({"cell": CELLS, "norm": NORMS, "bidirectional": [False, True]})
@torch.no_grad()
def test_a_layer_is_the_same_in_onnxruntime(
    cell: str, norm: str, bidirectional: bool, tmp_path: Path
) -> None:
    layer = trained(cell, norm, bidirectional=bidirectional)
    session = Session(layer, (torch.randn(6, 3, INPUTS),), DYNAMIC, tmp_path)
    loop = cell.partition("_")[0].upper() if norm == "none" else "Scan"
    assert session.operators.count(loop) == 1 + bidirectional
    for steps, sequences in SHAPES:
        x = torch.randn(steps, sequences, INPUTS)
        output, last = layer(x)
        assert_close(session(x), [output, *parts(last)])


@few({"cell": ["lstm", "gru", "rnn_tanh"], "bias": [True, False]})
@torch.no_grad()
def test_initial_states_and_missing_biases(cell: str, bias: bool, tmp_path: Path) -> None:
    layer = trained(cell, "none", bias=bias, num_layers=2, batch_first=True)

    def inputs(steps: int, sequences: int) -> tuple[Tensor, Any]:
        state = tuple(torch.randn(2, sequences, HIDDEN) for _ in "hc")
        return torch.randn(sequences, steps, INPUTS), state if cell == "lstm" else state[0]

    state = {1: SEQUENCES}
    shapes = {"input": {0: SEQUENCES, 1: STEPS}, "hx": (state, state) if cell == "lstm" else state}
    session = Session(layer, inputs(6, 3), shapes, tmp_path)
    for shape in SHAPES:
        x, hx = inputs(*shape)
        output, last = layer(x, hx)
        assert_close(session(x, *parts(hx)), [output, *parts(last)])


@torch.no_grad()
def test_a_step_with_a_time_step_for_each_row(tmp_path: Path) -> None:
    module = OneStep("batch")
    session = Session(module, step_inputs(4), STEP_SHAPES, tmp_path)
    for rows in (1, 3, 9):
        given = step_inputs(rows)
        output, last = module(*given)
        assert_close(session(*given), [output, *last])
