"""Every setting has an effect, or is refused, or is listed as without effect by design.

The evidence is a training: what it logs, its weights, its scores and translations, its tokenizers.
"""

import hashlib
import json
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import get_args, get_type_hints

import pytest
from conftest import ROOT, composed, reversed_pairs, write_pairs

from seq2seq.app.overrides import choices
from seq2seq.config import Config
from seq2seq.config.settings import BY_DESIGN, CONFIGS, differences, settings
from seq2seq.data.corpora import read_split
from seq2seq.rnn import NormConfig
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

pytestmark = pytest.mark.slow

TIMES = ("seconds", "tokens_per_second", "wall_seconds", "time")
EVERY_UPDATE = ["trainer.validate_every=1", "data.epochs=2"]
PLATEAU = ["optimizer.schedule=plateau", *EVERY_UPDATE]
LEARNT = ["data.epochs=8", "data.lr=0.03"]
NO_VALID = ["data.valid.source=null", "data.valid.target=null"]
NEEDED = {
    "cell.nonlinearity": ["cell=rnn"],
    "data.batch_tokens": ["data.batch_sentences=null", "data.batch_tokens=300"],
    "data.valid_share": NO_VALID,
    "model.tying": ["tokenizer.joint=true"],
    "model.encoder_layers": ["model.decoder_layers=2"],
    "norm.group": ["norm=layer"],
    "norm.max_steps": ["norm=batch"],
    "norm.min_rows": ["norm=batch"],
    "norm.momentum": ["norm=batch", "trainer.recalibrate=false"],
    "norm.statistics": ["norm=batch"],
    "optimizer.min_lr_ratio": ["optimizer.warmup_updates=0"],
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
    "tokenizer.byte_fallback": ["tokenizer=unigram", "tokenizer.vocab_size=20"],
    "trainer.average_last": EVERY_UPDATE,
    "trainer.best_metric": EVERY_UPDATE,
    "trainer.patience": EVERY_UPDATE,
    "trainer.recalibrate": ["norm=batch"],
    "trainer.recalibrate_batches": ["norm=batch"],
    "trainer.validate_sentences": LEARNT,
    "decode.replace_unk": ["tokenizer.vocab_size=8"],
}
"""What a setting needs to have an effect on the small training here."""
VALUES = {
    "data.batch_tokens": ["100"],
    "data.bucket_batches": ["2"],
    "data.cleaning.max_length_ratio": ["2"],
    "data.max_length": ["4"],
    "data.train_pairs": ["60"],
    "data.vocab_size": ["8"],
    "data.valid_share": ["0.4"],
    "decode.max_length": ["1"],
    "model.hidden_size": ["32"],
    "norm.terms": ["joint"],
    "norm.cell": ["carried", "none"],
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
    "tokenizer.vocab_size": ["9"],
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
"""Other values to try than those that a setting's type suggests."""
RULE = ("salt", "train_share", "valid_share", "name_side")
COLUMNS = ("file", "source_column", "target_column")
CONSUMERS = {
    "decode.beam_size": ("translation/search.py", r"config\.beam_size"),
    "data.mirror_folder": ("data/corpora.py", r"\.mirror_folder"),
    "data.upstream": ("data/corpora.py", r"config\.upstream\b"),
    "data.upstream_is_gzip": ("data/corpora.py", r"config\.upstream_is_gzip"),
    "data.upstream_split": ("data/corpora.py", r"config\.upstream_split"),
    **{f"data.upstream_split.{name}": ("data/splitting.py", rf"rule\.{name}") for name in RULE},
    **{f"data.upstream_split.{name}": ("data/corpora.py", rf"columns\.{name}") for name in COLUMNS},
    "data.upstream_split.git_blob": ("data/corpora.py", r"rule\.git_blob"),
    **{
        f"data.{split}.mirror_folder": ("data/corpora.py", r"split\.mirror_folder")
        for split in ("train", "valid", "test")
    },
}
"""Settings of published corpora -> the code that reads them, for which a test has no network.

So small a model finds the same translations with every beam.
"""
GRAMMAR = [
    "data=grammar_en_zh",
    "data.test.source=null",
    "data.test.target=null",
    *(f"data.grammar_splits.{split}.count=30" for split in ("train", "valid", "test", "test_long")),
]


def write(folder):
    """A corpus in which each rule of clean-up, NFKC and <unk> find something; its settings."""
    odd = [("do " * 12, "re re"), ("ﬁ do", "do fi"), ("x do y", "y do x"), ("do re", "re do")]
    train = reversed_pairs(80, 0) + [(a.strip(), b) for a, b in odd] * 2
    files = write_pairs(folder, "train", train)
    files += write_pairs(folder, "valid", [*reversed_pairs(8, 1), ("q do", "do q")])
    return files + write_pairs(folder, "test", [*reversed_pairs(6, 2), ("z re", "re z")])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Settings of a run of three updates."""
    folder = tmp_path_factory.mktemp("corpus")
    return [
        "data=files",
        "data.name=toy",
        f"data.root={folder / 'prepared'}",
        *write(folder),
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


def without_times(value):
    """A JSON value without what differs from one training to the next."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in TIMES and "second" not in k}
        return {k: without_times(v) for k, v in kept.items()}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def fingerprint(config, folder):
    """A hash of all that a training leaves, but for its settings and its times."""
    train(config, Run(folder))
    run = Run(folder)
    digest = hashlib.sha256()
    for name in ("metrics.jsonl", "probes.jsonl"):
        path = run.folder / name
        for line in path.read_text().splitlines() if path.exists() else []:
            digest.update(repr(without_times(json.loads(line))).encode())
    results = without_times(run.results())
    digest.update(
        repr({k: results[k] for k in ("valid", "test", "update") if k in results}).encode()
    )
    for path in sorted([*run.folder.glob("tokenizer*"), *run.translations.iterdir()]):
        digest.update(path.name.encode() + path.read_bytes())
    for name, tensor in sorted(load_checkpoint(run.checkpoint("best"))[0].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """The fingerprint of the base with these overrides; ValueError where they are refused."""
    known = {}

    def make(*overrides):
        if overrides not in known:
            config = composed(*base, *overrides)
            known[overrides] = fingerprint(config, tmp_path_factory.mktemp("run") / "run")
        return known[overrides]

    return make


def hint_of(key):
    """The type of a setting, without None."""
    kind = Config
    for name in key.split("."):
        hint = get_type_hints(kind)[name]
        parts = [part for part in get_args(hint) if part is not type(None)] or [hint]
        kind = parts[0]
    return kind


def others(key, value):
    """Other values of a setting than the present one."""
    if key in VALUES:
        return VALUES[key]
    kind = hint_of(key)
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


def keys():
    """Every key of the composed configuration, without those inside a corpus' own names."""
    found = settings(composed())
    inside = ("data.grammar_splits.", "data.sha256", "data.more_tests")
    return sorted(k for k in found if not k.startswith(inside)) + sorted(CONSUMERS)


@pytest.mark.parametrize("key", dict.fromkeys(keys()))
def test_a_setting_has_an_effect_or_is_refused_or_is_listed(key, base, trained):
    if key in CONSUMERS:
        file, read = CONSUMERS[key]
        assert re.search(read, (ROOT / "seq2seq" / file).read_text(encoding="utf-8"))
        return
    if key.startswith("norm.") and not hasattr(NormConfig, "__post_init__"):
        pytest.skip("the norm does not check its settings yet")
    needed = NEEDED.get(key, [])
    value = settings(composed(*base, *needed))[key]
    before = trained(*needed)
    effects = 0
    for other in others(key, value):
        if key == "resume" or (key, other) == ("data.grammar", "other"):
            continue
        try:
            changed = trained(*needed, f"{key}={other}")
        except (ValueError, OSError):  # refused, or the text that it names is not there
            continue
        if key not in BY_DESIGN:
            assert changed != before, f"{key}={other}"
        effects += changed != before
    if key in BY_DESIGN and key not in ("trainer.recalibrate", "backend"):
        assert not effects, f"{key} is listed as without effect"


@pytest.mark.parametrize("key", [key for key in NEEDED if not key.startswith("norm.")])
def test_a_setting_that_is_refused_elsewhere_has_an_effect_where_it_counts(key, base, trained):
    value = settings(composed(*base, *NEEDED[key]))[key]
    found = set()
    for other in others(key, value):
        try:
            found.add(trained(*NEEDED[key], f"{key}={other}"))
        except ValueError:
            assert key == "tokenizer.byte_fallback"  # 256 bytes more than the vocabulary has
            return
    assert found - {trained(*NEEDED[key])}


@pytest.mark.parametrize(
    "change",
    ["data.grammar_seed=2", "data.grammar_splits.train.count=31"]
    + [f"data.grammar_splits.train.{name}" for name in ("min_words=9", "max_words=6")],
)
def test_settings_of_a_grammar_change_its_text(change, tmp_path):
    root = f"data.root={tmp_path}"
    texts = [read_split(composed(*GRAMMAR, root, *more).data, "train") for more in ([], [change])]
    assert texts[0] != texts[1]


GROUPS = {f.name: f for f in fields(Config) if is_dataclass(f.type)}
CHOICES = [(group, choice) for group in GROUPS for choice in choices(group)]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_a_group_is_another_run(group, choice, base, trained):
    """A corpus by the text that it names; a group with one choice is no choice."""
    if group == "data":
        names = {name for name in choices("data") if name != choice}
        mine = composed(f"data={choice}")
        for name in names:
            found = differences(mine, composed(f"data={name}"))
            assert found.keys() - set(BY_DESIGN)
        return
    if len(choices(group)) == 1:
        return
    apart = {"model": "data.name=toy", "tokenizer": "tokenizer.vocab_size=20"}.get(group)
    more = [apart] if apart else []
    mine = trained(*more, f"{group}={choice}")
    for other in choices(group):
        if other != choice:
            assert trained(*more, f"{group}={other}") != mine, other


@pytest.mark.parametrize("group", ["experiment", "size"])
def test_every_experiment_and_size_changes_settings(group):
    plain = composed()
    for choice in choices(group):
        found = differences(plain, composed(f"{group}={choice}"))
        assert found.keys() - set(BY_DESIGN) or choice == "convergence"


def test_what_is_listed_is_a_setting_and_says_what_it_changes():
    known = settings(Config())
    for key, changes in BY_DESIGN.items():
        assert key in known or any(k.startswith(f"{key}.") for k in known) or key in (
            "data.sha256", "data.more_tests",
        )  # fmt: skip
        assert changes
    assert (CONFIGS / "train.yaml").is_file()
