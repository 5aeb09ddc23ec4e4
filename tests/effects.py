"""Settings of a small run, and other values of each that are worth trying."""

from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from composing import composed
from conftest import reversed_pairs, write_pairs

from seq2seq.config import Config
from seq2seq.config.settings import settings

NO_VALID = ["data.valid.source=null", "data.valid.target=null"]


EVERY_UPDATE = ["trainer.validate_every=1", "data.epochs=2"]


UP_AND_DOWN = [*EVERY_UPDATE, "trainer.best_metric=loss", "optimizer.schedule=constant"]
"""A loss that still goes up and down, so that averages help."""


PLATEAU = ["optimizer.schedule=plateau", *EVERY_UPDATE]


LEARNT = ["data.epochs=8", "data.lr=0.03"]


BPE = ["tokenizer=bpe", "tokenizer.vocab_size=30"]


NEEDED = {
    "cell.nonlinearity": ["cell=rnn"],
    "data.batch_tokens": ["data.batch_sentences=null", "data.batch_tokens=300"],
    "data.valid_share": NO_VALID,
    "model.tying": ["tokenizer.joint=true"],
    "model.residual": ["model.decoder_layers=2"],
    "model.encoder_layers": ["model.decoder_layers=2"],
    "norm.cell_gain": ["norm.cell=output"],
    "norm.group": ["norm=layer"],
    "norm.max_steps": ["norm=batch"],
    "norm.min_rows": ["norm=batch"],
    "norm.momentum": ["norm=batch", "trainer.recalibrate=false"],
    "norm.statistics": ["norm=batch"],
    "norm.sync": ["norm=batch"],
    "optimizer.min_lr_ratio": ["optimizer.warmup_updates=0"],
    "optimizer.decay_vectors": ["optimizer.weight_decay=0.5"],
    "optimizer.kind": ["optimizer.weight_decay=0.1"],
    "optimizer.momentum": ["optimizer=sgd"],
    "optimizer.plateau_factor": PLATEAU,
    "optimizer.plateau_patience": PLATEAU,
    "probe.batches": ["probe.kinds=[train_eval_gap]"],
    "probe.bucket_sentences": ["probe.kinds=[length]"],
    "probe.buckets": ["probe.kinds=[length]"],
    "probe.lengths": ["probe.kinds=[gradient_flow]"],
    "probe.sentences": ["probe.kinds=[gradient_flow]"],
    "probe.test_sets": ["probe.kinds=[length]"],
    "tokenizer.bpe_dropout": BPE,
    "tokenizer.bpe_dropout_sides": [*BPE, "tokenizer.bpe_dropout=0.5"],
    "tokenizer.byte_fallback": ["tokenizer=unigram", "tokenizer.vocab_size=20"],
    "trainer.average_best": UP_AND_DOWN,
    "trainer.average_last": UP_AND_DOWN,
    "trainer.best_metric": EVERY_UPDATE,
    "trainer.patience": EVERY_UPDATE,
    "trainer.recalibrate": ["norm=batch"],
    "trainer.recalibrate_batches": ["norm=batch"],
    "trainer.validate_sentences": LEARNT,
    "decode.no_repeat_ngram": ["decode.min_length=9"],
    "decode.replace_unk": ["tokenizer.vocab_size=8"],
}
"""What a setting needs to have an effect on the small training here."""


VALUES = {
    "data.batch_tokens": ["100"],
    "data.bleu_tokenizer": ["char", "none"],
    "data.source_language": ["de"],
    "data.target_language": ["de"],
    "data.bucket_batches": ["2"],
    "data.cleaning.max_length_ratio": ["2"],
    "data.max_length": ["4"],
    "data.train_pairs": ["60"],
    "data.vocab_size": ["8"],
    "data.valid_share": ["0.4"],
    "decode.max_length": ["1"],
    "decode.min_length": ["9"],
    "decode.no_repeat_ngram": ["1"],
    "decode.shortlist": ["1"],
    "model.hidden_size": ["32"],
    "norm.terms": ["joint"],
    "norm.cell": ["output", "carried", "carried_only"],
    "norm.min_rows": ["40"],
    "optimizer.betas": ["[0.5,0.6]"],
    "optimizer.clip_norm": ["0.01"],
    "optimizer.eps": ["0.1"],
    "optimizer.momentum": ["0.5"],
    "optimizer.weight_decay": ["0.5"],
    "optimizer.min_lr_ratio": ["0.9"],
    "probe.batches": ["1"],
    "probe.bucket_sentences": ["2"],
    "probe.buckets": ["[4,9]"],
    "probe.lengths": ["[4,8]"],
    "probe.test_sets": ["[valid]"],
    "probe.sentences": ["9"],
    "tokenizer.character_coverage": ["0.98"],
    "tokenizer.vocab_size": ["9"],
    "trainer.average_best": ["2"],
    "trainer.average_last": ["2"],
    "trainer.max_epochs": ["2"],
    "trainer.patience": ["1"],
    "trainer.threads": ["2"],
    "trainer.log_every": ["2"],
    "trainer.max_updates": ["1"],
    "trainer.recalibrate_batches": ["1"],
    "trainer.validate_sentences": ["2"],
    "trainer.validate_every": ["2"],
    "trainer.checkpoint_every": ["2"],
}
"""Values to try instead of those that a setting's type suggests."""


RULE = ("salt", "train_share", "valid_share", "name_side")


COLUMNS = ("file", "source_column", "target_column")


CONSUMERS = {
    "norm.sync": ("rnn/recurrent.py", r"norm\.sync"),  # test_synchronization.py shows it
    "data.source_column": ("data/columns.py", r"data\.source_column"),
    "data.target_column": ("data/columns.py", r"data\.target_column"),
    "tokenizer.normalization.source": ("data/tokenizer.py", r"normalization\.source"),
    "tokenizer.normalization.target": ("data/tokenizer.py", r"normalization\.target"),
    "tokenizer.normalization.markup": ("data/tokenizer.py", r"normalization\.markup"),
    "decode.beam_size": ("translation/active.py", r"config\.beam_size"),
    "data.mirror_folder": ("data/published.py", r"\.mirror_folder"),
    "data.upstream": ("data/published.py", r"config\.upstream\b"),
    "data.upstream_is_gzip": ("data/published.py", r"config\.upstream_is_gzip"),
    "data.upstream_split": ("data/published.py", r"config\.upstream_split"),
    **{f"data.upstream_split.{name}": ("data/splitting.py", rf"rule\.{name}") for name in RULE},
    **{f"data.upstream_split.{name}": ("data/published.py", rf"rule\.{name}") for name in COLUMNS},
    "data.upstream_split.git_blob": ("data/published.py", r"rule\.git_blob"),
    **{
        f"data.{split}.mirror_folder": ("data/published.py", r"split\.mirror_folder")
        for split in ("train", "valid", "test")
    },
    "tokenizer.model": ("data/tokenizer.py", r"config\.model"),
    "tokenizer.target_model": ("data/tokenizer.py", r"config\.target_model"),
    "model.source_embeddings": ("training/start.py", r"config\.model\.source_embeddings"),
    "model.target_embeddings": ("training/start.py", r"config\.model\.target_embeddings"),
    "init_from": ("training/start.py", r"config\.init_from"),
}
"""Settings without an effect here -> the code that reads them.

A test has no network for published corpora; a very small model translates the same with any beam.
What names a file or a run needs one.
"""


def write_corpus(folder: Path) -> list[str]:
    """Write a corpus in which each rule of cleaning, NFKC and <unk> apply; return its settings."""
    odd = [("do " * 12, "re re"), ("ﬁ do", "do fi"), ("x do y", "y do x"), ("do re", "re do")]
    train = reversed_pairs(80, 0) + [(a.strip(), b) for a, b in odd] * 2
    files = write_pairs(folder, "train", train)
    files += write_pairs(folder, "valid", [*reversed_pairs(8, 1), ("q do", "do q")])
    return files + write_pairs(folder, "test", [*reversed_pairs(6, 2), ("z re", "re z")])


def settings_of_a_run(folder: Path) -> list[str]:
    """Write a corpus; return the settings of a run of three updates on it."""
    return [
        "data=files",
        "data.name=toy",
        f"data.root={folder / 'prepared'}",
        *write_corpus(folder),
        "data.batch_tokens=null",
        "data.batch_sentences=30",
        "data.epochs=1",
        "data.lr=0.05",
        "tokenizer=word",
        "model=tiny",
        "optimizer.warmup_updates=2",
        "decode.beam_size=2",
        "trainer.log_every=1",
        "trainer.progress=false",
        "trainer.histograms=false",
        "trainer.threads=1",
    ]


def hint_of(key: str) -> Any:
    """Return the type of a setting, without None."""
    kind = Config
    for name in key.split("."):
        hint = get_type_hints(kind)[name]
        parts = [part for part in get_args(hint) if part is not type(None)] or [hint]
        kind = parts[0]
    return kind


def others(key: str, value: Any, folder: Path) -> list[str]:
    """Return values of a setting that differ from the present one; a folder is in this folder."""
    if key in VALUES:
        return VALUES[key]
    kind = hint_of(key)
    if key == "data.root":
        return [str(folder / "other")]
    if key == "probe.kinds":
        return ["[invariance]"]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.name for member in kind if member.name != value]
    if kind is bool:
        return [str(not value).lower()]
    if kind is int:
        return [str(2 if value is None else 2 * value + 1)]
    if kind is float:
        return [str(0.25 if value is None else value / 2 or 0.5)]
    if key.endswith("language"):
        return [language for language in ("de", "zh", "ja") if language != value]
    return ["other"]


def keys() -> list[str]:
    """Return every key of the composed configuration, except those inside a corpus' own names."""
    found = settings(composed())
    inside = ("data.grammar_splits.", "data.sha256", "data.more_tests")
    return sorted(k for k in found if not k.startswith(inside)) + sorted(CONSUMERS)
