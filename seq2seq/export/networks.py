"""The networks of a translator as ONNX files, for any number and length of sentences."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ..model import Translator
from .graphs import EncoderGraph, StepGraph, memory_names, plain

NETWORKS = ("encoder", "decoder_step")
"""The files' names, without .onnx."""
SOURCE, SENTENCES, ROWS = (Dim(name, min=1) for name in ("steps", "sentences", "hypotheses"))
OPSET = 20
"""Version of ONNX's operators."""


@torch.no_grad()
def write_networks(model: Translator, folder: Path) -> None:
    """Write encoder.onnx and decoder_step.onnx, in float32.

    RuntimeError with the cause where torch cannot export the model.
    """
    model = plain(model)
    src, lengths = torch.full((3, 5), model.vocabulary.eos_id), torch.tensor([5, 3, 1])
    encoder, names = EncoderGraph(model), memory_names(model)
    state, *memory = encoder(src, lengths)
    _write(
        encoder,
        {"src": src, "src_lengths": lengths},
        ({0: SENTENCES, 1: SOURCE}, {0: SENTENCES}),
        ["state", *names],
        folder / "encoder.onnx",
    )
    parts = len(model.bridge.projections[0])  # type: ignore[arg-type]
    inputs = {"words": lengths, "step": torch.arange(3), "state": state}
    inputs |= dict(zip(names, memory, strict=True))
    free = [{0: ROWS}] * 3
    _write(
        StepGraph(model, parts),
        inputs,
        (*free, tuple({0: ROWS, 1: SOURCE} for _ in names)) if names else tuple(free),
        ["log_probs", "next_state"],
        folder / "decoder_step.onnx",
    )


def _write(
    graph: nn.Module, inputs: dict[str, Tensor], shapes: Any, outputs: list[str], path: Path
) -> None:
    """Export a graph with these inputs as an example."""
    with _silence():
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)
    if any(isinstance(size, int) for value in program.model.graph.inputs for size in _free(value)):
        raise RuntimeError(
            f"{path.name}: torch has exported it for one shape alone; expected free sizes (torch"
            f" {torch.__version__})"
        )


def _free(value: Any) -> Any:
    """Return the sizes of an input that have to be free: hypotheses or sentences, and steps."""
    return value.shape[: 2 if value.name in ("src", "mask", "memory", "keys") else 1]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress and its advice to programmers from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
