"""What Hydra and OmegaConf find wrong, in one line that names the setting and what it expects."""

import re
from dataclasses import fields
from typing import get_origin

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..config import Config
from ..config.checks import as_text
from ..config.choices import expected_one_of
from ..config.settings import kind_of, settings
from .overrides import keys, no_name_added, unknown

REFUSED = (HydraException, OmegaConfBaseException, OverflowError)
"""What Hydra and OmegaConf raise for settings that they do not take."""
TYPES = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}
"""OmegaConf's name of a type -> what a person calls it."""

PLUGINS = {"optuna": "tune", "ray": "ray", "submitit_slurm": "slurm"}
"""A plugin of Hydra -> the extra that installs it."""


def explained(error: HydraException | OmegaConfBaseException | OverflowError) -> str:
    """Return what Hydra found wrong as one line, with the cause and a close choice."""
    if isinstance(error, OverflowError):  # of a whole number for a float, not caught by OmegaConf
        key = re.search(r"full_key: (\S+)", str(error))
        return f"{key[1] if key else 'a setting'}: expected a smaller number"
    if (own := _own(error)) is not None:
        return str(own)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    reason = str(cause or error).partition("\n")[0]
    if key := re.search(r"Interpolation key '(.*)' not found", reason):
        name = f"${{{key[1]}}}"
        return rf"{name}: expected a setting between ${{ and }}; as a part of a name: '\{name}'"
    missing = re.match(r"In 'hydra/(\w+)/(\w+)': Could not load 'hydra/\w+/(\w+)'", str(error))
    if missing is not None and (extra := PLUGINS.get(missing[3])):
        return f"hydra/{missing[1]}={missing[2]}: it needs pip install 'seq2seq[{extra}]'"
    if in_file := re.match(r"In '(.+)': \w+ raised while composing config", str(error)):
        return _explained_in_file(in_file[1], str(error))
    if swept := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", str(error)):
        return f"{swept[1]}: expected one value; {_instead_of_a_sweep(*swept[1].split('=', 1))}"
    added = re.search(r"To append to your config use \+((.*)\.[^.=]+\.[^.=]+=.*)", str(error))
    if added is not None:
        return f"{added[1]}: {no_name_added(added[2])}"
    merged = re.match(r"Error merging override (.*)", str(error))
    if merged is None:
        return f"{error}: {reason}" if cause is not None else str(error)
    expected = _expected(reason, merged[1].partition("=")[0].lstrip("+"))
    return f"{merged[1]}: {expected or reason}"


def _own(error: BaseException) -> ValueError | None:
    """Return the error of this program that OmegaConf has wrapped into one of its own, if any."""
    found: BaseException | None = error
    met: list[BaseException | None] = []
    while isinstance(found, (HydraException, OmegaConfBaseException)) and found not in met:
        met.append(found)  # with OC_CAUSE=1 an error can be its own cause
        found = found.__cause__
    return found if isinstance(found, ValueError) else None


def _instead_of_a_sweep(key: str, values: str) -> str:
    kind = kind_of(key)
    is_list = kind is not None and get_origin(kind.type) in (list, tuple)
    return f"a list is {key}=[{values}]" if is_list else "several are a sweep, with -m"


def _explained_in_file(name: str, error: str) -> str:
    """Return what is wrong with a setting in a YAML file as one line."""
    reason, key = error.split("\n")[1], re.search(r"full_key: (\S+)", error)
    if key is None:
        return f"{name}.yaml: {reason}"
    if "not in" in reason and kind_of(key[1]) is None:
        return f"{name}.yaml: {key[1]}: {unknown(key[1], keys())}"
    value = re.search(r"[Vv]\w+ '(.*)' (?:of|for|is)|value: (.*)", reason)
    shown = f"={value[1] or value[2]}".replace("=None", "=null") if value else ""
    return f"{name}.yaml: {key[1]}{shown}: {_expected(reason, key[1]) or reason}"


def _expected(reason: str, key: str) -> str | None:
    """Return what OmegaConf expected of a setting; None for an error of another kind."""
    kind = kind_of(key)
    is_text = kind is not None and kind.type is str
    if choice := re.search(r"Invalid value '(.*)', expected one of \[(.*)\]", reason):
        return expected_one_of(choice[1], choice[2].split(", "), "its documentation lists")
    if found := re.search(r"could not be converted to (\w+)", reason):
        return f"expected {TYPES.get(found[1], found[1])}"
    if reason.endswith("is not Optional") or "value 'None' for field" in reason:
        word = f""" (the word null: "{key}='null'")""" if is_text else ""
        return f"expected a value, not null{word}"
    if is_text and reason.startswith("Cannot convert"):
        return "expected text"
    if reason.endswith(("is not a ListConfig, list or tuple.", "DictConfig with ListConfig")):
        default = settings(Config()).get(key)
        example = as_text(default) if default else "[1,2]"
        is_texts = kind is not None and kind.type == list[str]
        return f"expected a list, as in {'[a,b]' if is_texts else example}"
    if "is not a valid bool" in reason:
        return f"expected {TYPES['Boolean']}"
    if "is not a subclass of" in reason:
        below = ", ".join(f.name for f in fields(kind.type)) if kind else ""
        return f"expected values of the settings below it: {below}"
    if reason.startswith("Cannot assign"):
        return f"expected values below a name: {key}.NAME=..."
    return None
