"""Sentences and models for tests of the search."""

from typing import Any

import numpy as np
import torch

from seq2seq.config import CellConfig, ModelConfig
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import NormConfig, NormKind, Statistics

NORMS = {
    "none": NormConfig(kind=NormKind.none),
    "layer": NormConfig(),
    "per step": NormConfig(kind=NormKind.batch),
    "shared": NormConfig(kind=NormKind.batch, statistics=Statistics.shared),
}


def sentences(count: int = 40) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(4, 30, random.integers(1, 12)).tolist() for _ in range(count)]


def translator(norm: NormConfig, seed: int = 3, **changes: Any) -> Translator:
    """Return a model whose translations have many lengths."""
    torch.manual_seed(seed)
    settings = {"embedding_size": 16, "hidden_size": 24, "dropout": 0.0, "init_scale": 0.7}
    model = Translator(
        ModelConfig(**(settings | changes)), norm, CellConfig(), Vocabulary(30, 40, False)
    )
    for name, buffer in model.named_buffers():  # as if trained: other statistics at every step
        if "running_mean" in name:
            buffer.normal_(0, 0.3)
        elif "running_var" in name:
            buffer.uniform_(0.3, 2)
        elif "steps_seen" in name:
            buffer.fill_(20)
    with torch.no_grad():
        model.output.bias[3] = 1.5
    return model.eval()
