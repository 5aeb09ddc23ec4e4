"""Files of settings, with text taken as it is written.

YAML 1.1 reads a plain `no` as false, `0123` as 83 and `12:30` as 750. Where a setting holds text,
such as the code of a language, the letters in the file are meant.
"""

from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from ..config import Config
from ..config.settings import kind_of

TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
"""YAML's tags of a text and of no value."""


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of YAML files, in which a setting that holds text has it as it is written.

    It has the name of Hydra's own: the process of a sweep's job registers that too, and refuses a
    source of another name.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a file of configs/ or of --config-dir, `config_path` being group/name.

        ValueError for a file that is not YAML in UTF-8.
        """
        file = Path(self.path) / self._normalize_file_name(config_path)
        try:
            found = super().load_config(config_path)
            kind = settings_in(config_path, found.header.get("package"))
            if kind is not None and (changed := read_as_written(file.read_text("utf-8"), kind)):
                found.config = OmegaConf.create(changed)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ValueError(f"{file}:{line}: {error.problem}; expected YAML") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: {error.reason}; expected text in UTF-8") from error
        return found


def register_source() -> None:
    """Read every file of settings by the source above."""
    SourcesRegistry.instance().types["file"] = FileConfigSource


def settings_in(config_path: str, package: str | None) -> Any:
    """Return the type of what a file holds; None where that is not known, as for Hydra's own."""
    group = config_path.strip("/").rpartition("/")[0].partition("/")[0]
    place = group if package is None else package
    if place in ("", "_global_"):
        return Config
    found = kind_of(place)
    return None if found is None else found.type


def read_as_written(text: str, kind: Any) -> Any:
    """Return the data of a YAML text that holds settings of this type.

    None if YAML alone reads the same.
    """
    loader = get_yaml_loader()(text)
    try:
        node = loader.get_single_node()
        return loader.construct_document(node) if _made_text(node, kind) else None
    finally:
        loader.dispose()


def _made_text(node: yaml.Node | None, kind: Any) -> bool:
    """Mark as text what has to be text below a node; return whether anything was not."""
    if isinstance(node, yaml.ScalarNode) and kind is str:
        is_plain = node.style is None and node.tag not in (TEXT, NULL)
        node.tag = TEXT if is_plain else node.tag
        return is_plain
    if isinstance(node, yaml.SequenceNode) and get_origin(kind) is list:
        found = [_made_text(item, get_args(kind)[0]) for item in node.value]
        return any(found)
    if not isinstance(node, yaml.MappingNode):
        return False
    changed = []
    for key, value in node.value:
        if get_origin(kind) is dict:
            changed.append(_made_text(key, str))
        setting = kind_of(str(key.value), kind)
        changed.append(setting is not None and _made_text(value, setting.type))
    return any(changed)
