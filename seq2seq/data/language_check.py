"""A corpus whose text is plainly not in its languages is refused."""

from itertools import islice

from ..config import DataConfig
from ..errors import DataError
from .corpora import is_here, locate, split_pairs, splits
from .scripts import ScriptCount

FIRST_PAIRS = 2000
"""So many pairs of each split are looked at."""


def check_scripts(data: DataConfig) -> None:
    """Raise DataError where a side of a corpus is plainly not in the language stated for it."""
    for name in splits(data):
        if is_here(data, name):
            _check_split(data, name)


def _check_split(data: DataConfig, name: str) -> None:
    pairs = list(islice(split_pairs(data, name), FIRST_PAIRS))
    files = locate(data, name)
    tags = {"source": data.source_language, "target": data.target_language}
    for side, (key, tag) in enumerate(tags.items()):
        found = ScriptCount((pair[side] for pair in pairs), tag)
        if not found.is_other:
            continue
        exchanged = not ScriptCount((pair[1 - side] for pair in pairs), tag).is_other
        setting = f"set data.{key}_language"
        way_out = (
            f"are source and target exchanged? Else {setting}"
            if exchanged
            else f"{setting} to its language, such as de or zh-Latn"
        )
        raise DataError(
            f"{files[-1] if side else files[0]}: expected {key} text in {tag}, but {found};"
            f" {way_out} (und: no check)"
        )
