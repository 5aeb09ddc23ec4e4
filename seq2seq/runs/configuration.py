"""config.yaml: a configuration as plain YAML, and back."""

from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from ..config import Config, OptimizerConfig, TokenizerConfig
from ..config.settings import plain
from ..files import write_text
from ..rnn.config import MEANINGFUL, NormConfig, NormKind
from ..shown import brief


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
    finally:
        loader.dispose()


def read_config(file: Path) -> Config:
    """Return the configuration of a config.yaml; ValueError names the setting that is wrong."""
    config = _typed(read_yaml(file.read_text(encoding="utf-8")), Config, "")
    assert isinstance(config, Config)
    return config


def write_config(file: Path, config: Config) -> None:
    """Write a configuration as YAML."""
    write_text(file, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))


def _typed(value: Any, kind: Any, key: str) -> Any:
    """Return plain data as a value of this type; `key` is the dotted key of the setting."""
    parts = get_args(kind)
    if NoneType in parts:
        inner = next(part for part in parts if part is not NoneType)
        return None if value is None else _typed(value, inner, key)
    if is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(value, kind, key)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {str(name): _typed(v, parts[1], f"{key}.{name}") for name, v in value.items()}
    if get_origin(kind) in (list, tuple) and isinstance(value, list):
        return [_typed(v, parts[0], f"{key}[{i}]") for i, v in enumerate(value)]
    if isinstance(kind, type) and issubclass(kind, Enum) and str(value) in kind.__members__:
        return kind[str(value)]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{key or 'the file'}={brief(repr(value))}: expected {expected}")


def _dataclass(value: dict[str, Any], kind: Any, key: str) -> Any:
    if kind is TokenizerConfig:
        value = _with_normalization(value)
    types, names = get_type_hints(kind), {f.name for f in fields(kind)}
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"{f'{key}.' if key else ''}{unknown[0]}: unknown setting")
    if kind is NormConfig:
        value = _meaningful(value)
    if kind is OptimizerConfig:
        value = _with_decay(value)
    return kind(**{n: _typed(v, types[n], f"{key}.{n}" if key else n) for n, v in value.items()})


def _meaningful(norm: dict[str, Any]) -> dict[str, Any]:
    """Leave out what means nothing to a norm's kind, as earlier versions stored it."""
    kind = NormKind.__members__.get(str(norm.get("kind", NormConfig().kind.name)))
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
