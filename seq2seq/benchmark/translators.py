"""Whole translators as contestants: parameter updates and search, by norm."""

from functools import partial

import torch

from ..config import CellConfig, DecodeConfig, ModelConfig
from ..model import Translator, Vocabulary
from ..rnn import NormConfig, NormKind
from ..translation.search import search_in_batches
from .layers import NORMS
from .timing import Run

BEAMS = (1, 5)


def translators(config: ModelConfig, vocabulary: int) -> dict[str, Translator]:
    """Return a translator of each norm with fresh weights."""
    torch.manual_seed(0)
    return {
        f"norm={norm}": Translator(
            config,
            NormConfig(kind=NormKind[norm]),
            CellConfig(),
            Vocabulary(vocabulary, vocabulary, True),
        )
        for norm in NORMS
    }


def updates(models: dict[str, Translator], sentences: int, words: int) -> dict[str, Run]:
    """Return contestants that update a translator's parameters by one batch."""
    runs: dict[str, Run] = {}
    lengths = torch.full((sentences,), words)
    for name, model in models.items():
        ids = torch.randint(4, model.vocabulary.tgt_size, (sentences, words))
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        runs[name] = partial(training_update, model, optimizer, (ids, lengths, ids, lengths))
    return runs


def training_update(
    model: Translator, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]
) -> None:
    """Update the parameters once, without label smoothing or clipping."""
    optimizer.zero_grad(set_to_none=True)
    model(*batch)[0].backward()
    optimizer.step()


def searches(models: dict[str, Translator], sentences: int, words: int) -> dict[str, Run]:
    """Return contestants that translate sentences, greedily and with a beam."""
    runs: dict[str, Run] = {}
    for name, model in models.items():
        ids = torch.randint(4, model.vocabulary.src_size, (sentences, words)).tolist()
        for beam in BEAMS:
            runs[f"{name} beam={beam}"] = partial(search, model.eval(), ids, beam)
    return runs


def search(model: Translator, sentences: list[list[int]], beam: int) -> None:
    """Translate all sentences, to their largest length at most."""
    list(search_in_batches(model, sentences, DecodeConfig(beam_size=beam, max_length="1x")))
