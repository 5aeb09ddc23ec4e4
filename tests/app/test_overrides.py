"""Overrides of the command line are checked before Hydra composes the configuration."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import composed
from conftest import TrainCommand
from hydra._internal.hydra import Hydra

from seq2seq.app.overrides import check, choices, keys
from seq2seq.config.choices import did_you_mean
from seq2seq.config.settings import CONFIGS, settings
from seq2seq.rnn import NormConfig


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("norm=null", ["norm=null: expected one of batch, ", "did you mean none?"]),
        ("norm=lyer", ["norm=lyer: expected one of batch, ", "did you mean layer?"]),
        ("norm=none,lyer", ["norm=lyer: expected one of batch, "]),
        (
            "data=base/multi30k",
            ["data=base/multi30k: expected multi30k_", " or another of the 12 "],
        ),
        ("~norm", ["~norm: expected norm=CHOICE"]),
        ("~optimizer.lr", ["~optimizer.lr: expected optimizer.lr=VALUE"]),
        ("~experiment", ["~experiment: expected experiment=null"]),
        ("norm.epz=1", ["norm.epz=1: no such setting; expected one of norm's settings (kind, "]),
        ("+norm.epz=1", ["+norm.epz=1: no such setting", "did you mean norm.eps?"]),
        ("+nrom=layer", ["+nrom=layer: no such setting", "did you mean norm?"]),
        ("lr=0.1", ["lr=0.1: no such setting", "did you mean optimizer.lr?"]),
        ("+norm.eps=1", ["+norm.eps=1: expected norm.eps=1"]),
        ("++seed=2", ["++seed=2: expected seed=2"]),
        ("norm.cell=[", ["norm.cell=[: expected key=value in Hydra's syntax"]),
    ],
)
def test_an_unknown_override_is_refused(override: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        check(["seed=1", override])
    for part in parts:
        assert part in str(refused.value)


def test_valid_overrides_are_accepted() -> None:
    check(["norm=layer,none", "norm=glob(*)", "experiment=null", "size=quick", "hydra.run.dir=x"])
    check(["+data.sha256.train.no=a", "~data.more_tests.test_long", "hydra/launcher=joblib"])
    check(["data.upstream_split.salt=x", "seed=range(1,3)", "resume='a,b=c'"])


def test_choices_in_the_users_own_folder_are_known(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").touch()
    check(["model=mine"], [tmp_path])
    assert choices("model", [tmp_path]) == ["mine"]


def test_every_setting_is_a_known_key() -> None:
    known = keys()
    open_keys = tuple(f"{key}." for key, is_open in known.items() if is_open)
    assert open_keys == ("data.grammar_splits.", "data.sha256.", "data.more_tests.")
    for key in settings(composed()):
        assert key in known or key.startswith(open_keys)


def test_only_similar_keys_are_suggested() -> None:
    assert did_you_mean("trainer.presicion", list(keys())) == "; did you mean trainer.precision?"
    assert did_you_mean("zzz", ["norm"]) == ""


@pytest.mark.skipif(
    not hasattr(NormConfig, "__post_init__"), reason="the norm does not check its settings yet"
)
@pytest.mark.parametrize(
    "overrides",
    [
        ["norm=none", "norm.eps=1"],
        ["norm=none", "norm.gain=1"],
        ["norm=layer", "norm.momentum=0.5"],
        ["norm=layer", "norm.min_rows=9"],
        ["norm=rms", "norm.statistics=shared"],
        ["norm=batch", "norm.group=gate"],
        ["norm=layer", "norm.eps=0"],
    ],
)
def test_settings_of_another_norm_are_refused(overrides: list[str]) -> None:
    key = overrides[1].partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{key}=.*expected"):
        composed(*overrides)


def test_no_file_of_settings_sets_hydras_mode() -> None:
    """A command does not look for it: see `mode_of_options`."""
    for file in CONFIGS.rglob("*.yaml"):
        of_hydra = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("hydra") or {}
        assert "mode" not in of_hydra, file


@pytest.mark.parametrize(
    ("words", "count"), [([], 1), (["hydra.mode=RUN"], 2), (["--config-dir", "own"], 2)], ids=str
)
def test_settings_are_composed_once(
    words: list[str],
    count: int,
    train_command: TrainCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own").mkdir()
    composed = []

    def noted(self: Hydra, *args: Any, **kwargs: Any) -> Any:
        composed.append(kwargs["overrides"])
        return compose(self, *args, **kwargs)

    compose = Hydra.compose_config
    monkeypatch.setattr(Hydra, "compose_config", noted)
    assert train_command(*words, "seed=-1").code == 2
    assert len(composed) == count
