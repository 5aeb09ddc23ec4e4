"""The trained model of a run."""

import torch

from ..config import Config, Tying
from ..data.tokenizer import Tokenizers
from ..model import Translator, Vocabulary
from ..runs.checkpoint import group, load_checkpoint, load_weights
from ..runs.folder import Run


def ready_tokenizers(config: Config, run: Run | None = None) -> Tokenizers | None:
    """Return tokenizers that a run does not make itself; None where its corpus decides them.

    A run that has begun has them in its folder, and no longer needs what they came from.
    """
    if config.init_from is None and config.tokenizer.model is None:
        return None
    if run is not None and not config.overwrite and (run.folder / "tokenizer.json").is_file():
        return Tokenizers.load(run.folder)
    return None if config.init_from is None else Tokenizers.load(Run.open(config.init_from).folder)


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
