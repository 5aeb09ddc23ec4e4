"""The settings of one run: one group per field, and what belongs to the run itself."""

from dataclasses import dataclass, field, fields

from ..rnn import CellNorm, NormConfig, NormKind, Statistics, Terms
from ..rnn.config import MEANINGFUL
from .checks import check_ranges, expand_paths, note_unless, number, only_with, path, refuse
from .data import DataConfig
from .decode import DecodeConfig
from .model import Attention, CellConfig, CellKind, ModelConfig, Tying
from .optimizer import OptimizerConfig, Schedule
from .probe import ProbeConfig, ProbeKind, has_statistics
from .tokenizer import TokenizerConfig, TokenizerKind
from .trainer import Backend, TrainerConfig


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
    seed: int = number(1, at_least=0, at_most=2**63 - 1)
    backend: Backend = Backend.auto
    experiment: str | None = None
    """The experiment that the run is part of (configs/experiment)."""
    size: str | None = None
    """The experiment's size (configs/size)."""
    overwrite: bool = False
    """Whether to replace the run that the folder holds."""
    resume: str | None = path()
    """Folder of a run to resume, with its own configuration."""
    init_from: str | None = path()
    """Folder of a trained run whose weights, tokenizers and architecture this one starts with."""

    def __post_init__(self) -> None:
        """Check combinations of groups; each group has checked itself."""
        check_ranges(self, "")
        expand_paths(self)
        self._check_norm()
        drops = self.model.dropout > 0 or self.model.word_dropout > 0
        dropout = "model.dropout or model.word_dropout above 0"
        only_with(self.trainer, "trainer", dropout, drops, "r_drop")
        attends = self.model.attention is not Attention.none
        only_with(self.decode, "decode", "an attention", attends, "replace_unk")
        if self.model.tying is Tying.all and not self.tokenizer.one_model:
            refuse(
                "model.tying=all: expected tokenizer.joint=true, as it shares the source's"
                " embeddings with the target's"
            )
        if self.norm.sync and self.model.input_feeding:
            refuse(
                "norm.sync=true: expected model.input_feeding=false, with which all processes"
                " take the same number of steps"
            )
        self._check_embeddings()
        endless = self.trainer.max_epochs is None and self.trainer.max_updates is None
        if self.optimizer.schedule is Schedule.cosine and endless:
            refuse(
                "optimizer.schedule=cosine: expected trainer.max_epochs or trainer.max_updates,"
                " the end that the rate falls towards"
            )
        self._check_probes()
        self._note_suggestions()

    def _check_norm(self) -> None:
        norm, cell, group = self.norm, self.cell.kind, "norm"
        for f in fields(norm):
            kinds = [kind for kind in NormKind if f.name in MEANINGFUL[kind]]
            named = f"norm.kind={' or '.join(kind.name for kind in kinds)}"
            note_unless(group, named, norm.kind in kinds, f.name)
        is_lstm = cell is CellKind.lstm
        only_with(norm, group, "cell.kind=lstm", is_lstm, "cell_gain")
        only_with(norm, group, "cell.kind=lstm", is_lstm or norm.cell is CellNorm.none, "cell")
        note_unless(group, "cell.kind=lstm or gru", cell is not CellKind.rnn, "group")
        by_step = norm.statistics is not Statistics.shared
        note_unless(group, "norm.statistics=per_step or sequence_input", by_step, "max_steps")
        if norm.terms is Terms.joint_all and cell is not CellKind.gru:
            refuse(
                "norm.terms=joint_all: expected norm.terms=joint, as cell.kind=gru alone has both"
            )
        is_batch = norm.kind is NormKind.batch
        note_unless("trainer", "norm.kind=batch", is_batch, "recalibrate_batches")

    def _note_suggestions(self) -> None:
        """Note the values that the corpus suggests for settings which have others."""
        for name, key, value in (
            ("lr", "optimizer.lr", self.optimizer.lr),
            ("epochs", "trainer.max_epochs", self.trainer.max_epochs),
            ("vocab_size", "tokenizer.vocab_size", self.tokenizer.vocab_size),
            ("joint", "tokenizer.joint", self.tokenizer.joint),
        ):
            is_taken = getattr(self.data, name) == value
            note_unless("data", f"{key}=${{data.{name}}}", is_taken, name)

    def _check_embeddings(self) -> None:
        """Check that pretrained embeddings have words to belong to, and are not overwritten."""
        names = ("source_embeddings", "target_embeddings")
        given = [name for name in names if getattr(self.model, name) is not None]
        words = self.tokenizer.kind is TokenizerKind.word or self.tokenizer.model is not None
        only_with(self.model, "model", "tokenizer=word", words, *names)
        only_with(self.model, "model", "init_from=null", self.init_from is None, *names)
        if self.model.tying is Tying.all and len(given) > 1:
            refuse(
                "model.source_embeddings: expected model.target_embeddings alone with"
                " model.tying=all, as both languages have one matrix"
            )

    def _check_probes(self) -> None:
        sentences, least = self.probe.sentences, self.norm.min_rows
        own = [kind.name for kind in self.probe.kinds if kind is not ProbeKind.length]
        if own and not has_statistics(self.norm, sentences):
            raise ValueError(
                f"probe.sentences={sentences}: expected at least norm.min_rows={least} for"
                f" {', '.join(own)}, else batch norm normalises by its stored statistics"
            )
