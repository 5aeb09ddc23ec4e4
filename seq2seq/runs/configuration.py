"""config.yaml: a configuration as plain YAML, and back."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from ..config import Config, OptimizerConfig, TokenizerConfig
from ..config.settings import plain
from ..files import write_text
from ..rnn.config import MEANINGFUL, NormConfig, NormKind
from ..shown import brief
from ..stored import text
from .typed import name_of, shown, typed, types_of

LARGEST = 1 << 20
"""Bytes of the largest YAML file that is read; its nodes need some hundred times that."""
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""What no name of a file and no UTF-8 text has."""


def read_yaml(text: str) -> Any:
    """Return the plain data of a YAML text, read by libyaml where it is installed.

    ValueError for another text, with the line.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"a value of no known form: {error}") from error
    finally:
        loader.dispose()


def read_config(file: Path) -> Config:
    """Return the configuration of a config.yaml; ValueError names the setting that is wrong."""
    try:
        config = typed(read_yaml(text(file, LARGEST)), Config, "", _dataclass)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    assert isinstance(config, Config)
    return config


def write_config(file: Path, config: Config) -> None:
    """Write a configuration as YAML."""
    write_text(file, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))


def _dataclass(value: dict[str, Any], kind: Any, key: str) -> Any:
    if kind is TokenizerConfig:
        value = _with_normalization(value)
    types, prefix = types_of(kind), f"{key}." if key else ""
    known = {f.name for f in fields(kind)}
    if unknown := [name for name in value if name not in known]:
        raise ValueError(f"{prefix}{brief(str(unknown[0]))}: unknown setting")
    for name, v in value.items():
        if isinstance(v, str) and UNWRITABLE.search(v):
            raise ValueError(f"{prefix}{name}={shown(v)}: expected whole characters, without NUL")
    if kind is NormConfig:
        value = _meaningful(value)
    if kind is OptimizerConfig:
        value = _with_decay(value)
    return kind(**{n: typed(v, types[n], f"{prefix}{n}", _dataclass) for n, v in value.items()})


def _meaningful(norm: dict[str, Any]) -> dict[str, Any]:
    """Leave out what means nothing to a norm's kind, as earlier versions stored it."""
    kind = NormKind.__members__.get(name_of(norm.get("kind", NormConfig().kind.name)))
    return norm if kind is None else {n: v for n, v in norm.items() if n in MEANINGFUL[kind]}


def _with_decay(optimizer: dict[str, Any]) -> dict[str, Any]:
    """Add what weight decay pulls to the settings of an earlier version: every parameter."""
    return {"decay_vectors": bool(optimizer.get("weight_decay")), **optimizer}


def _with_normalization(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Replace an earlier version's nfkc, which held for both sides; it left markup alone."""
    if "nfkc" not in tokenizer:
        return tokenizer
    form = "nfkc" if tokenizer["nfkc"] else "none"
    others = {name: value for name, value in tokenizer.items() if name != "nfkc"}
    return {**others, "normalization": {"source": form, "target": form, "markup": False}}
