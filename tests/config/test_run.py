"""The settings of a run: what each class refuses, and which combinations of groups."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest

from seq2seq.config import (
    Attention,
    CellConfig,
    CellKind,
    CleaningConfig,
    Config,
    DataConfig,
    DecodeConfig,
    GrammarSplit,
    ModelConfig,
    OptimizerConfig,
    OptimizerKind,
    ProbeConfig,
    ProbeKind,
    Schedule,
    Sides,
    SplitConfig,
    SplitRule,
    TextOrigin,
    TokenizerConfig,
    TokenizerKind,
    TrainerConfig,
    Tying,
    saved_settings,
)
from seq2seq.config.checks import RANGE
from seq2seq.config.settings import settings
from seq2seq.rnn import CellNorm, NormConfig, NormKind, Terms

ADDRESS = "https://example.org/"


def with_splits(origin: TextOrigin = TextOrigin.grammar, **changes: Any) -> DataConfig:
    """Return a corpus of a grammar, or of files."""
    named: dict[str, Any] = {
        name: SplitConfig(f"{name}.en", f"{name}.zh", **changes) for name in ("train", "valid")
    }
    sizes = {name: GrammarSplit(10) for name in named}
    return DataConfig(
        "x", origin, **named, grammar_splits=sizes if origin is TextOrigin.grammar else {}
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(hidden_size=47), "model.hidden_size=47: expected an even number"),
        (lambda: ModelConfig(encoder_layers=0), "model.encoder_layers=0: expected at least 1"),
        (
            lambda: ModelConfig(residual=True),
            "model.residual=true: .* model.decoder_layers above 1",
        ),
        (lambda: ModelConfig(dropout=0, variational=True), "model.variational=true: .*dropout"),
        (lambda: TokenizerConfig(vocab_size=4), "tokenizer.vocab_size=4: expected at least 5"),
        (
            lambda: TokenizerConfig(TokenizerKind.char, byte_fallback=True),
            "tokenizer.byte_fallback=true: expected false, .* tokenizer.kind=bpe or unigram",
        ),
        (
            lambda: TokenizerConfig(TokenizerKind.unigram, bpe_dropout=0.1),
            "tokenizer.bpe_dropout=0.1: expected 0.0, .* tokenizer.kind=bpe",
        ),
        (
            lambda: TokenizerConfig(bpe_dropout_sides=Sides.source),
            "tokenizer.bpe_dropout_sides=source: .* tokenizer.bpe_dropout above 0",
        ),
        (lambda: OptimizerConfig(momentum=0.9), "optimizer.momentum=0.9: .* optimizer.kind=sgd"),
        (
            lambda: OptimizerConfig(OptimizerKind.sgd, betas=(0.8, 0.9)),
            r"optimizer.betas=\[0.8,0.9\]: .* optimizer.kind=adam or adamw",
        ),
        (
            lambda: OptimizerConfig(plateau_factor=0.3),
            "optimizer.plateau_factor=0.3: .* optimizer.schedule=plateau",
        ),
        (
            lambda: OptimizerConfig(schedule=Schedule.constant, min_lr_ratio=0.1),
            "optimizer.min_lr_ratio=0.1: .* optimizer.schedule=cosine or plateau",
        ),
        (lambda: TrainerConfig(max_epochs=None), "trainer.max_epochs=null: expected a number"),
        (lambda: TrainerConfig(average_last=1), "trainer.average_last=1: expected 0 .* or at l"),
        (lambda: TrainerConfig(average_best=1), "trainer.average_best=1: expected 0 .* or at l"),
        (
            lambda: TrainerConfig(average_last=2, average_best=3),
            "trainer.average_best=3: expected 0 with trainer.average_last=2",
        ),
        (
            lambda: TrainerConfig(recalibrate=False, recalibrate_batches=3),
            "trainer.recalibrate_batches=3: .* trainer.recalibrate=true",
        ),
        (
            lambda: Config(model=ModelConfig(dropout=0), trainer=TrainerConfig(r_drop=4)),
            "trainer.r_drop=4: expected 0.0, .* model.dropout or model.word_dropout above 0",
        ),
        (lambda: DecodeConfig(beam_size=0), "decode.beam_size=0: expected at least 1"),
        (lambda: DecodeConfig(max_length="long"), "decode.max_length=long: expected 'Ax"),
        (lambda: CellConfig(nonlinearity=CellConfig().nonlinearity.relu), "cell.nonlin.*kind=rnn"),
        (lambda: CleaningConfig(0.5), "data.cleaning.max_length_ratio=0.5: expected at least 1"),
        (lambda: SplitRule(train_share=0.9, valid_share=0.1), "data.upstream_split.valid_share="),
        (lambda: SplitRule(source_column=1), "data.upstream_split.target_column=1: expected anot"),
        (lambda: SplitRule(name_side="left"), "data.upstream_split.name_side=left: expected sou"),
        (lambda: Config(seed=-1), "^seed=-1: expected at least 0"),
    ],
)
def test_each_class_checks_itself(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(batch_tokens=None), "data.batch_tokens=null: expected a number"),
        (lambda: DataConfig(batch_sentences=3), "data.batch_sentences=3: .*batch_tokens=null"),
        (lambda: DataConfig(mirror_folder="x"), "data.mirror_folder=x: .* data.origin=published"),
        (lambda: DataConfig(upstream=ADDRESS), "data.upstream=https.* data.origin=published"),
        (lambda: DataConfig(upstream_is_gzip=False), "data.upstream_is_gzip=false: .* address"),
        (lambda: DataConfig(grammar="x"), "data.grammar=x: .* data.origin=grammar"),
        (lambda: DataConfig(grammar_seed=2), "data.grammar_seed=2: .* data.origin=grammar"),
        (
            lambda: DataConfig(valid=SplitConfig("a", "b"), valid_share=0.1),
            "data.valid_share=0.1: .* data.valid.source=null",
        ),
        (lambda: DataConfig(train=SplitConfig(target="b")), "data.train.target=b: .*train.source"),
        (
            lambda: DataConfig(train=SplitConfig("a", target_sha256="0")),
            "data.train.target_sha256=0: .* data.train.target",
        ),
        (
            lambda: replace(with_splits(), train=SplitConfig("mine", "train.zh")),
            "data.train.source=mine: expected train.en, .*data=files",
        ),
        (lambda: with_splits(source_sha256="0"), "data.train.source_sha256=0: .*published or f"),
        (lambda: with_splits(mirror_folder="m"), "data.train.mirror_folder=m: .*published"),
        (
            lambda: replace(with_splits(), more_tests={"long": SplitConfig("long.en", "long.zh")}),
            "data.more_tests.long.source=long.en: expected data.grammar_splits.long with it",
        ),
        (
            lambda: DataConfig(more_tests={"../mine": SplitConfig("a", "b")}),
            r"data.more_tests.../mine: expected another name, .* without /",
        ),
        (
            lambda: DataConfig(more_tests={"train": SplitConfig("a", "b")}),
            "data.more_tests.train: expected another name, .* not train",
        ),
        (
            lambda: replace(with_splits(), grammar_splits={"a/b": GrammarSplit(1)}),
            "data.grammar_splits.a/b: expected another name",
        ),
        (
            lambda: replace(
                with_splits(),
                grammar_splits=dict.fromkeys(("train", "valid"), GrammarSplit(1, 5, 4)),
            ),
            "data.grammar_splits.train.min_words=5: expected at most max_words=4",
        ),
    ],
)
def test_a_corpus_is_checked_by_where_it_comes_from(make: Callable[..., Any], message: str) -> None:
    with_splits()
    with_splits(TextOrigin.files, source_sha256="0", target_sha256="1")
    with_splits(TextOrigin.published, source_sha256="0", target_sha256="1", mirror_folder="m")
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cell": CellConfig(CellKind.rnn), "norm": NormConfig(cell=CellNorm.carried)},
            "norm.cell=carried: expected output, .* cell.kind=lstm",
        ),
        (
            {"norm": NormConfig(terms=Terms.joint_all)},
            "norm.terms=joint_all: expected norm.terms=joint, .* cell.kind=gru",
        ),
        (
            {"model": ModelConfig(tying=Tying.all), "tokenizer": TokenizerConfig(joint=False)},
            "model.tying=all: expected tokenizer.joint=true",
        ),
        (
            {
                "model": ModelConfig(attention=Attention.none),
                "decode": DecodeConfig(replace_unk=True),
            },
            "decode.replace_unk=true: expected false, .* an attention",
        ),
        (
            {"trainer": TrainerConfig(max_epochs=None, patience=3)},
            "optimizer.schedule=cosine: expected trainer.max_epochs or trainer.max_updates",
        ),
    ],
)
def test_combinations_of_groups_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**changes)


def test_no_encoder_layer_is_left_unread() -> None:
    ModelConfig(encoder_layers=2)
    ModelConfig(attention=Attention.none, encoder_layers=2, decoder_layers=2)
    unread = r"^model.encoder_layers=2: expected at most model.decoder_layers=1 with model.att"
    with pytest.raises(ValueError, match=unread):
        ModelConfig(attention=Attention.none, encoder_layers=2)


def test_patience_is_enough_to_end_a_training() -> None:
    endless = TrainerConfig(max_epochs=None, patience=3)
    Config(trainer=endless, optimizer=OptimizerConfig(schedule=Schedule.plateau))


@pytest.mark.parametrize(
    ("kinds", "probe", "message"),
    [
        (["invariance"], {"sentences": 0}, "probe.sentences=0: expected at least 1"),
        (["train_eval_gap"], {"batches": 0}, "probe.batches=0: expected at"),
        (["length"], {"bucket_sentences": 0}, "probe.bucket_sentences=0: expected at least 1"),
        (["gradient_flow"], {"lengths": [10, 1]}, r"probe.lengths=\[10,1\]: expected at least 3"),
        (["length"], {"buckets": [20, 10, 30]}, r"probe.buckets=\[20, 10, 30\]: expected asc"),
        (["length"], {"buckets": [0, 10]}, r"probe.buckets=\[0,10\]: expected at least 1"),
        (
            ["invariance", "length"],
            {"sentences": 7},
            "probe.sentences=7: expected at least norm.min_rows=8 for invariance, else",
        ),
        ([], {"sentences": 7}, r"probe.sentences=7: .* probe.kinds=\[gradient_flow or train_eval"),
        (["length"], {"lengths": [3]}, r"probe.lengths=\[3\]: .* probe.kinds=\[gradient_flow\]"),
        (["gradient_flow"], {"buckets": [3]}, r"probe.buckets=\[3\]: .* probe.kinds=\[length\]"),
    ],
)
def test_probes_that_cannot_measure_are_refused(
    kinds: list[str], probe: dict[str, Any], message: str
) -> None:
    config = Config(norm=NormConfig(NormKind.batch, min_rows=8))
    with pytest.raises(ValueError, match=message):
        replace(config, probe=ProbeConfig([ProbeKind[kind] for kind in kinds], **probe))


def test_probes_that_can_measure_are_accepted() -> None:
    config = Config(norm=NormConfig(NormKind.batch, min_rows=8))
    replace(config, probe=ProbeConfig([ProbeKind.length], buckets=[]))
    replace(config, probe=ProbeConfig(list(ProbeKind), sentences=8, lengths=[3]))
    layer = NormConfig(NormKind.layer)
    replace(config, norm=layer, probe=ProbeConfig(list(ProbeKind), sentences=7, lengths=[]))


def test_every_number_has_a_range() -> None:
    """The settings of the norm are excluded: its class checks them."""
    found = []
    for group in fields(Config):
        kinds: list[Any] = []
        if is_dataclass(group.type):
            kinds = [group.type, *(get_args(h) for h in get_type_hints(group.type).values())]
        checked: list[Any] = [Config, *filter(is_dataclass, kinds), SplitRule, CleaningConfig]
        for kind in checked:
            if kind is NormConfig:
                continue
            hints = get_type_hints(kind)
            for f in fields(kind):
                parts = {hints[f.name], *get_args(hints[f.name])}
                if parts & {int, float} and RANGE not in f.metadata:
                    found.append(f"{kind.__name__}.{f.name}")
    assert found == []


def test_settings_of_earlier_versions_are_accepted() -> None:
    """Values without effect return to their default, so that no run differs from itself."""
    with saved_settings():
        config = Config(
            optimizer=OptimizerConfig(momentum=0.9, plateau_factor=0.1),
            probe=ProbeConfig(bucket_sentences=100),
            data=DataConfig(batch_tokens=1024, batch_sentences=30),
            trainer=TrainerConfig(average_last=1),
        )
    found = settings(config)
    assert found["optimizer.momentum"] == 0.0
    assert found["optimizer.plateau_factor"] == 0.5
    assert found["probe.bucket_sentences"] == 200
    assert (found["data.batch_tokens"], found["data.batch_sentences"]) == (None, 30)


@pytest.mark.parametrize(
    ("beam", "given", "expected"),
    [
        (5, None, 64),
        (1, None, 320),
        (1000, None, 1),
        (3, None, 106),
        (5, 7, 7),
    ],
)
def test_as_many_sentences_are_decoded_together_as_hypotheses_fit(
    beam: int, given: int | None, expected: int
) -> None:
    assert DecodeConfig(beam, batch_size=given).sentences == expected
