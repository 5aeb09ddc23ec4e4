"""The translator's settings: recurrent cell, sizes, attention, dropout."""

from dataclasses import dataclass
from enum import Enum

from .checks import check_ranges, expand_paths, number, only_with, path, refuse

WIDEST = 2**17
"""Most features of a layer; no machine holds a square matrix of this width for each gate."""
DEEPEST = 1000
"""Most layers of a side."""


class CellKind(Enum):
    """The recurrent cell."""

    lstm = "lstm"
    gru = "gru"
    rnn = "rnn"


class Nonlinearity(Enum):
    """The vanilla cell's activation."""

    tanh = "tanh"
    relu = "relu"


@dataclass
class CellConfig:
    """The recurrent cell of encoder and decoder."""

    kind: CellKind = CellKind.lstm
    nonlinearity: Nonlinearity = Nonlinearity.tanh
    """Activation of the vanilla cell (kind: rnn)."""

    def __post_init__(self) -> None:
        only_with(self, "cell", "cell.kind=rnn", self.kind is CellKind.rnn, "nonlinearity")


class Attention(Enum):
    """Score of a decoder state against an encoder state.

    dot and general: Luong et al. 2015; additive: Bahdanau et al. 2015.
    """

    dot = "dot"
    general = "general"
    additive = "additive"
    none = "none"


class Tying(Enum):
    """Which embedding matrices share their weights.

    target: the target's input and output embeddings; all: the source's too.
    """

    none = "none"
    target = "target"
    all = "all"


@dataclass
class ModelConfig:
    """Size and shape of the translator."""

    embedding_size: int = number(256, at_least=1, at_most=WIDEST)
    hidden_size: int = number(512, at_least=1, at_most=WIDEST)
    """Features of the decoder's state. A bidirectional encoder has half of them per direction."""
    encoder_layers: int = number(1, at_least=1, at_most=DEEPEST)
    decoder_layers: int = number(1, at_least=1, at_most=DEEPEST)
    residual: bool = False
    """Whether each layer from the second on adds its input to its output (Wu et al. 2016, 3.1)."""
    bidirectional: bool = True
    """Whether the encoder reads the source in both directions."""
    attention: Attention = Attention.general
    input_feeding: bool = False
    """Whether the decoder's input includes its last attentional state (Luong et al. 2015, 3.3)."""
    tying: Tying = Tying.none
    dropout: float = number(0.3, at_least=0, below=1)
    """Rate on embeddings, between recurrent layers and on the attentional state."""
    variational: bool = False
    """Whether all time steps of a sentence share one dropout mask (Gal & Ghahramani 2016)."""
    recurrent_dropout: float = number(0.0, at_least=0, below=1)
    """Rate of dropout on each W_hh: one mask a batch for all time steps (Merity et al. 2018)."""
    word_dropout: float = number(0.0, at_least=0, below=1)
    """Rate of whole pieces whose embedding is 0 (Gal & Ghahramani 2016, section 4.2).

    It acts on the source and on the previous words of the target. A piece that is dropped is so
    everywhere in its sentence.
    """
    init_scale: float = number(0.1, above=0, at_most=100)
    """Weights and biases start uniform in (-init_scale, init_scale).

    Gains and shifts of norms keep their own initial values.
    """
    spectral_radius: float | None = number(None, above=0, at_most=100)
    """Spectral radius of each gate's W_hh at the start; null: what init_scale gives.

    Every W_hh of encoder and decoder is multiplied by one number a gate. Without norms, radii below
    and above 1 are where states vanish and explode (Pascanu et al. 2013, section 2).
    """
    source_embeddings: str | None = path()
    """File of pretrained embeddings of source words, in word2vec's text format or GloVe's."""
    target_embeddings: str | None = path()
    """The same of target words."""

    def __post_init__(self) -> None:
        check_ranges(self, "model")
        expand_paths(self)
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                f"model.hidden_size={self.hidden_size}: expected an even number for a"
                " bidirectional encoder, which has half of it per direction"
            )
        if self.attention is Attention.none and self.encoder_layers > self.decoder_layers:
            refuse(
                f"model.encoder_layers={self.encoder_layers}: expected at most"
                f" model.decoder_layers={self.decoder_layers} with model.attention=none, where"
                " decoder layer i starts from encoder layer i, and nothing reads the others"
            )
        deep = max(self.encoder_layers, self.decoder_layers) > 1
        layers = "model.encoder_layers or model.decoder_layers above 1"
        only_with(self, "model", layers, deep, "residual")
        only_with(self, "model", "model.dropout above 0", self.dropout > 0, "variational")
