"""Text to text: lines in, detokenized translations out, and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..config import DecodeConfig, Precision, TokenizerKind
from ..data.text import WITHOUT_SPACES
from ..data.tokenizer import SPACE, Tokenizer, Tokenizers
from ..device import autocast
from ..figures import attention_figure, save_figure
from ..model import Translator
from ..runs.logbook import refresh_seconds
from .search import Hypothesis, search_in_batches


@dataclass
class Translation:
    """One translation of one line."""

    text: str
    score: float
    """Log-probability in nats over length ** length_penalty."""
    src_pieces: list[str]
    """As they are written in the line, also those the vocabulary doesn't know."""
    tgt_pieces: list[str]
    attention: Tensor | None
    """(T, S) over pieces and eos, on request."""


def translate_lines(
    model: Translator,
    tokenizers: Tokenizers,
    lines: Sequence[str],
    config: DecodeConfig,
    n_best: int = 1,
    attention: bool = False,
    precision: Precision = Precision.fp32,
    progress: bool = False,
) -> list[list[Translation]]:
    """The n_best translations of every line, in order. An empty line has the empty translation."""
    wants_attention = attention or config.replace_unk
    sentences = [tokenizers.source.encode(line) for line in lines]
    translations: list[list[Translation]] = [[] for _ in lines]
    device = next(model.parameters()).device
    bar = tqdm(
        total=len(lines),
        unit="sentence",
        desc="translating",
        leave=False,
        mininterval=refresh_seconds(),
        disable=not progress,
        dynamic_ncols=True,
    )
    with autocast(device, precision), bar:
        for i, hypotheses in search_in_batches(model, sentences, config, n_best, wants_attention):
            src_pieces = tokenizers.source.pieces(lines[i])
            translations[i] = [
                _translation(h, src_pieces, tokenizers, config.replace_unk) for h in hypotheses
            ]
            bar.update()
    return translations


def _translation(
    hypothesis: Hypothesis, src_pieces: list[str], tokenizers: Tokenizers, replace_unk: bool
) -> Translation:
    weights, tokenizer = hypothesis.attention, tokenizers.target
    if replace_unk and weights is not None and tokenizer.unk_id in hypothesis.ids:
        text = _with_source_words(
            hypothesis, source_words(src_pieces, tokenizers.source), weights, tokenizer
        )
    else:
        text = tokenizer.decode(hypothesis.ids)
    pieces = [tokenizer.id_to_piece(piece) for piece in hypothesis.ids]
    return Translation(text, hypothesis.score, src_pieces, pieces, weights)


def source_words(pieces: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Of each piece: the whole word it is part of. SentencePiece marks a word's start by U+2581.

    A word tokenizer's pieces are words; in languages written without spaces no other words are to
    be seen.
    """
    alone = tokenizer.kind is TokenizerKind.word or tokenizer.language.startswith(WITHOUT_SPACES)
    starts = [i for i, piece in enumerate(pieces) if alone or i == 0 or piece.startswith(SPACE)] + [
        len(pieces)
    ]
    words = []
    for start, end in pairwise(starts):
        words += ["".join(pieces[start:end]).replace(SPACE, "")] * (end - start)
    return words


def _with_source_words(
    hypothesis: Hypothesis, words: list[str], weights: Tensor, tokenizer: Tokenizer
) -> str:
    """Detokenized text with the most attended source word in the place of each <unk> (Luong et al.
    2015b).
    """
    parts: list[str] = []
    known: list[int] = []
    for position, piece in enumerate(hypothesis.ids):
        if piece != tokenizer.unk_id:
            known.append(piece)
            continue
        parts.append(tokenizer.decode(known))
        known = []
        best = int(weights[position, : len(words)].argmax())
        parts.append(words[best])
    parts.append(tokenizer.decode(known))
    return tokenizer.join(part for part in parts if part)


@torch.no_grad()
def attention_map(
    model: Translator, tokenizers: Tokenizers, src: str, tgt: str
) -> tuple[Tensor, list[str], list[str]] | None:
    """Teacher-forced weights (T, S) of a pair, and the pieces on both sides; None without
    attention.
    """
    eos = model.vocabulary.eos_id
    device = next(model.parameters()).device
    src_ids, tgt_ids = [*tokenizers.source.encode(src), eos], [*tokenizers.target.encode(tgt), eos]
    arguments = [
        torch.tensor(x, device=device)
        for x in ([src_ids], [len(src_ids)], [tgt_ids], [len(tgt_ids)])
    ]
    weights = model.attention(*arguments)
    if weights is None:
        return None
    return (
        weights[0].float().cpu(),
        [tokenizers.source.id_to_piece(i) for i in src_ids],
        [tokenizers.target.id_to_piece(i) for i in tgt_ids],
    )


@dataclass
class Session:
    """A loaded translator and how to search with it."""

    model: Translator
    tokenizers: Tokenizers
    decode: DecodeConfig
    precision: Precision

    def translate(
        self, lines: Sequence[str], n_best: int = 1, attention: bool = False, progress: bool = False
    ) -> list[list[Translation]]:
        """The n_best translations of every line, in order."""
        return translate_lines(
            self.model,
            self.tokenizers,
            lines,
            self.decode,
            n_best,
            attention,
            self.precision,
            progress,
        )

    def draw_attention(self, translation: Translation, path: Path) -> None:
        """Write a translation's attention map as a PNG."""
        if translation.attention is None:
            raise ValueError(
                f"{path}: no attention to draw: the line is empty, or the run has"
                " model.attention=none"
            )
        weights = translation.attention.float().cpu().numpy()
        ended = ["</s>"] * (len(weights) - len(translation.tgt_pieces))
        figure = attention_figure(
            weights, [*translation.src_pieces, "</s>"], [*translation.tgt_pieces, *ended]
        )
        save_figure(figure, path)
