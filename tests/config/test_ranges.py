"""Every number of every group of settings, with values that it can't have: each is refused by its
own key.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from seq2seq.app import composition
from seq2seq.app.explanations import explained
from seq2seq.config import Config
from seq2seq.config.settings import kind_of

NUMBERS = (int, float)
OPEN = {"data.grammar_splits": "data.grammar_splits.train", "data.sha256": None}
"""Dictionaries of settings, and a name in them to try."""


def numeric(kind: Any = Config, prefix: str = "") -> Iterator[str]:
    """The keys of all settings that hold a number, or several."""
    for name, hint in get_type_hints(kind).items():
        key = f"{prefix}{name}"
        found = kind_of(key)
        assert found is not None
        if is_dataclass(found.type):
            yield from numeric(found.type, f"{key}.")
        elif get_origin(found.type) is dict and OPEN.get(key):
            yield from numeric(get_args(hint)[1], f"{OPEN[key]}.")
        elif found.type in NUMBERS or set(get_args(found.type)) & set(NUMBERS):
            yield key


KEYS = list(numeric())
ZERO = {
    *("data.lr", "data.grammar_seed", "data.grammar_splits.train.count", "decode.length_penalty"),
    *("decode.min_length", "decode.no_repeat_ngram"),
    *(
        "data.upstream_split.source_column",
        "model.dropout",
        "model.recurrent_dropout",
        "model.word_dropout",
        "norm.cell_gain",
        "norm.gain",
        "norm.momentum",
    ),
    *("optimizer.clip_norm", "optimizer.lr", "optimizer.min_lr_ratio"),
    *("optimizer.momentum", "optimizer.warmup_updates", "optimizer.weight_decay", "seed"),
    "trainer.max_skipped",
    *(
        "trainer.average_best",
        "trainer.average_last",
        "trainer.label_smoothing",
        "trainer.r_drop",
        "tokenizer.bpe_dropout",
        "decode.shortlist",
    ),
}
"""Settings that may be 0."""


@pytest.fixture(scope="module")
def bases() -> dict[str, DictConfig]:
    """Compositions to change: of the built-in corpus, and of one that is split by a rule."""
    composition.register()
    norm = ["norm=batch", "norm.cell=output"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return {
            "rule": compose("train", ["data=tatoeba_en_zh", *norm]),
            "": compose("train", norm),
        }


def answer(bases: dict[str, DictConfig], key: str, value: str) -> str | None:
    """What the command line answers to a setting; None where it takes it."""
    cfg = bases["rule" if key.startswith("data.upstream_split.") else ""].copy()
    try:
        overrides = OverridesParser.create().parse_overrides([f"{key}={value}"])
        ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
        composition.composed(cfg)
    except HydraException as error:
        return explained(error)
    except ValueError as error:
        return str(error)
    return None


def test_the_walk_meets_every_group() -> None:
    assert {key.partition(".")[0] for key in KEYS} == {
        *("norm", "model", "tokenizer", "data", "optimizer", "trainer", "decode", "probe", "seed")
    }
    assert len(KEYS) > 55
    assert {"optimizer.betas", "probe.lengths", "data.upstream_split.train_share"} <= set(KEYS)


@pytest.mark.parametrize(
    "value", ["-1", "1e300", str(10**30), "nan", "inf", "-inf", "abc", "[1,x]"]
)
def test_a_value_beyond_sense_is_refused_by_its_own_key(
    value: str, bases: dict[str, DictConfig]
) -> None:
    for key in KEYS:
        kind = kind_of(key)
        assert kind is not None
        several = bool(get_args(kind.type))
        asked = f"[{value},{value}]" if several and value[0] != "[" else value
        said = answer(bases, key, asked)
        assert said is not None, (key, asked)
        assert re.match(rf"{re.escape(key)}=.*: expected ", said), said
        assert len(said) < 160, said


@pytest.mark.parametrize("value", ["0", "null", "true", "[]", "{a: 1}", "''"])
def test_a_value_that_some_numbers_have(value: str, bases: dict[str, DictConfig]) -> None:
    for key in KEYS:
        kind = kind_of(key)
        assert kind is not None
        said = answer(bases, key, value)
        taken = {
            "0": key in ZERO,
            "null": kind.optional and said is None,
            "[]": get_origin(kind.type) is list and said is None,
        }.get(value, False)
        assert (said is None) == taken, (key, value, said)
        assert said is None or re.match(rf"{re.escape(key)}=.*: expected ", said), said


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optimizer.betas", "[0.9]", "=[0.9]: expected 2 numbers, each at least 0 and less than 1"),
        ("optimizer.betas", "[0.9,1.5]", "=[0.9,1.5]: expected 2 numbers, each at least 0"),
        ("optimizer.betas", "[0.9,0.9,0.9]", "=[0.9,0.9,0.9]: expected 2 numbers"),
        ("optimizer.eps", "1e-46", "=1e-46: expected at least 1e-30 and at most 1"),
        ("model.hidden_size", "-4", "=-4: expected at least 1 and at most 131072"),
        ("data.train_pairs", "-3", "=-3: expected at least 1"),
        ("data.train_pairs", str(10**13), f"={10**13}: expected at most 1000000000000"),
        ("data.vocab_size", "-1", "=-1: expected at least 5"),
        ("data.epochs", "0", "=0: expected at least 1"),
        ("data.lr", "-1", "=-1.0: expected at least 0"),
        ("probe.buckets", "[10,0]", "=[10,0]: expected at least 1"),
        ("norm.min_rows", "1", "=1: expected at least 2"),
        ("decode.max_length", "0", "=0: expected 'Ax+B'"),
        ("decode.max_length", "-5", "=-5: expected 'Ax+B'"),
        ("decode.max_length", f"{'9' * 29}x", f"={'9' * 29}x: expected 'Ax+B' with A at most 1000"),
        ("decode.max_length", "2x+100001", "=2x+100001: expected 'Ax+B' with A at most 1000 and B"),
        ("decode.max_length", "9" * 400, "=999"),
        ("decode.min_length", "100001", "=100001: expected at least 0 and at most 100000"),
        ("optimizer.betas", "3", "=3: expected a list, as in [0.9,0.999]"),
        ("trainer.max_epochs", "null", "=null: expected a number, or another end"),
        ("data.batch_tokens", "null", "=null: expected a number, or one for data.batch_sentences"),
    ],
)
def test_what_is_said(key: str, value: str, expected: str, bases: dict[str, DictConfig]) -> None:
    said = answer(bases, key, value)
    assert said is not None
    assert said.startswith(f"{key}{expected}"), said


def test_the_longest_translation_is_bounded(bases: dict[str, DictConfig]) -> None:
    assert answer(bases, "decode.max_length", "1000x+100000") is None


def test_errors_are_the_same_under_a_debugger(bases: dict[str, DictConfig]) -> None:
    expected = answer(bases, "probe.lengths", "[1e300,1e300]")
    tracer = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        assert answer(bases, "probe.lengths", "[1e300,1e300]") == expected
    finally:
        sys.settrace(tracer)


def test_an_error_that_is_its_own_cause_is_explained(
    bases: dict[str, DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OC_CAUSE", "1")
    assert answer(bases, "probe.lengths", "[1e300,1e300]")
