"""configs/: every file composes, values have the types of seq2seq.config, and every choice works."""

import ast
import re
import sys
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from config_types import wrong
from conftest import ROOT, exit_code
from fixture_types import Composed
from omegaconf.errors import OmegaConfBaseException
from typed import present

from seq2seq.app import prepare, train
from seq2seq.config import Backend, CellKind, Config, TextOrigin, TokenizerKind
from seq2seq.data.tokenizer_training import LEAST_PIECES
from seq2seq.rnn import CellNorm, NormConfig, NormKind

pytest_plugins = ["config_fixtures"]


GROUPS = ("data", "tokenizer", "norm", "cell", "model", "optimizer", "trainer", "decode", "probe")


CHOICES = {
    group: sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))
    for group in GROUPS
}


def test_wrong_types_are_detected() -> None:
    config = Config()
    assert wrong(config, Config) == []
    config.optimizer.lr, config.optimizer.betas = 1, (0.9, 1)
    config.norm.kind = "layer"  # type: ignore[assignment]
    config.data.more_tests = {"a": {}}  # type: ignore[dict-item]
    assert sorted(w.partition("=")[0] for w in wrong(config, Config)) == [
        "data.more_tests.a",
        "norm.kind",
        "optimizer.betas",
        "optimizer.lr",
    ]


# -- every file ---


def test_every_group_has_files_and_every_file_a_group() -> None:
    assert all(CHOICES.values())
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    assert set(GROUPS) == {f.name for f in fields(Config) if is_dataclass(f.type)}
    assert folders - {"hydra", "experiment", "size"} == set(GROUPS)


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group in GROUPS for choice in CHOICES[group]]
)
def test_every_file_composes(composed: Composed, group: str, choice: str) -> None:
    config = composed(f"{group}={choice}")
    assert wrong(config, Config) == []
    kind = getattr(getattr(config, group), "kind", None)
    if group in ("norm", "cell", "tokenizer", "optimizer"):
        assert present(kind).value == choice.partition("_")[0]
    if group == "data" and choice != "files":
        assert config.data.name == choice
    assert config.tokenizer.vocab_size == config.data.vocab_size
    assert config.tokenizer.joint == config.data.joint
    assert config.trainer.max_epochs == config.data.epochs


@pytest.mark.parametrize("norm", CHOICES["norm"])
def test_every_file_composes_with_every_norm(composed: Composed, norm: str) -> None:
    """The settings of a norm do not depend on other groups."""
    alone = composed(f"norm={norm}").norm
    for i in range(max(len(CHOICES[group]) for group in GROUPS if group not in ("norm", "data"))):
        chosen = {
            group: CHOICES[group][i % len(CHOICES[group])] for group in GROUPS if group != "norm"
        }
        config = composed(
            f"norm={norm}", *(f"{group}={choice}" for group, choice in chosen.items())
        )
        assert config.norm == alone
        assert wrong(config, Config) == []
        kind, _, function = chosen["cell"].partition("_")
        assert (config.cell.kind.value, config.cell.nonlinearity.value) == (
            kind,
            function or "tanh",
        )


def test_an_unknown_choice_or_key_is_refused(composed: Composed) -> None:
    from hydra.errors import HydraException

    for override in (
        "norm=nothing",
        "norm.epsilon=1",
        "optimizer.lr=fast",
        "norm.kind=group",
        "seed=one",
        "model.attention=hard",
        "trainer.recalibrate=perhaps",
    ):
        with pytest.raises((HydraException, OmegaConfBaseException)):
            composed(override)


# -- every choice ---


def enums(kind: Any, prefix: str = "") -> dict[str, type[Enum]]:
    """Return the enum of every setting that is one of several, by its dotted key."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, Enum):
                found[f"{prefix}{name}"] = part
            elif is_dataclass(part) and get_origin(hint) is not dict:
                found |= enums(part, f"{prefix}{name}.")
    return found


ENUMS = enums(Config)


LISTS = {"probe.kinds"}
"""Settings of which several can be chosen."""


BY_GROUP = {"norm.kind": "norm"}
"""Settings that are chosen by their group: each kind needs other settings."""


NEEDED = {
    "cell.nonlinearity": ["cell=rnn"],
    "data.origin=files": ["data=files"],
    "data.origin=published": ["data=multi30k_de_en"],
    "model.tying": ["tokenizer.joint=true"],
    "norm.kind=none": ["norm=none"],
    "norm.statistics": ["norm=batch"],
    "norm.terms=joint_all": ["cell=gru"],
    "tokenizer.bpe_dropout_sides": ["tokenizer.bpe_dropout=0.1"],
}
"""What a setting, or a choice of it, needs to have an effect."""


@pytest.mark.parametrize("key", ENUMS)
def test_every_choice_is_accepted(composed: Composed, key: str) -> None:
    for member in ENUMS[key]:
        override = f"{key}=[{member.name}]" if key in LISTS else f"{key}={member.name}"
        needed = NEEDED.get(override, NEEDED.get(key, []))
        config = composed(*needed, override)
        value = attrgetter(key)(config)
        assert value == [member] if key in LISTS else value is member


def test_settings_with_several_choices_are_found() -> None:
    assert {
        "norm.kind",
        "norm.terms",
        "model.attention",
        "trainer.device",
        "backend",
        "data.origin",
    } <= ENUMS.keys()


@pytest.mark.parametrize(
    ("norm", "name"),
    [("layer", "cell"), ("layer", "terms"), ("rms", "group"), ("batch_shared", "statistics")],
)
def test_every_choice_of_a_norm_is_accepted(composed: Composed, norm: str, name: str) -> None:
    for member in ENUMS[f"norm.{name}"]:
        override = f"norm.{name}={member.name}"
        config = composed(f"norm={norm}", *NEEDED.get(override, []), override)
        assert getattr(config.norm, name) is member


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
def test_the_norms_of_a_translator_have_the_same_gain_and_place(
    composed: Composed, norm: str
) -> None:
    """The layer's own defaults are the papers'."""
    found = composed(f"norm={norm}").norm
    assert (found.gain, found.cell) == (0.3, CellNorm.none)
    assert NormConfig(found.kind).cell is CellNorm.output


def test_a_setting_that_the_norm_does_not_use_is_refused(composed: Composed) -> None:
    with pytest.raises(ValueError, match=r"norm\.min_rows=8: means nothing to norm\.kind=layer"):
        composed("norm=layer", "norm.min_rows=8")


def test_every_kind_has_a_file() -> None:
    for group, kind in (("norm", NormKind), ("cell", CellKind), ("tokenizer", TokenizerKind)):
        assert (
            {choice.partition("_")[0] for choice in CHOICES[group]}
            == set(kind.__members__)
            <= set(CHOICES[group])
        )
    assert set(CHOICES["model"]) == {"tiny", "mini", "small", "base"}
    assert set(Backend.__members__) == {"auto", "reference", "fused"}
    for choices in ENUMS.values():
        assert all(member.name == member.value for member in choices)


def test_the_defaults_are_those_of_the_readme(composed: Composed) -> None:
    config = composed()
    assert (config.norm.kind, config.cell.kind, config.data.name) == (
        NormKind.layer,
        CellKind.lstm,
        "grammar_en_zh",
    )
    assert (config.seed, config.resume, config.overwrite, config.backend) == (
        1,
        None,
        False,
        Backend.auto,
    )
    assert composed(name="prepare_data") == config


# -- corpora ---


@pytest.mark.parametrize("name", CHOICES["data"])
def test_every_corpus_is_complete(composed: Composed, name: str) -> None:
    data = composed(f"data={name}").data
    assert data.name == name
    for language in (data.source_language, data.target_language):
        assert re.fullmatch("[a-z]{2}", language)
    assert data.source_language != data.target_language
    assert data.vocab_size >= LEAST_PIECES
    assert data.epochs > 0
    assert (data.batch_tokens is None) != (data.batch_sentences is None)
    splits = {"train": data.train, "valid": data.valid, "test": data.test, **data.more_tests}
    if name == "files":
        assert all(split.source is None for split in splits.values())
        return
    for split, found in splits.items():
        if (name, split) == ("iwslt15_en_vi", "train"):
            assert found.source is None
            continue
        assert found.source
        assert found.target
        assert found.source != found.target
        if data.origin is TextOrigin.published:
            assert f".{data.source_language}" in found.source
            assert f".{data.target_language}" in found.target
            assert re.fullmatch("[0-9a-f]{64}", present(found.source_sha256))
            assert re.fullmatch("[0-9a-f]{64}", present(found.target_sha256))
            assert data.mirror_folder
    if data.origin is TextOrigin.grammar:
        assert (ROOT / present(data.grammar)).is_file()
        assert data.grammar_splits.keys() == splits.keys()
        assert all(
            0 < s.min_words <= s.max_words and s.count > 0 for s in data.grammar_splits.values()
        )


@pytest.mark.parametrize("name", CHOICES["data"])
def test_published_corpora_take_the_model_for_real_sentences(composed: Composed, name: str) -> None:
    found = composed(f"data={name}")
    size = "base" if found.data.origin is TextOrigin.published else "small"
    assert found.model == composed(f"model={size}").model
    assert composed(f"data={name}", "model=tiny").model == composed("model=tiny").model


def test_different_texts_have_different_checksums(composed: Composed) -> None:
    known: dict[str, tuple[str | None, str | None]] = {}
    for name in CHOICES["data"]:
        data = composed(f"data={name}").data
        for split, found in {
            "train": data.train,
            "valid": data.valid,
            "test": data.test,
            **data.more_tests,
        }.items():
            for file, sha256 in (
                (found.source, found.source_sha256),
                (found.target, found.target_sha256),
            ):
                if sha256 is not None:
                    folder = found.mirror_folder or data.mirror_folder
                    assert known.setdefault(sha256, (folder, file)) == (
                        folder,
                        file,
                    ), f"{name} {split}"


def test_both_directions_of_a_corpus_are_the_same_texts(composed: Composed) -> None:
    for one, other in (
        ("multi30k_de_en", "multi30k_en_de"),
        ("multi30k_fr_en", "multi30k_en_fr"),
        ("tatoeba_en_zh", "tatoeba_zh_en"),
    ):
        a, b = composed(f"data={one}").data, composed(f"data={other}").data
        assert (a.source_language, a.target_language) == (b.target_language, b.source_language)
        for split in ("train", "valid", "test"):
            ours, theirs = getattr(a, split), getattr(b, split)
            assert (ours.source, ours.source_sha256) == (theirs.target, theirs.target_sha256)


# -- help ---


@pytest.mark.parametrize(
    ("program", "module"), [("train.py", train), ("scripts/prepare_data.py", prepare)]
)
def test_help_lists_every_group_and_choice(
    program: str,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    assert exit_code(module.main) == 0
    shown = capfd.readouterr().out
    for group, choices in CHOICES.items():
        (listed,) = re.findall(rf"^{group}: (.*)$", shown, re.M)
        assert listed.split(", ") == sorted(choices)
    assert "_schema" not in shown
    if program == "train.py":
        for setting in ("norm:", "  lr: ${data.lr}", "  max_epochs: ", "  beam_size: 5", "seed: 1"):
            assert f"\n{setting}" in shown


@pytest.mark.parametrize(
    "path", sorted((ROOT / "seq2seq" / "config").glob("*.py")), ids=lambda path: path.name
)
def test_every_class_of_settings_has_a_docstring(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name
