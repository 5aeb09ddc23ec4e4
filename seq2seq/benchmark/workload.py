"""What the applications work on: a prepared corpus, its batches, and sentences to translate."""

from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from ..config import Config, TextOrigin
from ..data.dataset import ParallelDataset, Prepared
from ..data.preparation import prepare
from ..training.evaluation import training_batches

PEERS = (
    *("tokenizer=bpe", "tokenizer.vocab_size=8000", "tokenizer.joint=true"),
    *("model=base", "model.embedding_size=256", "model.hidden_size=512", "model.dropout=0.4"),
    *("model.encoder_layers=1", "model.decoder_layers=1", "model.bidirectional=true"),
    *("model.attention=general", "model.input_feeding=false", "model.tying=none"),
    *("data.batch_tokens=null", "data.batch_sentences=64", "data.bucket_batches=1"),
    *("optimizer=adam", "trainer.label_smoothing=0.1", "decode.batch_size=64"),
)
"""The sizes for published corpora, written out so that later defaults do not change them."""
SMALL = ("model=tiny", "data.batch_tokens=null", "data.batch_sentences=8")
"""The sizes of --size small."""
SMALL_CORPUS = tuple(
    f"data.grammar_splits.{split}.count={count}"
    for split, count in {"train": 400, "valid": 50, "test": 20, "test_long": 20}.items()
)
"""A built-in corpus for --size small."""


def preset(origin: TextOrigin, size: str) -> tuple[str, ...]:
    """Return the settings, as overrides of train.py, for a corpus and a size (small, full)."""
    if size == "small":
        return (*SMALL, *(SMALL_CORPUS if origin is TextOrigin.grammar else ()))
    return PEERS if origin is TextOrigin.published else ()


@dataclass
class Workload:
    """A prepared corpus and the parts of it that are measured."""

    config: Config
    prepared: Prepared
    train: ParallelDataset
    batches: list[NDArray[np.int64]]
    """Positions of the sentences of each update, in batches of any length."""
    by_length: list[NDArray[np.int64]]
    """The same sentences, in batches of similar lengths."""
    sentences: list[list[int]]
    """Source sentences to translate, without eos."""

    @property
    def tokens(self) -> int:
        """Number of target tokens of all updates, eos included and padding not."""
        return int(sum(self.train.tgt_lengths[batch].sum() for batch in self.batches))


def workload(config: Config, updates: int, count: int) -> Workload:
    """Prepare a corpus as training does, and take what is measured.

    `updates` batches from the start of training, and the first `count` source sentences of valid.
    """
    prepared = prepare(config.data, config.tokenizer, progress=False)
    train, valid = prepared.split("train"), prepared.split("valid")
    batches = first_batches(train, config, updates)
    pool = np.concatenate(batches)
    pool = pool[np.lexsort((train.src_lengths[pool], train.tgt_lengths[pool]))]
    by_length = np.array_split(pool, len(batches))
    found = (valid.src(i).tolist() for i in range(min(count, len(valid))))
    return Workload(config, prepared, train, batches, by_length, [s for s in found if s])


def first_batches(train: ParallelDataset, config: Config, count: int) -> list[NDArray[np.int64]]:
    """Return the positions of the sentences of the first batches of a training."""
    sampler = training_batches(train, config)
    epochs = chain.from_iterable(iter(lambda: list(sampler), None))
    return list(islice(epochs, count))
