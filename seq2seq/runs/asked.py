"""What the command line asks for in vain: settings that have no effect beside the others."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from ..config import Config
from ..config.checks import as_text
from ..config.settings import CONFIGS, flatten, settings, without_effect
from ..files import exists
from ..shown import brief, escaped
from .configuration import read_yaml

OFF = ("null", "false", "none", "0", "0.0", "", "[]")
"""Values that ask for nothing."""
GROUPS = [f.name for f in fields(Config) if is_dataclass(f.type) and f.name != "data"]
"""Groups whose choices ask for the values in their files; those of data are suggestions."""


def without_effect_remarks(config: Config, asked: Sequence[str]) -> list[str]:
    """Return a line about each override that sets something without effect.

    A default counts, too: norm.cell=output asks for a norm that a GRU does not have.
    """
    unread, values = without_effect(config), settings(config)
    found = []
    for override in asked:
        key, _, choice = override.lstrip("+").partition("=")
        own = [(key, "")] if key in values else list(values_of(key, choice).items())
        for name, value in own:
            now = as_text(values[name]) if name in unread else "null"
            if now not in OFF and (name == key or value == now):
                what = "" if name == key else f" {name}={now}"
                found.append(
                    f"{escaped(brief(override))}:{what} has no effect here, only with"
                    f" {unread[name]}"
                )
    return found


def values_of(group: str, choice: str) -> dict[str, str]:
    """Return the values in the file of a group's choice, without what it takes from other files."""
    file = CONFIGS / group / f"{choice}.yaml"
    if group not in GROUPS or not exists(file):
        return {}
    own = flatten(read_yaml(file.read_text(encoding="utf-8")), group)
    return {key: as_text(value) for key, value in own.items() if key != f"{group}.defaults"}
