"""Configurations as Hydra composes them, each choice of files only once.

Hydra first composes the files that overrides choose, which takes nine tenths of its time, and then
sets the values of the other overrides. Here it does the same, and the composed files are kept.
"""

import re
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from seq2seq.app import composition
from seq2seq.config import Config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def by_hydra(overrides: Iterable[str], name: str = "train", hydra: bool = False) -> DictConfig:
    """Return what Hydra composes of these overrides, if asked for with its own settings."""
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base=composition.VERSION_BASE):
        return compose(name, list(overrides), return_hydra_config=hydra)


_kept = cache(by_hydra)


def sets_value(override: str) -> bool:
    """Return whether an override sets the value of a setting, and chooses no file."""
    key = override.partition("=")[0]
    return re.fullmatch(r"(?!hydra\b)[\w.]+", key) is not None and not (CONFIGS / key).is_dir()


def composed_settings(*overrides: str, name: str = "train", hydra: bool = False) -> DictConfig:
    """Return what `by_hydra` does, of files that are composed once."""
    choices = tuple(o for o in overrides if not sets_value(o))
    values = OverridesParser.create().parse_overrides([o for o in overrides if sets_value(o)])
    cfg = deepcopy(_kept(choices, name, hydra))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    return cfg


@cache
def _config(name: str, *overrides: str) -> Config:
    return composition.composed(composed_settings(*overrides, name=name))


def composed(*overrides: str, name: str = "train") -> Config:
    """Return the configuration that train.py, or another command, composes from these overrides."""
    return deepcopy(_config(name, *overrides))
