"""Text to text: lines in, detokenized translations out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..config import DecodeConfig, Precision, Sampling
from ..data.shortlist import Shortlist
from ..data.tokenizer import Tokenizers
from ..device import autocast
from ..figures import attention_figure, save_figure
from ..model import Translator
from ..other_work import OtherWork
from ..runs.logbook import translating_bar
from .ensemble import Ensemble
from .history import Hypothesis
from .search import search_in_batches
from .unknown_words import source_words, with_source_words

END = "</s>"
"""Label of the end of a sentence in an attention map."""


@dataclass
class Translation:
    """One translation of one line."""

    text: str
    score: float  # log-probability in nats over length ** length_penalty
    src_pieces: list[str]  # as written in the line, also those that the vocabulary does not know
    tgt_pieces: list[str]
    attention: Tensor | None  # (T, S) over pieces and eos, on request
    log_probability: float = 0.0  # of its pieces and its end, in nats
    length: int = 0  # its pieces and its end, which is missing where it was cut

    @property
    def alignment(self) -> list[int] | None:
        """The place of the source piece that each piece attends to most; None where unknown."""
        if self.attention is None:
            return None if self.tgt_pieces else []
        weights = self.attention[: len(self.tgt_pieces), : len(self.src_pieces)]
        found: list[int] = weights.argmax(dim=1).tolist()
        return found


@dataclass
class Session:
    """A loaded translator and the settings of its search."""

    model: Translator
    tokenizers: Tokenizers
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    precision: Precision = Precision.fp32
    sampling: Sampling | None = None
    """How to draw translations; None: search for the best ones."""
    shortlist: Shortlist | None = None
    """What the source's pieces may become; None: all pieces of the target."""
    others: list[Translator] = field(default_factory=list)
    """Translators that search together with the model, as an ensemble."""
    lines: int = 0
    """How many lines it has translated: what is drawn depends on a line's number."""
    remark: Callable[[str], None] | None = None
    """What to do, once, with a remark on other work that has the cores."""

    def translate(
        self, lines: Sequence[str], n_best: int = 1, attention: bool = False, progress: bool = False
    ) -> list[list[Translation]]:
        """Return the n_best translations of every line, in the order of the lines.

        An empty line has the empty translation. With `sampling` there are n_best independent draws.
        The progress bar starts once the kernels are loaded.
        """
        model = Ensemble([self.model, *self.others]) if self.others else self.model
        model.load_kernels()
        other_work, decode = OtherWork(), self.decode
        searched = search_in_batches(
            model,
            [self.tokenizers.source.encode(line) for line in lines],
            decode,
            n_best,
            attention or decode.replace_unk,
            self.sampling,
            self.lines,
            self.shortlist,
        )
        self.lines += len(lines)
        found: list[list[Translation]] = [[] for _ in lines]
        with autocast(model.device, self.precision), translating_bar(len(lines), progress) as bar:
            for i, hypotheses in searched:
                found[i] = [self._translation(lines[i], h) for h in hypotheses]
                bar.update()
        said = other_work.remark(model.device, "translation", "--threads 1")
        if said and self.remark is not None:
            self.remark(said)
            self.remark = None
        return found

    def _translation(self, line: str, found: Hypothesis) -> Translation:
        source, target = self.tokenizers.source, self.tokenizers.target
        src_pieces, weights = source.pieces(line), found.attention
        if self.decode.replace_unk and weights is not None and target.unk_id in found.ids:
            words = source_words(src_pieces, source)
            text = with_source_words(found, words, weights, target)
        else:
            text = target.decode(found.ids)
        pieces = [target.id_to_piece(piece) for piece in found.ids]
        length = len(pieces) + found.ended
        return Translation(text, found.score, src_pieces, pieces, weights, found.log_prob, length)

    def draw_attention(self, translation: Translation, path: Path) -> None:
        """Write a translation's attention map as a PNG; ValueError if it has no attention."""
        if translation.attention is None:
            raise ValueError(
                f"{path}: no attention to draw: the line is empty, or the run has"
                " model.attention=none; expected a line with words, and another run"
            )
        weights = translation.attention.float().cpu().numpy()
        ended = [END] * (len(weights) - len(translation.tgt_pieces))  # none if cut at the limit
        src_pieces, tgt_pieces = [*translation.src_pieces, END], [*translation.tgt_pieces, *ended]
        save_figure(attention_figure(weights, src_pieces, tgt_pieces), path)
