"""Checksums of text: it is the text that the settings mean."""

import hashlib
from functools import partial
from pathlib import Path

from ..config import DataConfig
from ..errors import DataError
from ..shown import brief
from ..unchanged import remembered
from .text import text_sha256


def checksum(config: DataConfig, path: Path) -> str:
    """Return the SHA-256 of a file's uncompressed text, which of a large file is remembered."""
    record = Path(config.root) / config.name / "texts.json"
    return remembered(record, path, partial(text_sha256, path))


def check_sha256(
    config: DataConfig, path: Path, expected: str | None, by: str | None = None
) -> None:
    """Raise DataError where a file's text has another checksum than expected.

    The configuration gives the expected one, or the file `by`.
    """
    if expected is not None and (found := checksum(config, path)) != expected:
        raise DataError(
            f"{path}: wrong checksum: SHA-256 of text {found}, expected {brief(expected, 64)}, as"
            f" {by or f'data={config.name}'} says"
        )


def check_git_blob(path: Path, expected: str | None) -> None:
    """Raise DataError where Git would give a file another object name."""
    data = path.read_bytes()
    found = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    if expected is not None and found != expected:
        raise DataError(f"{path}: wrong checksum: git hash {found}, expected {expected}")
