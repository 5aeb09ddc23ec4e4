"""What a run starts with: random weights, pretrained embeddings, or the weights of another run."""

from pathlib import Path

import torch

from ..config import TokenizerKind
from ..data.embeddings import read_embeddings, vocabulary
from ..errors import DataError
from ..runs.checkpoint import group, load_checkpoint, load_weights
from ..runs.folder import Run
from ..shown import counted
from ..stored import naming_damage
from .state import TrainingState


def set_initial_weights(state: TrainingState) -> list[str]:
    """Give the model of a new run the weights that its settings ask for.

    Return a line about each file or run that they are from. There is none for random weights, and
    for a run that goes on from a checkpoint.
    """
    config, model, tokenizers = state.config, state.model, state.prepared.tokenizers
    if not config.overwrite and state.run.resumable():
        return []
    if config.init_from is not None:
        if not config.overwrite:
            state.run.check_origin(config.init_from)
        return [_from_run(state, Run.open(config.init_from))]
    asked = (
        ("source", config.model.source_embeddings, tokenizers.source, model.src_embedding),
        ("target", config.model.target_embeddings, tokenizers.target, model.tgt_embedding),
    )
    remarks = []
    for side, file, tokenizer, embedding in asked:
        if file is None:
            continue
        key = f"model.{side}_embeddings={file}"
        if tokenizer.kind is not TokenizerKind.word:
            raise DataError(
                f"{key}: expected a tokenizer of words; that of the {side} has pieces of kind"
                f" {tokenizer.kind.value}"
            )
        words = vocabulary(tokenizer)
        ids, rows = read_embeddings(Path(file), words, embedding.embedding_dim)
        if not len(ids):
            raise DataError(
                f"{key}: has none of the {counted(len(words), 'word')} of the {side}; expected"
                f" embeddings of words in language {tokenizer.language}"
            )
        with torch.no_grad():
            embedding.weight[torch.from_numpy(ids)] = torch.from_numpy(rows).to(state.device)
        share = len(ids) / len(words)
        remarks.append(f"{key}: {len(ids):,} of {counted(len(words), 'word')} ({share:.1%})")
    return remarks


def _from_run(state: TrainingState, run: Run) -> str:
    """Load the best weights of another run, with batch norm's statistics."""
    origin, path = run.as_origin(), run.checkpoint("best")
    tensors, header = load_checkpoint(path)
    load_weights(state.model, group(tensors, "model"), path)
    state.origin = origin
    with naming_damage(path):
        update = header.get("progress", {}).get("update", "?")
    unfinished = "" if run.is_finished() else "; that run has not finished"
    return f"init_from={run.folder}: its best weights, of update {update}{unfinished}"
