"""The trained model of a run."""

import torch

from ..config import Config, Tying
from ..data.tokenizer import Tokenizers
from ..model import Translator, Vocabulary
from ..runs.checkpoint import group, load_checkpoint, load_weights
from ..runs.folder import Run


def build_translator(config: Config, tokenizers: Tokenizers) -> Translator:
    """Return a model as configured, with fresh weights."""
    source, target = tokenizers.source, tokenizers.target
    shared = tokenizers.joint or (config.model.tying is Tying.all and source is target)
    vocabulary = Vocabulary(
        source.vocab_size, target.vocab_size, shared, target.pad_id, target.bos_id, target.eos_id
    )
    return Translator(config.model, config.norm, config.cell, vocabulary, config.backend.value)


def load_translator(
    run: Run, device: torch.device, checkpoint: str = "best"
) -> tuple[Translator, Tokenizers]:
    """Return the model of a run's checkpoint, in eval mode, and the run's tokenizers.

    CheckpointError if the checkpoint is missing, damaged or of another architecture.
    """
    tokenizers = Tokenizers.load(run.folder)
    model = build_translator(run.config(), tokenizers)
    path = run.checkpoint(checkpoint)
    load_weights(model, group(load_checkpoint(path)[0], "model"), path)
    return model.to(device).eval(), tokenizers
