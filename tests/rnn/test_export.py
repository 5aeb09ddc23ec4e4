"""Export and compilation of the layers with inputs of any length and any number of sequences."""

import copy
from typing import Any

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
from kernel_cases import needs_compiler
from oracles import CELLS, config, parts
from torch import nn
from torch.export import ExportedProgram
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from seq2seq.rnn import LSTM, NormConfig, Terms


def exported(layer: nn.Module, *inputs: Any, shapes: Any = None) -> ExportedProgram:
    """Return a layer's program for any number of steps and sequences."""
    given = inputs or (torch.randn(6, 3, INPUTS),)
    return torch.export.export(layer, given, dynamic_shapes=shapes or DYNAMIC)


def assert_same(program: Any, layer: nn.Module, tolerance: float = 1e-5) -> None:
    """Assert that a program's outputs are the layer's, for every shape."""
    for steps, sequences in SHAPES:
        x = torch.randn(steps, sequences, INPUTS)
        output, last = layer(x)
        found, found_last = program(x)
        for f, e in zip([found, *parts(found_last)], [output, *parts(last)], strict=True):
            torch.testing.assert_close(f, e, rtol=tolerance, atol=tolerance)


def loops(program: ExportedProgram) -> int:
    """Return how many loops a program has."""
    return sum(node.target is torch.ops.higher_order.scan for node in program.graph.nodes)


EXPORTED_PADDED = ("lstm", "batch"), ("gru", "layer")
"""Exported with padding in fast tests. How padding is skipped does not depend on the norm.

Fast tests export every norm without padding; batch norm alone looks up statistics by the step.
"""


class Padded(nn.Module):
    """A layer over padded sequences."""

    def __init__(self, cell: str, norm: str) -> None:
        super().__init__()
        self.layer = trained(cell, norm, bidirectional=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        return self.layer.over_padded(x, lengths)


def assert_padding_is_not_read(module: Padded, run: Any) -> None:
    """Assert that a function of padded rows and lengths gives what the packed rows give."""
    for steps, sequences in SHAPES:
        x, lengths = torch.randn(steps, sequences, INPUTS), torch.arange(sequences) % steps + 1
        lengths[0] = steps
        packed, hx = module.layer(pack_sequence([x[:n, i] for i, n in enumerate(lengths)], False))
        rows, _ = pad_packed_sequence(packed)
        is_word = torch.arange(steps)[:, None] < lengths
        found, last = run(x.masked_fill(~is_word[:, :, None], 1e3), lengths)
        found = found.masked_fill(~is_word[:, :, None], 0)
        for f, e in zip([found, *parts(last)], [rows, *parts(hx)], strict=True):
            torch.testing.assert_close(f, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@torch.no_grad()
def test_padding_is_not_read(cell: str, norm: str) -> None:
    module = Padded(cell, norm).eval()
    assert_padding_is_not_read(module, module)


@pytest.mark.parametrize(
    ("cell", "norm"),
    [
        pytest.param(cell, norm, marks=[pytest.mark.slow] * ((cell, norm) not in EXPORTED_PADDED))
        for cell in ("lstm", "gru")
        for norm in NORMS
    ],
)
@torch.no_grad()
def test_an_exported_layer_does_not_read_padding(cell: str, norm: str) -> None:
    module = Padded(cell, norm).eval()
    shapes = {"x": DYNAMIC["input"], "lengths": {0: SEQUENCES}}
    program = exported(module, torch.randn(6, 3, INPUTS), torch.tensor([2, 6, 1]), shapes=shapes)
    assert_padding_is_not_read(module, program.module())


@few({"cell": CELLS, "norm": NORMS, "bidirectional": [False, True]})
@torch.no_grad()
def test_an_exported_layer_takes_any_length_and_number(
    cell: str, norm: str, bidirectional: bool
) -> None:
    layer = trained(cell, norm, bidirectional=bidirectional, num_layers=1 + bidirectional)
    program = exported(layer)
    assert loops(program) == (4 if bidirectional else 1)
    assert_same(program.module(), layer)


@pytest.mark.parametrize(
    "norm",
    [
        config("batch", statistics="sequence_input"),
        config("batch", statistics="shared"),
        config("layer", cell="carried"),
        config("layer", group="gate"),
        config("rms", cell="none"),
        NormConfig(terms=Terms.joint),
        config("batch", terms="joint"),
    ],
    ids=str,
)
@torch.no_grad()
def test_options_of_a_norm_are_exported(norm: NormConfig) -> None:
    layer = trained("lstm", norm)
    assert_same(exported(layer).module(), layer)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@torch.no_grad()
def test_states_and_batch_first_are_exported(norm: str) -> None:
    layer = trained("lstm", norm, batch_first=True)
    hx = tuple(torch.randn(1, 3, HIDDEN) for _ in range(2))
    shapes = {"input": {0: SEQUENCES, 1: STEPS}, "hx": ({1: SEQUENCES}, {1: SEQUENCES})}
    program = exported(layer, torch.randn(3, 6, INPUTS), hx, shapes=shapes).module()
    x, hx = torch.randn(2, 9, INPUTS), tuple(torch.randn(1, 2, HIDDEN) for _ in range(2))
    torch.testing.assert_close(program(x, hx), layer(x, hx), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_a_step_with_a_time_step_for_each_row_is_exported(norm: str) -> None:
    module = OneStep(norm)
    program = exported(module, *step_inputs(4), shapes=STEP_SHAPES).module()
    for rows in (1, 3, 9):
        given = step_inputs(rows)
        torch.testing.assert_close(program(*given), module(*given), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_fused_operators_are_exported_where_they_are_asked_for(norm: str) -> None:
    layer = trained("gru", norm, bidirectional=True, backend="fused")
    program = exported(layer)
    assert loops(program) == 0
    assert_same(program.module(), layer)


def test_what_cannot_be_exported_is_refused() -> None:
    packed = pack_sequence([torch.randn(3, INPUTS), torch.randn(2, INPUTS)])
    with pytest.raises(ValueError, match="a PackedSequence cannot be exported"):
        torch.export.export(trained("lstm", "layer"), (packed,))
    with pytest.raises(ValueError, match=r"batch norm .* training mode: call eval\(\) first"):
        exported(trained("lstm", "batch").train())


@needs_compiler
@few({"norm": NORMS, "training": [True, False]})
def test_one_compilation_serves_all_lengths(norm: str, training: bool) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend  # loads Triton: see triton_cases

    layer = trained("lstm", norm, bidirectional=True).train(training)
    twin = copy.deepcopy(layer)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    with torch.set_grad_enabled(training):
        for steps, sequences in ((5, 3), (7, 4), (9, 5), (11, 3), (20, 9), (3, 2)):
            x = torch.randn(steps, sequences, INPUTS)
            found, expected = compiled(x)[0], twin(x)[0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            if training:
                for output, model in ((found, layer), (expected, twin)):
                    model.zero_grad()
                    output.square().sum().backward()
                gradients = ([p.grad for p in model.parameters()] for model in (layer, twin))
                torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(list(layer.buffers()), list(twin.buffers()), rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 2  # the second one is for shapes that change


@torch.no_grad()
def test_the_number_of_sequences_is_an_input_of_the_loop() -> None:
    """A compiler looks for it there; without it each program ahead of time fails."""
    program = exported(trained("lstm", "layer"))
    (loop,) = (n for n in program.graph.nodes if n.target is torch.ops.higher_order.scan)
    assert any(isinstance(node.meta["val"], torch.SymInt) for node in loop.args[3])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "bidirectional"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's compiler, about itself
@torch.no_grad()
def test_a_program_is_compiled_ahead_of_time(norm: str, bidirectional: bool, tmp_path: Any) -> None:
    layer = trained("lstm", norm, bidirectional=bidirectional)
    package = torch._inductor.aoti_compile_and_package(
        exported(layer), package_path=str(tmp_path / "layer.pt2")
    )
    assert_same(torch._inductor.aoti_load_package(package), layer)


@needs_compiler
def test_a_compiled_model_around_a_layer_has_no_graph_break() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), LSTM(INPUTS, HIDDEN, norm="batch"))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(torch.randn(4, 3, INPUTS))[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_kernels_that_would_read_padding_are_refused() -> None:
    padded = Padded("lstm", "layer")
    padded.layer.backend = "fused"
    x, lengths = torch.randn(6, 3, INPUTS), torch.tensor([6, 2, 4])
    assert padded(x, lengths)[0].shape[:2] == (6, 3)
    with pytest.raises(ValueError, match="an exported program read padding; expected backend='a"):
        torch.export.export(padded, (x, lengths))
