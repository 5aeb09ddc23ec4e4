"""The translator: embeddings, encoder, bridge, decoder and output layer.

B sentences, R hypotheses, S source and T target steps, N packed rows, E embedding, A attentional
state, V vocabulary, W words of a shortlist. A word here is a piece of the vocabulary, by its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import CellConfig, ModelConfig, Tying
from ..rnn import NormConfig, is_norm_parameter, load_kernels, product_dtype
from . import kernels
from .decoder import Decoder, DecoderState
from .dropout import Dropout, drop_words
from .embedding import Embedding
from .encoder import Bridge, Encoder
from .linear import Linear
from .loss import linear_cross_entropy
from .memory import Memory
from .packing import Packing
from .recurrent_weights import recurrent_weights, set_spectral_radius
from .weight_drop import call_with_dropped_weights

STEP_MULTIPLE = 8
"""With bfloat16 products on a CPU, batches have a multiple of so many time steps.

oneDNN keeps half a megabyte for every new shape (docs/speed.md).
"""


@dataclass
class Vocabulary:
    """Sizes and special ids of the tokenizers, as far as the model needs them."""

    src_size: int
    tgt_size: int
    shared: bool
    """Whether source and target have one vocabulary."""
    pad_id: int = 0
    bos_id: int = 2
    eos_id: int = 3

    @property
    def never_next(self) -> list[int]:
        """Ids that no word of a translation has."""
        return [self.pad_id, self.bos_id]


class Translator(nn.Module):
    """Encoder-decoder with attention over subword ids (Sutskever et al. 2014, Luong et al. 2015).

    It models p(tgt | src) = prod_t p(y_t | y_<t, src) with
    p(y_t | y_<t, src) = softmax(W h~_t + b) (Luong et al. 2015, eq. 6), h~_t the decoder's
    attentional state.
    """

    def __init__(
        self,
        config: ModelConfig,
        norm: NormConfig,
        cell: CellConfig,
        vocabulary: Vocabulary,
        backend: str = "auto",
        drawn: bool = True,
    ) -> None:
        """Make a model, its weights drawn if asked; ValueError where tying is not possible."""
        super().__init__()
        if config.tying is Tying.all and not vocabulary.shared:
            raise ValueError(
                "model.tying=all shares the source's embeddings with the target's: it needs "
                "tokenizer.joint=true"
            )
        self.config, self.vocabulary, self.backend = config, vocabulary, backend
        embedding, pad_id = config.embedding_size, vocabulary.pad_id
        self.src_embedding = Embedding(vocabulary.src_size, embedding, pad_id)
        self.tgt_embedding = Embedding(vocabulary.tgt_size, embedding, pad_id)
        self.encoder = Encoder(config, norm, cell, backend)
        self.bridge = Bridge(config, cell, backend)
        self.decoder = Decoder(config, norm, cell, backend)
        self.output = Linear(self.decoder.size, vocabulary.tgt_size, True, backend)
        self.tie()
        if drawn:
            self.reset_parameters()

    def tie(self) -> None:
        """Let embeddings and output layer share their weights as `model.tying` says."""
        if self.config.tying is not Tying.none:
            self.output.weight = self.tgt_embedding.weight
        if self.config.tying is Tying.all:
            self.src_embedding.weight = self.tgt_embedding.weight

    def reset_parameters(self) -> None:
        """Draw weights and biases from U(-init_scale, init_scale).

        Gains and shifts of norms keep the initial values of their layer. With `spectral_radius`
        each W_hh is then multiplied, gate by gate, to have this radius.
        """
        scale = self.config.init_scale
        for name, parameter in self.named_parameters():
            if not is_norm_parameter(name):
                nn.init.uniform_(parameter, -scale, scale)
        with torch.no_grad():
            if self.config.spectral_radius is not None:
                for _, weight in recurrent_weights(self):
                    set_spectral_radius(weight, self.config.spectral_radius)
            for embedding in (self.src_embedding, self.tgt_embedding):
                embedding.weight[self.vocabulary.pad_id].zero_()

    @property
    def device(self) -> torch.device:
        """That of the weights."""
        return self.output.weight.device

    def load_kernels(self) -> None:
        """Compile or load the fused kernels now, where the first forward pass would do so.

        Raises RuntimeError if backend=fused is configured and cannot be had.
        """
        device = self.output.weight.device
        if load_kernels(device, self.backend) and device.type == "cpu":
            kernels.load()

    def _dropout(self, packing: Packing) -> Dropout:
        p = self.config.dropout if self.training else 0.0
        return Dropout(p, self.config.variational, packing)

    def _inputs(
        self, embedding: Embedding, layer: nn.Module, words: Tensor, packing: Packing
    ) -> tuple[Tensor, Tensor | None]:
        """Return what a layer reads of words (B, T), packed: see `Embedding.inputs`.

        In training the words' vectors, after word dropout: rows of a table take no dropout.
        """
        ids = packing.pack(words)
        if not self.training:
            return embedding.inputs(ids, layer)
        return drop_words(embedding(ids), ids, packing, self.config.word_dropout), None

    def _call(self, module: nn.Module, *arguments: Any) -> Any:
        """Return what encoder or decoder return, in training with dropout on W_hh."""
        p = self.config.recurrent_dropout if self.training else 0.0
        return call_with_dropped_weights(module, p, *arguments)

    def forward(
        self,
        src: Tensor,
        src_lengths: Tensor,
        tgt: Tensor,
        tgt_lengths: Tensor,
        smoothing: float = 0.0,
        divisor: float = 1.0,
        r_drop: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss with label smoothing, and the negative log-likelihood, in nats.

        Both are sums over target tokens; the loss is divided by `divisor`. src (B, S) and tgt
        (B, T) are ids that end in eos and are padded; the lengths (B,) count eos.

        With `r_drop` every sentence passes twice, with different dropout. Loss and likelihood are
        means of both passes; the loss adds r_drop / 4 (KL(p || r) + KL(r || p)), see loss.py.
        """
        if r_drop:  # both passes of a word become neighbours, as Packing keeps equal lengths' order
            src, src_lengths, tgt, tgt_lengths = (
                ids.repeat_interleave(2, dim=0) for ids in (src, src_lengths, tgt, tgt_lengths)
            )
        if self._pads_steps():
            src, tgt = (self._padded_to_multiple(ids) for ids in (src, tgt))
        memory, state = self.encode(src, src_lengths)
        packing = Packing(tgt_lengths, tgt.size(1), tgt.device)
        states, _ = self.decode(memory, state, tgt, packing)  # (N, A)
        weight, bias = self.output.weight, self.output.bias
        return linear_cross_entropy(
            states, weight, bias, packing.pack(tgt), smoothing, divisor, r_drop, self.backend
        )

    def _pads_steps(self) -> bool:
        """Return whether attention's products may be oneDNN's, in bfloat16 on a CPU."""
        weight = self.output.weight
        return weight.device.type == "cpu" and product_dtype(weight) is torch.bfloat16

    def _padded_to_multiple(self, ids: Tensor) -> Tensor:
        """Return ids (B, T) padded to a multiple of STEP_MULTIPLE."""
        return F.pad(ids, (0, -ids.size(1) % STEP_MULTIPLE), value=self.vocabulary.pad_id)

    def encode(self, src: Tensor, src_lengths: Tensor) -> tuple[Memory, DecoderState]:
        """Return the memory of src (B, S) and the decoder's first state; src_lengths (B,)."""
        packing = Packing(src_lengths, src.size(1), src.device)
        dropout = self._dropout(packing)
        rows, projected = self._inputs(self.src_embedding, self.encoder.layers[0], src, packing)
        rows = dropout("source", rows)
        states, last = self._call(self.encoder, rows, packing, dropout, projected)
        lengths = src_lengths.to(src.device, non_blocking=True)
        mask = torch.arange(src.size(1), device=src.device) < lengths[:, None]
        memory = self.decoder.memory(states, packing, mask)
        return memory, self.decoder.first_state(self.bridge(last))

    def decode(
        self,
        memory: Memory,
        state: DecoderState,
        tgt: Tensor,
        packing: Packing,
        keep_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return attentional states (N, A), packed, teacher-forced; weights (B, T, S) if kept.

        Step t reads word t - 1 of tgt (B, T); step 0 reads bos.
        """
        dropout = self._dropout(packing)
        previous = F.pad(tgt[:, :-1], (1, 0), value=self.vocabulary.bos_id)
        layer = self.decoder.layers[0]
        rows, projected = self._inputs(self.tgt_embedding, layer, previous, packing)
        rows = dropout("target", rows)
        states, weights = self._call(
            self.decoder, rows, packing, state, memory, dropout, keep_weights, projected
        )
        return states, weights

    def step(
        self,
        tokens: Tensor,
        state: DecoderState,
        memory: Memory,
        shortlist: Tensor | None = None,
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Return logits (R, V) of the next word, the next state and weights (R, S).

        tokens (R,) are the previous words. A shortlist (B, W) has the words of each sentence, then
        -1; the logits are then (R, W).
        """
        states, state, weights = self._step(tokens, state, memory)
        if shortlist is None:
            return self.output(states).float(), state, weights
        weight, bias = self.output.weight, self.output.bias
        logits = kernels.shortlist_logits(states, weight, bias, shortlist, self.backend)
        return logits, state, weights

    def best_step(
        self, tokens: Tensor, state: DecoderState, memory: Memory, count: int
    ) -> tuple[Tensor, Tensor, DecoderState, Tensor | None]:
        """Return the best next words but pad and bos, in place of the logits of `step`.

        Their log-probabilities and ids (R, count), the likeliest first; the next state and weights.
        """
        states, state, weights = self._step(tokens, state, memory)
        return *self.output.best_words(states, self.vocabulary.never_next, count), state, weights

    def _step(
        self, tokens: Tensor, state: DecoderState, memory: Memory
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        rows, projected = self.tgt_embedding.inputs(tokens, self.decoder.layers[0])
        return self.decoder.step(rows, state, memory, projected=projected)

    def attention(
        self, src: Tensor, src_lengths: Tensor, tgt: Tensor, tgt_lengths: Tensor
    ) -> Tensor | None:
        """Return the attention weights (B, T, S), teacher-forced; None without attention."""
        memory, state = self.encode(src, src_lengths)
        packing = Packing(tgt_lengths, tgt.size(1), tgt.device)
        return self.decode(memory, state, tgt, packing, keep_weights=True)[1]


def count_parameters(modules: Sequence[nn.Module]) -> int:
    """Return the number of trainable values; a shared parameter counts once."""
    trainable = {id(p): p for m in modules for p in m.parameters() if p.requires_grad}
    return sum(p.numel() for p in trainable.values())
