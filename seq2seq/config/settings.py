"""Every setting by its dotted key, and which settings make a run another run."""

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from .checks import PATH, noting
from .run import Config

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package; what it needs besides code is inside."""
CONFIGS = PACKAGE / "configs"
"""Where the settings of a run get their values: a folder per group, a file per choice."""
NOT_SETTINGS = {
    "resume": "which run to go on with; the run keeps its own settings",
    "overwrite": "whether to replace the run that the folder holds",
}
"""What a run is started with and what is no part of it."""
CHANGEABLE = {
    **NOT_SETTINGS,
    "trainer.device": "where to compute",
    "trainer.threads": "how many CPU threads compute",
    "trainer.histograms": "what TensorBoard shows",
    "trainer.progress": "what the terminal shows",
    "data.mirror": "where published files are copied from",
}
"""Settings that a resumed run may change, and what they change: no result, but for rounding.

Another device or number of threads rounds differently, which training amplifies.
"""
OF_PLACES = ("data.root", "data.mirror_folder", "data.mirror")
"""Settings of where text lies, and not of what it is."""
BY_DESIGN = {
    **CHANGEABLE,
    "experiment": "which runs a report compares",
    "size": "which runs a report compares",
    "data.name": "the name of the run's folder",
    "data.root": "where prepared corpora are kept",
    "data.sha256": "values that the splits may refer to",
    "data.more_tests": "which other splits can be evaluated",
    "decode.batch_size": "how fast translation is",
    "trainer.checkpoint_every": "how much an interruption can lose",
    "trainer.recalibrate": "nothing but batch norm, yet a sweep sets it for every norm",
    "backend": "which implementation computes, with the same results up to rounding",
}
"""Settings that may change nothing that is trained or scored, and what they do change.

Any other setting has an effect, or is refused, or is reported (see `without_effect`).
"""
EXTENDABLE = ("trainer.max_updates", "trainer.max_epochs")
"""Settings that change nothing of the training so far."""


@dataclass(frozen=True)
class Kind:
    """What a setting holds."""

    type: Any
    """Its type; where the setting may be null, the other type."""
    optional: bool = False
    is_path: bool = False


def kind_of(key: str, root: Any = Config) -> Kind | None:
    """Return what the setting with this dotted key holds; None if there is no such setting.

    Below a dictionary every name is a setting. `root` is the class that the key begins in.
    """
    found = Kind(root)
    for name in key.split("."):
        if get_origin(found.type) is dict:
            hint, is_path = get_args(found.type)[1], False
        elif is_dataclass(found.type) and name in (hints := get_type_hints(found.type)):
            marks = {f.name: f.metadata for f in fields(found.type)}
            hint, is_path = hints[name], bool(marks[name].get(PATH))
        else:
            return None
        parts = get_args(hint)
        optional = NoneType in parts
        inner = next(part for part in parts if part is not NoneType) if optional else hint
        found = Kind(inner, optional, is_path)
    return found


def packaged(file: str) -> Path:
    """Return a file that a setting names: in the working directory, else inside the package."""
    path = Path(file)
    return path if path.exists() or path.is_absolute() else PACKAGE / path


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v
        for key, part in value.items()
        for k, v in flatten(part, f"{prefix}.{key}" if prefix else key).items()
    }


def plain(value: Any) -> Any:
    """Return a configuration, or a part of it, as config.yaml holds it.

    Dataclasses become dictionaries, tuples lists, and enums their names.
    """
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.name if isinstance(value, Enum) else value


def settings(config: Config) -> dict[str, Any]:
    """Return every setting by its dotted key, enums by name."""
    return flatten(plain(config))


def without_effect(config: Config) -> dict[str, str]:
    """Return the settings that have no effect beside the others: key -> what gives them one.

    Whether a value is the default does not matter.
    """
    groups = [f.name for f in fields(config) if is_dataclass(f.type)]
    with noting() as found:
        replace(config, **{name: replace(getattr(config, name)) for name in groups})
    return found


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings that matter and differ: key -> (old, new)."""
    a, b = settings(old), settings(new)
    return {
        key: (a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and key not in CHANGEABLE
    }
