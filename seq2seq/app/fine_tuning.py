"""init_from=RUN: the settings of a run that starts with the weights of another one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from omegaconf import DictConfig, OmegaConf

from ..config.checks import as_text
from ..config.settings import CONFIGS, flatten, plain
from .typed import without_references

if TYPE_CHECKING:
    from ..config import Config

ARCHITECTURE = ("norm", "cell", "model", "tokenizer")
"""Groups that are those of the weights."""
OWN = (
    "model.dropout",
    "model.variational",
    "model.recurrent_dropout",
    "model.word_dropout",
    "norm.momentum",
    "norm.min_rows",
    "tokenizer.bpe_dropout",
    "tokenizer.bpe_dropout_sides",
)
"""Settings of these groups that decide how weights are trained, not what they compute."""
FRESH = ("model.source_embeddings", "model.target_embeddings")
"""Files of first weights, which a run that has others does not need."""
LANGUAGES = ("data.source_language", "data.target_language")


def with_architecture(cfg: DictConfig, origin: "Config", asked: Mapping[str, str]) -> None:
    """Give a composition the architecture and the tokenizer of the run that it starts from.

    `asked` are the overrides of this run by their keys. Raise ValueError for one that contradicts
    the other run. Text of one's own (data=files) is in its languages unless others are given.
    """
    _refuse_experiments(cfg)
    theirs = {
        key: value
        for key, value in flatten(plain(origin)).items()
        if key.split(".")[0] in ARCHITECTURE and key not in FRESH
    }
    # Without a cell state its norm means nothing, so that no weights depend on it.
    may_differ = OWN if origin.cell.kind.value == "lstm" else {*OWN, "norm.cell"}
    for key, value in theirs.items():
        if key in OWN and key in asked:
            continue
        if override := _asked_for(key, asked, cfg):
            found = plain(OmegaConf.select(cfg, key))
            if found != value and key not in may_differ:
                raise ValueError(
                    f"{override}: init_from={cfg.init_from} has {key}={as_text(value)}, which its"
                    " weights depend on; leave this out"
                )
        OmegaConf.update(cfg, key, without_references(value))
    for key in LANGUAGES if cfg.data.origin.name == "files" else ():
        if key not in asked:
            OmegaConf.update(cfg, key, flatten(plain(origin))[key])


def check_origins(overrides: Sequence[str]) -> None:
    """Raise RunError for init_from=RUN without such a run, its settings or its weights.

    It is called before Hydra makes a folder, and before a corpus is prepared.
    """
    from ..runs.folder import Run

    parser = OverridesParser.create()
    for override in map(parser.parse_override, overrides):
        if override.key_or_group == "init_from":
            swept = override.is_sweep_override()
            for value in override.sweep_iterator() if swept else [override.value()]:
                if value is not None:
                    text = value.text if isinstance(value, QuotedString) else str(value)
                    origin = Run.open(os.path.expanduser(text))
                    origin.config()
                    origin.origin_checkpoint()


def choices_of(folder: str) -> dict[str, str]:
    """Return the choices of norm, cell and model of a run, for the names of those it starts."""
    from ..runs.folder import Run

    config = Run.open(folder).config()
    sizes = plain(config.model)
    return {
        "norm": config.norm.kind.name,
        "cell": config.cell.kind.name,
        "model": nearest_model(sizes),
    }


def _refuse_experiments(cfg: DictConfig) -> None:
    for key in ("experiment", "size"):
        if cfg[key] is not None:
            raise ValueError(
                f"{key}={cfg[key]}: expected no {key} with init_from={cfg.init_from}: an experiment"
                " compares runs that start with random weights"
            )


def _asked_for(key: str, asked: Mapping[str, str], cfg: DictConfig) -> str | None:
    """Return the override that sets a setting; of a group only where its file has a value."""
    if key in asked:
        return asked[key]
    group, (parent, _, name) = key.partition(".")[0], key.rpartition(".")
    if group in asked and not OmegaConf.is_interpolation(OmegaConf.select(cfg, parent), name):
        return asked[group]
    return None


def nearest_model(sizes: Mapping[str, Any]) -> str:
    """Return the name in configs/model that is most like a model, for the folder of its run."""
    files = sorted((CONFIGS / "model").glob("*.yaml"))
    known = {file.stem: _values(file) for file in files}
    return min(known, key=lambda name: sum(sizes.get(k) != v for k, v in known[name].items()))


def _values(file: Path) -> dict[str, Any]:
    found = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if key != "defaults"}
