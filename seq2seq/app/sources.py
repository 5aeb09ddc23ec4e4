"""Files of settings, with text taken as it is written.

YAML 1.1 reads a plain `no` as false, `0123` as 83 and `12:30` as 750. Where a setting holds text,
such as the code of a language, the letters in the file are meant.
"""

from functools import cache
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
HEADER = 512
"""Hydra looks for a file's `@package` in so many first characters."""


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
            text = file.read_text("utf-8")
            header = self._get_header_dict(text[:HEADER])
            data = read_as_written(text, settings_in(config_path, header.get("package")))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ValueError(f"{file}:{line}: {error.problem}; expected YAML") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: {error.reason}; expected text in UTF-8") from error
        config, path = OmegaConf.create(data), f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=path, config=config, header=header)


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


@cache
def read_as_written(text: str, kind: Any) -> Any:
    """Return the data of a YAML text that holds settings of this type; None: as YAML reads it.

    It is kept: the jobs of a sweep are composed of the same files.
    """
    loader = get_yaml_loader()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        if kind is not None:
            _mark_text(node, kind)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _mark_text(node: yaml.Node, kind: Any) -> None:
    """Mark as text what has to be text below a node."""
    if isinstance(node, yaml.ScalarNode):
        if kind is str and node.style is None and node.tag != NULL:
            node.tag = TEXT
    elif isinstance(node, yaml.SequenceNode):
        if get_origin(kind) is list:
            for item in node.value:
                _mark_text(item, get_args(kind)[0])
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if get_origin(kind) is dict:
                _mark_text(key, str)
            if (setting := kind_of(str(key.value), kind)) is not None:
                _mark_text(value, setting.type)
