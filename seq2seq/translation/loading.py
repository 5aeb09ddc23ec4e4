"""The trained model of a run, and its shortlist."""

from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import torch

from ..config import Config, DecodeConfig, Tying
from ..data.preparation import prepare
from ..data.shortlist import Shortlist, shortlist_for
from ..data.tokenizer import Tokenizers
from ..errors import DataError
from ..files import exists
from ..model import Translator, Unset, Vocabulary
from ..rnn import NormKind
from ..runs.checkpoint import (
    check_memory,
    group,
    load_checkpoint,
    load_weights,
    shapes_of,
)
from ..runs.folder import Run


def ready_tokenizers(config: Config, run: Run | None = None) -> Tokenizers | None:
    """Return tokenizers that a run does not make itself; None where its corpus decides them.

    A run that has begun has them in its folder, and no longer needs what they came from.
    """
    if config.init_from is None and config.tokenizer.model is None:
        return None
    if run is not None and not config.overwrite and exists(run.folder / "tokenizer.json"):
        return Tokenizers.load(run.folder)
    return None if config.init_from is None else Tokenizers.load(Run.open(config.init_from).folder)


def build_translator(config: Config, tokenizers: Tokenizers, drawn: bool = True) -> Translator:
    """Return a model as configured, with weights that are drawn, or without values."""
    source, target = tokenizers.source, tokenizers.target
    shared = tokenizers.joint or (config.model.tying is Tying.all and source is target)
    vocabulary = Vocabulary(
        source.vocab_size, target.vocab_size, shared, target.pad_id, target.bos_id, target.eos_id
    )
    with nullcontext() if drawn else Unset():
        return Translator(
            config.model, config.norm, config.cell, vocabulary, config.backend.value, drawn
        )


def check_size(
    path: Path, found: dict[str, torch.Size], config: Config, tokenizers: Tokenizers
) -> None:
    """Raise CheckpointError where the model of config.yaml is far larger than a run's checkpoint.

    `found` are the shapes of its tensors by name. Where all sizes of config.yaml are among them,
    nothing else is asked: to make shapes without memory takes torch a second.
    """
    rows, columns = ({s[side] for s in found.values() if len(s) == 2} for side in (0, 1))
    m, norm = config.model, config.norm
    known = {m.embedding_size, m.hidden_size} <= columns
    known &= norm.kind is not NormKind.batch or norm.max_steps in rows
    if not known or m.encoder_layers + m.decoder_layers > len(found):
        check_memory(path, found, partial(expected_shapes, config, tokenizers))


def expected_shapes(config: Config, tokenizers: Tokenizers) -> dict[str, torch.Size]:
    """Return the shapes of a model's tensors by name, without memory for them."""
    with torch.device("meta"):
        model = build_translator(config, tokenizers)
    return shapes_of(model.state_dict())


def load_shortlist(decode: DecodeConfig, run: Run, tokenizers: Tokenizers) -> Shortlist | None:
    """Return the shortlist that a search asks for, of a run's training pairs; None: none.

    The first time it comes from the run's corpus; the run's folder keeps it if it may be written.
    DataError if the corpus cannot be had, or is not the one that the run was trained on.
    """
    if not decode.shortlist:
        return None
    if exists(run.shortlist_file):
        shortlist = Shortlist.load(run.shortlist_file, tokenizers.target.vocab_size)
        if len(shortlist.candidates) != tokenizers.source.vocab_size:
            raise DataError(
                f"{run.shortlist_file}: for {len(shortlist.candidates):,} source pieces, not the"
                f" run's {tokenizers.source.vocab_size:,}; delete it, and it is learnt again"
            )
        return shortlist
    config = run.config()
    ready = ready_tokenizers(config, run)
    prepared = prepare(config.data, config.tokenizer, config.trainer.progress, ready)
    if prepared.tokenizers.identity != tokenizers.identity:
        raise DataError(
            f"{run.folder}: its corpus has other tokenizers now; expected the text that the run"
            " was trained on, from which a shortlist is learnt"
        )
    learnt = shortlist_for(decode, prepared)
    assert learnt is not None
    with suppress(OSError):  # a folder that may only be read: the corpus keeps it, too
        learnt.save(run.shortlist_file)
    return learnt


def load_translator(
    run: Run, device: torch.device, checkpoint: str = "best"
) -> tuple[Translator, Tokenizers]:
    """Return the model of a run's checkpoint, in eval mode, and the run's tokenizers.

    Its weights are those of the file, which is mapped into memory: there is no second copy.
    CheckpointError if the checkpoint is missing, damaged or of another architecture.
    """
    tokenizers = Tokenizers.load(run.folder)
    config, path = run.config(), run.checkpoint(checkpoint)
    weights = group(load_checkpoint(path)[0], "model")
    check_size(path, shapes_of(weights), config, tokenizers)
    model = build_translator(config, tokenizers, drawn=False)
    load_weights(model, weights, path, assign=True)
    model.tie()
    return model.to(device).eval(), tokenizers
