"""What a report says of every comparison: texts.yaml."""

from functools import cache
from importlib.resources import files
from typing import Any

from ..runs.configuration import read_yaml


@cache
def texts() -> dict[str, Any]:
    """Return the content of texts.yaml."""
    file = files("seq2seq.report") / "texts.yaml"
    return dict(read_yaml(file.read_text(encoding="utf-8")))


def caption(*names: str) -> str:
    """Return these texts, one after the other."""
    return " ".join(texts()[name] for name in names)
