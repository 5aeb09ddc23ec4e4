"""Every setting of the application, as plain dataclasses.

`configs/` holds the values, which Hydra checks against the types here. Nothing in this module needs
Hydra or torch.
"""

from dataclasses import dataclass, field
from enum import Enum

from ..rnn import NormConfig


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


class Attention(Enum):
    """Score of a decoder state against an encoder state: Luong et al. 2015 (dot, general), Bahdanau
    et al. 2015.
    """

    dot = "dot"
    general = "general"
    additive = "additive"
    none = "none"


class Tying(Enum):
    """Which embedding matrices are one: none, target input and output, or these and the source's
    too.
    """

    none = "none"
    target = "target"
    all = "all"


@dataclass
class ModelConfig:
    """Size and shape of the translator."""

    embedding_size: int = 256
    hidden_size: int = 512
    """Features of the decoder's state; a bidirectional encoder has half of it in each direction."""
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    attention: Attention = Attention.general
    input_feeding: bool = False
    tying: Tying = Tying.none
    dropout: float = 0.3
    """On embeddings, between recurrent layers and on the attentional state."""
    variational: bool = False
    """One dropout mask for all time steps of a sentence (Gal & Ghahramani 2016)."""
    init_scale: float = 0.1
    """Weights and biases start uniform in (-init_scale, init_scale); gains and shifts of norms do
    not.
    """


class TokenizerKind(Enum):
    """SentencePiece model type."""

    bpe = "bpe"
    unigram = "unigram"
    char = "char"
    word = "word"


@dataclass
class TokenizerConfig:
    """Text to pieces and back."""

    kind: TokenizerKind = TokenizerKind.bpe
    vocab_size: int = 8000
    """Pieces of a tokenizer, the four special ones included; an upper limit for char and word."""
    joint: bool = True
    """One tokenizer for both sides, or one a side."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of <unk> (bpe and unigram)."""
    nfkc: bool = True
    """Normalise text by Unicode NFKC before it is split."""


@dataclass
class SplitConfig:
    """The files of one split. Without `target`, `source` is a TSV file: source, tab, target."""

    source: str | None = None
    target: str | None = None
    source_sha256: str | None = None
    """SHA-256 of the uncompressed text."""
    target_sha256: str | None = None
    mirror_folder: str | None = None
    """Its folder in the mirror, where that is another than the corpus' own; then it is found there
    alone.
    """


@dataclass
class CleaningConfig:
    """What is dropped from the training pairs; each rule is counted and printed."""

    max_length_ratio: float = 9.0
    """Longest allowed ratio between the two sides' pieces (a pair with a side under 10 pieces
    always passes).
    """
    drop_duplicates: bool = True
    """Drop exact repetitions of a pair."""


@dataclass
class SplitRule:
    """How one upstream file of pairs is divided (see `seq2seq.splitting.split_by_components`)."""

    file: str = ""
    """Name of the upstream file, or of the member of the upstream zip."""
    salt: str = ""
    train_share: float = 0.9
    valid_share: float = 0.05
    source_column: int = 0
    target_column: int = 1
    name_side: str = "source"
    """The side, source or target, whose smallest key names a component."""
    git_blob: str | None = None
    """Git's hash of the upstream file; then the checksums of the splits hold for a mirror's copy
    alone.
    """


@dataclass
class GrammarSplit:
    """How many pairs of a split a grammar draws, and the fewest and most source words of each."""

    count: int = 0
    min_words: int = 1
    max_words: int = 20


class Origin(Enum):
    """Where a corpus comes from."""

    grammar = "grammar"
    published = "published"
    files = "files"


@dataclass
class DataConfig:
    """A parallel corpus, and how it is cut into batches."""

    name: str = ""
    origin: Origin = Origin.files
    source_language: str = "en"
    target_language: str = "zh"
    vocab_size: int = 8000
    """Default of `tokenizer.vocab_size` for this corpus."""
    joint: bool = True
    """Default of `tokenizer.joint` for this corpus."""
    epochs: int = 10
    """Default of `trainer.max_epochs` for this corpus."""
    lr: float = 1e-3
    """Default of `optimizer.lr` for this corpus, with Adam."""
    root: str = "data/prepared"
    """Where prepared corpora are kept."""
    mirror: str | None = None
    """Folder that holds the published files already (environment: SEQ2SEQ_DATA_MIRROR)."""
    mirror_folder: str | None = None
    """The corpus' own folder inside the mirror."""
    upstream: str | None = None
    """Address that the file names are appended to; or, with `upstream_split`, the address of the
    one file.
    """
    upstream_is_gzip: bool = True
    """Whether the upstream files end in .gz, as the mirror's do."""
    upstream_split: SplitRule | None = None
    grammar: str | None = None
    """Grammar file (origin: grammar)."""
    grammar_seed: int = 1
    grammar_splits: dict[str, GrammarSplit] = field(default_factory=dict)
    sha256: dict[str, dict[str, str]] = field(default_factory=dict)
    """SHA-256 of the uncompressed texts by split and language, for the splits below to refer to."""
    train: SplitConfig = field(default_factory=SplitConfig)
    valid: SplitConfig = field(default_factory=SplitConfig)
    test: SplitConfig = field(default_factory=SplitConfig)
    more_tests: dict[str, SplitConfig] = field(default_factory=dict)
    """Further test sets, by name."""
    valid_share: float = 0.02
    """Part of train held out by hash where there is no valid."""
    train_pairs: int | None = None
    """Use only this many training pairs (the first after clean-up)."""
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    max_length: int = 100
    """Training pairs with more pieces than this on a side are dropped, and counted."""
    batch_tokens: int | None = 2048
    """Unpadded target tokens a batch."""
    batch_sentences: int | None = None
    """Sentences a batch, instead of batch_tokens."""
    bucket_batches: int = 1
    """Sentences of about so many batches are sorted by length together; 1: batches of any length.

    With batch norm keep it at 1: in a batch of one length the statistics of a step tell how far the
    end is (README).
    """


class OptimizerKind(Enum):
    """Update rule."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"


class Schedule(Enum):
    """Learning rate over updates, after a linear warm-up."""

    constant = "constant"
    inverse_sqrt = "inverse_sqrt"
    cosine = "cosine"
    plateau = "plateau"


@dataclass
class OptimizerConfig:
    """Update rule and learning rate."""

    kind: OptimizerKind = OptimizerKind.adam
    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    """Of SGD."""
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.cosine
    warmup_updates: int = 200
    min_lr_ratio: float = 0.0
    """Where cosine ends, and plateau stops, as a part of lr."""
    plateau_patience: int = 1
    """Validations without progress before plateau halves the rate."""
    plateau_factor: float = 0.5
    clip_norm: float = 5.0
    """Largest gradient norm; 0: no clipping."""
    accumulate: int = 1
    """Batches a parameter update."""


class Device(Enum):
    """Where to run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Type of the products; state, norms and loss stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"


class Metric(Enum):
    """What decides which checkpoint is best, and when to stop early."""

    bleu = "bleu"
    loss = "loss"


@dataclass
class TrainerConfig:
    """How long, on what, and what is measured on the way."""

    max_epochs: int | None = 10
    max_updates: int | None = None
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    threads: int | None = None
    """CPU threads; None: torch's own choice."""
    label_smoothing: float = 0.1
    validate_every: int | None = None
    """Updates between validations; None: once an epoch."""
    validate_sentences: int | None = None
    """Decode only the first so many validation sentences for BLEU while training; None: all."""
    checkpoint_every: int | None = None
    """Updates between checkpoints; None: at each validation."""
    log_every: int = 20
    """Updates between entries in metrics.jsonl and TensorBoard."""
    best_metric: Metric = Metric.bleu
    patience: int | None = None
    """Stop after so many validations without a better one; None: never."""
    average_last: int = 0
    """Average the weights of the last k validated checkpoints into the best one at the end; 0 or 1:
    no.
    """
    recalibrate: bool = True
    """Re-estimate batch norm's statistics of the best checkpoint in one pass over training data."""
    recalibrate_batches: int | None = None
    """Batches of that pass; None: the whole training set."""
    histograms: bool = True
    """At each validation write histograms from inside the recurrent layers for TensorBoard
    (seq2seq/probes/histograms.py).
    """
    progress: bool = True
    """Show the progress bar."""


@dataclass
class DecodeConfig:
    """Search for a translation."""

    beam_size: int = 5
    """Hypotheses kept a sentence; 1: greedy."""
    length_penalty: float = 1.0
    """Exponent alpha of the length by which a hypothesis' log-probability is divided."""
    max_length: str = "2.0x+10"
    """Longest translation in pieces: 'Ax+B' of the source's length, or a number."""
    batch_size: int = 64
    """Sentences decoded together."""
    replace_unk: bool = False
    """Put the source word with the most attention in the place of <unk>."""


class ProbeKind(Enum):
    """What is measured inside a model (seq2seq/probes)."""

    gradient_flow = "gradient_flow"
    train_eval_gap = "train_eval_gap"
    invariance = "invariance"
    length = "length"


@dataclass
class ProbeConfig:
    """What is measured inside the model, beside its scores, for a run's probes.jsonl."""

    kinds: list[ProbeKind] = field(default_factory=list)
    sentences: int = 64
    """Rows of a batch (gradient_flow, train_eval_gap, invariance)."""
    batches: int = 10
    """Batches of each set (train_eval_gap)."""
    lengths: list[int] = field(default_factory=lambda: [10, 20, 50, 100, 200])
    """Time steps of the sequences (gradient_flow)."""
    test_sets: list[str] = field(default_factory=lambda: ["test", "test_long"])
    """Splits that are looked at beside train, where the corpus has them (length,
    train_eval_gap).
    """
    buckets: list[int] = field(default_factory=lambda: [10, 20, 30, 45, 60, 100])
    """Most source pieces, with eos, of each bucket (length)."""
    bucket_sentences: int = 200
    """Sentences of a bucket (length)."""


class Backend(Enum):
    """Which implementation of the recurrences runs."""

    auto = "auto"
    reference = "reference"
    fused = "fused"


@dataclass
class Config:
    """One run."""

    norm: NormConfig = field(default_factory=NormConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 1
    backend: Backend = Backend.auto
    experiment: str | None = None
    """The experiment that the run is part of (configs/experiment)."""
    size: str | None = None
    """Of the experiment (configs/size)."""
    overwrite: bool = False
    """Throw away what stands in the run's folder."""
    resume: str | None = None
    """A run's folder to go on with, by its own configuration."""
