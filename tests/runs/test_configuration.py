"""config.yaml: every setting is read as it was written; wrong settings are named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from seq2seq.config import Config, ProbeKind, SplitConfig, SplitRule, TextOrigin, TrainerConfig
from seq2seq.config.settings import plain, settings
from seq2seq.rnn import NormConfig, NormKind, Statistics
from seq2seq.runs.configuration import read_config, write_config
from seq2seq.runs.folder import Run, RunError, Status


def written(config: Config, folder: Path) -> Config:
    write_config(folder / "config.yaml", config)
    return read_config(folder / "config.yaml")


def test_every_setting_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = Config(
        norm=NormConfig(NormKind.batch, gain=1, statistics=Statistics.shared),
        trainer=TrainerConfig(max_epochs=None, max_updates=7),
        seed=3,
    )
    config.data.name, config.data.source_language = "10", "no"
    config.data.mirror = "中文 a: b"
    config.data.batch_tokens, config.data.batch_sentences = None, 3
    config.data.origin, config.data.train = TextOrigin.published, SplitConfig("a", "b", "0", "0")
    config.data.upstream_split = SplitRule(file="x", train_share=0.5)
    config.data.cleaning.max_length_ratio = 4
    config.probe.kinds = [ProbeKind.length, ProbeKind.invariance]
    found = written(config, tmp_path)
    assert settings(found) == settings(config)
    assert type(found.norm.gain) is type(found.data.cleaning.max_length_ratio) is float
    assert written(found, tmp_path) == found


@pytest.mark.parametrize(
    ("group", "settings_", "is_later"),
    [
        ("trainer", {"max_updates": 900}, True),
        ("trainer", {"max_epochs": 90}, True),
        ("trainer", {"progress": False}, True),
        ("trainer", {"patience": 3}, False),
        ("optimizer", {"lr": 0.5}, False),
        ("optimizer", {"accumulate": 2}, False),
        ("decode", {"length_penalty": 0.5}, False),
        ("data", {"max_length": 50}, False),
    ],
)
def test_a_run_is_resumed_with_a_later_end_alone(
    group: str, settings_: dict[str, Any], is_later: bool, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    run.save_config(Config())
    changed = {group: replace(getattr(Config(), group), **settings_)}
    asked = replace(Config(), resume=str(tmp_path), **changed)
    if is_later:
        assert run.status(asked) is Status.unfinished
    else:
        with pytest.raises(RunError, match=rf"holds another configuration \({group}\."):
            run.status(asked)


def test_settings_of_an_old_file_that_its_norm_does_not_use_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("norm: {kind: none, eps: 1.0, momentum: 7.0}\n")
    assert read_config(tmp_path / "config.yaml").norm == NormConfig(NormKind.none)
    (tmp_path / "config.yaml").write_text("norm: {kind: layer, eps: 1.0, momentum: 7.0}\n")
    assert read_config(tmp_path / "config.yaml").norm == NormConfig(NormKind.layer, eps=1.0)


def test_the_file_is_plain_yaml_in_the_order_of_the_settings(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", Config())
    content = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert content == plain(Config())
    assert list(content) == list(plain(Config()))


def test_a_setting_missing_in_an_older_file_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 5\nnorm:\n  kind: rms\n")
    norm = replace(Config().norm, kind=NormKind.rms)
    assert read_config(tmp_path / "config.yaml") == replace(Config(), seed=5, norm=norm)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: many", "seed='many': expected int"),
        ("seed: true", "seed=True: expected int"),
        ("norm: layer", "norm='layer': expected NormConfig"),
        ("norm: {kind: odd}", r"norm\.kind='odd': expected NormKind"),
        ("optimizer: {lr: fast}", r"optimizer\.lr='fast': expected float"),
        ("probe: {lengths: [1, x]}", r"probe\.lengths\[1\]='x': expected int"),
        ("optimizer: {betas: [0.9, x]}", r"optimizer\.betas\[1\]='x': expected float"),
        ("optimizer: {betas: [x, y]}", r"optimizer\.betas\[0\]='x': expected float"),
        ("norm: {colour: red}", r"norm\.colour: unknown setting"),
        ("colour: red", "^colour: unknown setting"),
        ("- 1", r"the file=\[1\]: expected Config"),
    ],
)
def test_a_wrong_setting_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / "config.yaml")
