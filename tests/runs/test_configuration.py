"""config.yaml: every setting is read as it was written; wrong settings are named."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seq2seq.config import Config, ProbeKind, SplitConfig, SplitRule, TextOrigin, TrainerConfig
from seq2seq.config.settings import plain, settings
from seq2seq.rnn import NormConfig, NormKind, Statistics
from seq2seq.runs.configuration import read_config, write_config


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
