"""The subject of a probe: a model, its run, and text of its corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Config, DecodeConfig
from ..data.batches import Batch, as_batch
from ..data.corpora import read_split, splits
from ..data.dataset import Prepared
from ..data.shortlist import shortlist_for
from ..data.tokenizer import Tokenizer
from ..model import Translator
from ..rnn import RecurrentLayers
from ..translation.lines import Session


@dataclass
class Subject:
    """A model in eval mode, with the configuration and corpus of its run."""

    model: Translator
    config: Config
    prepared: Prepared

    def session(self, decode: DecodeConfig | None = None) -> Session:
        """Return what translates with this model, by the configured search or another one."""
        config, prepared = self.config, self.prepared
        search, precision = decode or config.decode, config.trainer.precision
        shortlist = shortlist_for(search, prepared)
        return Session(self.model, prepared.tokenizers, search, precision, shortlist=shortlist)

    def first_layer(self) -> RecurrentLayers:
        """Return the encoder's first layer."""
        layer = self.model.encoder.layers[0]
        assert isinstance(layer, RecurrentLayers)
        return layer

    @torch.no_grad()
    def running_text(self, length: int) -> Tensor:
        """Return embedded training text (length, `probe.sentences`, E), sentence after sentence.

        The source sentences, with eos between them, are cut into rows. A short corpus repeats.
        """
        dataset, rows = self.prepared.split("train"), self.config.probe.sentences
        ids: list[int] = []
        for i in range(len(dataset)):
            ids += [*dataset.src(i).tolist(), Tokenizer.eos_id]
            if len(ids) >= rows * length:
                break
        cut = torch.from_numpy(np.resize(np.array(ids), (rows, length))).to(self.model.device)
        rows_first: Tensor = self.model.src_embedding(cut)
        return rows_first.transpose(0, 1)

    def test_sets(self) -> list[str]:
        """Return those of the configured test sets that the corpus has."""
        return [name for name in self.config.probe.test_sets if name in splits(self.config.data)]

    def lines(self, split: str) -> tuple[list[str], list[str]]:
        """Return the source and target lines of a split."""
        return read_split(self.config.data, split)

    def batch(self, src: Sequence[str], tgt: Sequence[str]) -> Batch:
        """Return these pairs of text as one batch."""
        tokenizers = self.prepared.tokenizers
        source = [np.array(tokenizers.source.encode(line), np.int64) for line in src]
        target = [np.array(tokenizers.target.encode(line), np.int64) for line in tgt]
        return as_batch(source, target, np.arange(len(src)))

    def batches(self, split: str, sentences: int, most: int) -> list[Batch]:
        """Return at most `most` batches of `sentences` pairs, from the start of a split."""
        src, tgt = self.lines(split)
        starts = range(0, min(len(src), sentences * most), sentences)
        return [self.batch(src[i : i + sentences], tgt[i : i + sentences]) for i in starts]
