"""Checks of the overrides on the command line, before Hydra composes anything.

Hydra answers an unknown key with the advice to add it by "+", and takes "~norm" for a wish. Both
would train something else than what was meant.
"""

import shlex
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from ..config import Config
from ..config.choices import LISTED, did_you_mean, expected_one_of
from ..config.settings import CONFIGS, kind_of

CLASSES = tuple(f.name for f in fields(Config) if is_dataclass(f.type))
"""Groups that every run needs a choice of."""
OPTIONAL = ("experiment", "size")
"""Groups that may be null."""


def choices(group: str, folders: Sequence[Path] = (CONFIGS,)) -> list[str]:
    """Return the choices of a group, from its files in these folders."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def keys(kind: Any = Config, prefix: str = "") -> dict[str, bool]:
    """Return every key of the configuration, and whether names of one's own go below it."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        parts = [part for part in get_args(hint) if part is not NoneType] or [hint]
        inner = parts[0] if get_origin(hint) is not dict else None
        found[f"{prefix}{name}"] = get_origin(hint) is dict
        if is_dataclass(inner):
            found |= keys(inner, f"{prefix}{name}.")
    return found


def check(overrides: Sequence[str], folders: Sequence[Path] = (CONFIGS,)) -> None:
    """Raise ValueError for the first override that names no setting, or takes one away."""
    known = keys()
    _check_words(overrides)
    for override in map(_parsed, overrides):
        key = override.key_or_group
        if key.split("/")[0].split(".")[0] == "hydra" or override.package is not None:
            continue
        text = str(override.input_line)
        if own := next(
            (k for k, is_open in known.items() if is_open and key.startswith(f"{k}.")), None
        ):
            _check_added(override, own)
            continue
        if key not in known and key != "experiment/size":
            raise ValueError(f"{text}: {unknown(key, known)}")
        if override.is_delete():
            instead = "null" if key in OPTIONAL else "CHOICE" if key in CLASSES else "VALUE"
            raise ValueError(f"{text}: expected {key}={instead}: a setting can't be removed")
        if override.is_add() or override.is_force_add():
            plain = text.lstrip("+")
            raise ValueError(f"{text}: expected {plain}: the setting exists, so it needs no +")
        if key in (*CLASSES, *OPTIONAL):
            _check_choice(override, choices(key, folders))
        _check_truth(override)


def _check_words(overrides: Sequence[str]) -> None:
    """Raise ValueError for a word without "=", such as the rest of a path with a space."""
    for before, word in pairwise(["", *overrides]):
        if "=" in word or word.startswith("~"):
            continue
        whole = f"{before} {word}" if "=" in before else ""
        meant = f"; a value with spaces needs quotes: {shlex.quote(whole)}" if whole else ""
        raise ValueError(f"{word}: expected key=value{meant}")


def _check_added(override: Override, group: str) -> None:
    """Raise ValueError for a new name with settings of its own: OmegaConf can't add it."""
    kind = kind_of(f"{group}.NAME")
    if override.is_add() and kind is not None and is_dataclass(kind.type):
        raise ValueError(f"{override.input_line}: {no_name_added(group)}")


def no_name_added(group: str) -> str:
    """Describe a new name in a group whose names have settings of their own."""
    return (
        "expected it in a file of settings, as in --config-dir DIR with DIR/data/NAME.yaml:"
        f" the command line adds no name to {group}"
    )


def is_swept(override: str) -> bool:
    """Return whether an override gives a setting several values, as in a sweep."""
    return bool(_parsed(override).is_sweep_override())


def _parsed(override: str) -> Override:
    """Parse one override; ValueError names it if it has no valid syntax."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{override}: expected key=value in Hydra's syntax: {reason}") from error


def unknown(key: str, known: dict[str, bool]) -> str:
    """Describe a key that no setting has."""
    group = key.rpartition(".")[0]
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == group]
    if group in known and len(listed := ", ".join(siblings)) <= LISTED:
        expected = f"expected one of {group}'s settings ({listed})"
    else:
        expected = "expected a group or a setting that --help lists"
    return f"no such setting; {expected}{did_you_mean(key, list(known))}"


def _check_choice(override: Override, available: list[str]) -> None:
    """Raise ValueError for a choice that the group doesn't have."""
    group = override.key_or_group
    if isinstance(override.value(), Glob):
        return
    values = (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
    )
    for value in values:
        if "${" in value or value in available or (value == "null" and group in OPTIONAL):
            continue
        meant = "none" if value == "null" and "none" in available else value
        raise ValueError(f"{group}={value}: {expected_one_of(meant, available, '--help lists')}")


def _check_truth(override: Override) -> None:
    """Raise ValueError for a number in place of a truth value: OmegaConf takes 5 for true."""
    kind, value = kind_of(override.key_or_group), override.value()
    is_truth = kind is not None and kind.type is bool
    if is_truth and isinstance(value, (int, float)) and value not in (0, 1):
        raise ValueError(f"{override.input_line}: expected true or false")
