"""Embeddings of words, and what the first product of a recurrent layer makes of them.

N rows, E embedding, V vocabulary, F features of a layer's input term.
"""

from threading import Lock
from typing import cast

import torch
from torch import Tensor, nn

from ..rnn import Freezable, RecurrentLayers, product_dtype

MOST_BYTES = 1 << 24
"""Size of the largest table of input terms; memory is used for the words that were read."""


class InputTerms:
    """A cache of a layer's input terms W_ih x by word. When it is full a new one begins."""

    def __init__(self, layer: RecurrentLayers, embedding: nn.Embedding, dtype: torch.dtype) -> None:
        """Prepare an empty table for the words of an embedding."""
        self.layer, self.embedding, self.dtype = layer, embedding, dtype
        self.lock = Lock()
        self.begin()

    def begin(self) -> None:
        """Begin a new table, while others may still read the old one."""
        words, width = self.embedding.num_embeddings, self.layer.projected_size
        most = max(1, MOST_BYTES // (width * self.dtype.itemsize))
        with torch.inference_mode(False):  # it is written to in and outside of inference mode
            self.places = torch.full((words,), -1)  # (V,) of each word; -1: not read yet
            self.rows = torch.empty(min(words, most), width, dtype=self.dtype)  # (places, F)
        self.used = 0

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places (N,) of words (N,) in a table of input terms, and the table (V, F)."""
        with self.lock:
            places = self.places.index_select(0, ids)
            if len(missing := ids[places < 0]):
                missing = missing.unique()
                if self.used + len(missing) > len(self.rows):
                    missing = ids.unique()
                    self.begin()
                if len(missing) > len(self.rows):
                    return torch.arange(len(ids)), self.layer.project(self.embedding(ids))
                self.add(missing)
                places = self.places.index_select(0, ids)
            return places, self.rows

    def add(self, words: Tensor) -> None:
        """Compute the rows of words that are not in the table."""
        end = self.used + len(words)
        self.rows[self.used : end] = self.layer.project(self.embedding(words))
        self.places[words] = torch.arange(self.used, end)
        self.used = end


class Embedding(nn.Embedding, Freezable):
    """torch.nn.Embedding that within `frozen` keeps a layer's product with each word's vector.

    A text repeats its words, and a search reads each of them many times.
    """

    def inputs(self, ids: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Return what a layer reads of words (N,), and its `projected`.

        Where input terms are kept, rows (N,) of their table and the table (V, F), else the words'
        vectors (N, E) and None. A kept row has the bits that the layer itself would compute.
        """
        terms = self._terms(cast(RecurrentLayers, layer))
        return (self(ids), None) if terms is None else terms.read(ids)

    def _terms(self, layer: RecurrentLayers) -> InputTerms | None:
        kept = self.kept()
        if kept is None:
            return None
        dtype = product_dtype(self.weight)
        key = layer, dtype
        if key not in kept:
            serves = layer.input_size == self.embedding_dim and layer.packs_products()
            kept[key] = InputTerms(layer, self, dtype) if serves else None
        found: InputTerms | None = kept[key]
        return found
