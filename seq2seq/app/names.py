"""The name of a run's folder, from what the command line chose."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

from ..config.settings import NOT_SETTINGS
from .fine_tuning import choices_of

IN_THE_NAME = ("norm", "cell", "model", "data", "seed")
"""What every name or its parent folder states, so that it is not repeated."""
LONGEST_NAME = 200
"""Bytes; file systems allow 255."""


def run_name(
    choices: Mapping[str, str], overrides: Sequence[str], seed: int, init_from: str | None = None
) -> str:
    """Return `<norm>-<cell>-<model>-seed<N>[,key=value ...]` with every other override.

    A run that starts from another has the other's norm, cell and model. The name is valid for a
    folder; a long one ends in a hash.
    """
    if init_from is not None:
        choices = choices_of(init_from)
    others = {
        key_of(o): canonical(o) for o in overrides if key_of(o) not in (*IN_THE_NAME, *NOT_SETTINGS)
    }
    first = f"{choices['norm']}-{choices['cell']}-{choices['model']}-seed{seed}"
    name = re.sub(r"[^\w.,=+~@-]", "_", ",".join([first, *sorted(others.values())]))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: LONGEST_NAME - 13].decode(errors="ignore") + "-" + digest


def key_of(override: str) -> str:
    """Return the key that an override sets."""
    return override.partition("=")[0].lstrip("+~")


def canonical(override: str) -> str:
    """Return an override as a sweep writes it, with optimizer.lr=1e-3 as optimizer.lr=0.001."""
    parsed = OverridesParser.create().parse_override(override)
    return f"{parsed.get_key_element()}={parsed.get_value_element_as_str()}".replace("\\", "")


def corpus_folder(name: str) -> str:
    """Return the folder in outputs/ of a corpus' runs.

    A name that is refused later becomes a plain one: the reason is written into that folder.
    """
    return re.sub(r"^\.{0,2}$|/", "_", name)


def run_folder(name: str, resume: str | None) -> str:
    """Return the folder that Hydra makes for a single run; a resumed run has its own already."""
    return f"outputs/{name}" if resume is None else "."
