"""Files of settings of one's own: text is taken as it is written, and a mistake is named."""

import io
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TrainCommand
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seq2seq.app import composition
from seq2seq.app.sources import read_as_written, settings_in
from seq2seq.config import Config, DataConfig, OptimizerConfig

MINE = """\
defaults: [data_schema, _self_]

name: 0123
origin: files
source_language: no
target_language: no
mirror: on
joint: yes
vocab_size: 20
lr: 1e-2
train: {source: 1e3, target: 12:30, source_sha256: 0x1F}
valid: {source: ~, target: null}
test: {source: "no", target: 2020-01-01}
more_tests:
  no: {source: ~/yes}
sha256: {off: {no: 1_000, 5: .5}}
"""


def write(folder: Path, text: str | bytes) -> Path:
    """A folder for --config-dir with data/mine.yaml."""
    file = folder / "conf" / "data" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / "conf"


def test_text_is_taken_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    composition.register()
    folder = write(tmp_path, MINE)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        found = compose("train", ["data=mine", f"hydra.searchpath=[file://{folder}]"])
        data = composition.composed(found).data
    assert (data.name, data.source_language, data.mirror) == ("0123", "no", "on")
    assert (data.joint, data.vocab_size, data.lr) == (True, 20, 0.01)
    train, valid, test = data.train, data.valid, data.test
    assert (train.source, train.target, train.source_sha256) == ("1e3", "12:30", "0x1F")
    assert (valid.source, valid.target) == (None, None)
    assert (test.source, test.target) == ("no", "2020-01-01")
    assert data.more_tests["no"].source == "/home/me/yes"
    assert data.sha256 == {"off": {"no": "1_000", "5": ".5"}}


def test_lists_and_other_groups_and_files_of_a_whole_run() -> None:
    read = read_as_written("probe: {test_sets: [no, 1e3, test]}\nbackend: auto", Config)
    assert read == {"probe": {"test_sets": ["no", "1e3", "test"]}, "backend": "auto"}
    assert read_as_written("max_length: 50\nbeam_size: 5", settings_in("decode/x", None)) == {
        "max_length": "50",
        "beam_size": 5,
    }
    for alike in ("", "a: no", "- no", "name: mine", "joint: no\nlr: 1e-3", "train: no"):
        assert read_as_written(alike, DataConfig) == as_yaml(alike)
    assert read_as_written("name: no", None) == {"name": False}


def as_yaml(text: str) -> Any:
    """What OmegaConf reads by itself."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))


def test_the_settings_of_a_file_are_those_of_its_folder_or_package() -> None:
    assert settings_in("data/mine", None) is DataConfig
    assert settings_in("data/base/mine", None) is DataConfig
    assert settings_in("experiment/length", "_global_") is Config
    assert settings_in("experiment/size/length_quick", "optimizer") is OptimizerConfig
    assert settings_in("train", None) is Config
    assert settings_in("hydra/help/mine", None) is None


def test_the_programs_own_files_are_read_as_before() -> None:
    for file in (ROOT / "configs").rglob("*.yaml"):
        kind = settings_in(
            file.relative_to(ROOT / "configs").as_posix().removesuffix(".yaml"), None
        )
        text = file.read_text(encoding="utf-8")
        assert read_as_written(text, kind) == as_yaml(text), file


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("vocab_size: big", "data/mine.yaml: data.vocab_size=big: expected a whole number"),
        ("max_length: 1.5", "data/mine.yaml: data.max_length=1.5: expected a whole number"),
        ("lr: [1]", "data/mine.yaml: data.lr=[1]: expected a number"),
        ("joint: maybe", "data/mine.yaml: data.joint=maybe: expected true or false"),
        ("name: [a]", "data/mine.yaml: data.name: expected text"),
        ("name: null", "data/mine.yaml: data.name=null: expected a value, not null"),
        ("origin: fles", "data.origin: expected one of grammar, published, files; did you"),
        ("sourse: x", "data/mine.yaml: data.sourse: no such setting; expected"),
        ('name: "x', "conf/data/mine.yaml:3: found unexpected end of stream; expected YAML"),
        ("name: a\nname: b", "conf/data/mine.yaml:3: found duplicate key name; expected YAML"),
        (b"name: \xe9", "conf/data/mine.yaml: invalid continuation byte; expected text in UTF-8"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(
    text: str | bytes, line: str, tmp_path: Path, train_command: TrainCommand
) -> None:
    body = text if isinstance(text, bytes) else text.encode()
    folder = write(tmp_path, b"defaults: [data_schema, _self_]\n" + body + b"\n")
    done = train_command("--config-dir", folder, "data=mine")
    assert done.code == 2
    assert line in done.err
    assert done.err.count("\n") == 1
