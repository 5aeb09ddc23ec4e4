"""The two networks of a search with tensors in and out: the encoder, and a step of the decoder.

B sentences, R hypotheses, S source steps, H hidden, A attentional state, V vocabulary, F features
of a state.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from ..config import Attention
from ..model import DecoderState, Memory, Translator
from ..rnn import RecurrentLayers, State, as_state


def plain(model: Translator) -> Translator:
    """Return a copy of a model in eval mode, in float32 on the CPU, that uses plain torch alone."""
    copied = copy.deepcopy(model).float().cpu().eval()
    for module in copied.modules():
        if hasattr(module, "backend"):
            module.backend = "reference"  # type: ignore[assignment]
    return copied


def memory_names(model: Translator) -> list[str]:
    """Return what the encoder hands to each step of the decoder, apart from its state."""
    kind = model.config.attention
    if kind is Attention.none:
        return []
    return ["mask", "memory"] if kind is Attention.dot else ["mask", "memory", "keys"]


def joined(state: DecoderState) -> Tensor:
    """Return a state as one tensor (R, F): each layer's h, an LSTM's c, and what is fed back."""
    parts = [part for layer in state.layers for part in layer]
    return torch.cat(parts if state.feed is None else [*parts, state.feed], dim=1)


class EncoderGraph(nn.Module):
    """What is computed once for a sentence."""

    def __init__(self, model: Translator) -> None:
        super().__init__()
        self.model = model

    def forward(self, src: Tensor, src_lengths: Tensor) -> tuple[Tensor, ...]:
        """Return the decoder's first state, and the memory that its steps read.

        src (B, S) are ids, each sentence ends in eos and is padded; src_lengths (B,) count eos.
        Returns state (B, F); with attention mask (B, S) and memory (B, S, H); unless it is dot
        attention, keys (B, S, H). Their values on padding have no meaning.
        """
        encoder, decoder = self.model.encoder, self.model.decoder
        rows, last = self.model.src_embedding(src.transpose(0, 1)), list[State]()  # (S, B, E)
        for i, layer in enumerate(encoder.layers):
            output, hx = cast(RecurrentLayers, layer).over_padded(rows, src_lengths)
            rows = output + rows if i and encoder.residual else output
            last.append(tuple(torch.cat(tuple(part), dim=1) for part in as_state(hx)))
        state = joined(decoder.first_state(self.model.bridge(last)))
        if decoder.attention is None:
            return (state,)
        mask = torch.arange(src.size(1), device=src.device) < src_lengths.unsqueeze(1)
        memory = rows.transpose(0, 1)
        found = (state, mask, memory)
        if decoder.attention.kind is Attention.dot:
            return found
        return (*found, decoder.attention.keys(memory))


class StepGraph(nn.Module):
    """A step of the decoder."""

    def __init__(self, model: Translator, parts: int) -> None:
        """`parts` is the number of parts of a layer's state: 2 of an LSTM (h and c), else 1."""
        super().__init__()
        self.model, self.parts = model, parts
        self.never = torch.zeros(model.vocabulary.tgt_size)
        self.never[[model.vocabulary.pad_id, model.vocabulary.bos_id]] = float("-inf")

    def forward(
        self, words: Tensor, step: Tensor, state: Tensor, *memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities (R, V) of the next words, in nats, and the next state.

        Those of pad and bos are minus infinity: a search never chooses these.

        words (R,) are the previous words, bos at step 0. step (R,) is the number of each
        hypothesis' words: batch norm has statistics for each. `memory` is that of the encoder, with
        a row for each hypothesis.
        """
        if memory:
            mask, states, *keys = memory
            read = Memory(states, keys[0] if keys else states, mask)
        else:
            read = Memory(state, state, state)  # without attention nothing reads it
        logits, after, _ = self.model.step(words, self.split(state, step), read)
        return torch.log_softmax(logits, dim=1) + self.never, joined(after)

    def split(self, state: Tensor, step: Tensor) -> DecoderState:
        """Return what `joined` has made one tensor (R, F)."""
        decoder, hidden = self.model.decoder, self.model.config.hidden_size
        layers = len(decoder.layers)
        fed = [decoder.size] * decoder.input_feeding
        parts = state.split([hidden] * (layers * self.parts) + fed, dim=1)
        states = [tuple(parts[i * self.parts : (i + 1) * self.parts]) for i in range(layers)]
        return DecoderState(states, parts[-1] if fed else None, step)
