"""Texts of published corpora: from a mirror, by download, or divided from one upstream file."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from ..config import DataConfig, SplitConfig, SplitRule
from ..errors import DataError
from ..files import exists, give_usual_mode, place, replacing, temporary_folder, write_text
from ..shown import brief
from ..stored import DAMAGE, read_json
from .checksums import check_git_blob, check_sha256
from .columns import Columns, tsv_pairs
from .splitting import split_by_components

MIRROR_VARIABLE = "SEQ2SEQ_DATA_MIRROR"
"""Environment variable that names a folder with copies of the published files."""
DIVISION = "split.json"
"""File that says how an upstream file was divided, with the checksums of its parts."""


def sides(split: SplitConfig) -> list[tuple[str, str | None]]:
    """Return the name and the checksum of a split's files."""
    sides = ((split.source, split.source_sha256), (split.target, split.target_sha256))
    return [(side, sha256) for side, sha256 in sides if side is not None]


def is_published(split: SplitConfig, name: str, sha256: str | None) -> bool:
    """Return whether a file is the published one, and not the user's own in its place.

    The user's own has no checksum, is a TSV file, or is named with its folder (./mine.de).
    """
    return split.target is not None and sha256 is not None and Path(name).name == name


def published_file(config: DataConfig, split: SplitConfig, name: str, sha256: str) -> Path:
    """Return a published file of a split, after its checksum agrees."""
    return _mirrored(config, split, name, sha256) or _fetched(config, split, name, sha256)


def is_at_hand(config: DataConfig, split: SplitConfig) -> bool:
    """Return whether a split can be read at once, with nothing to fetch or divide first."""
    fetched = [name for name, sha256 in sides(split) if is_published(split, name, sha256)]
    if not fetched or _mirror(config):
        return True
    folder = _download_folder(config)
    divided = config.upstream_split is None or _is_divided(config, folder)
    return divided and all((folder / name).is_file() for name in fetched)


def _mirror(config: DataConfig) -> str | None:
    """Return the folder that replaces the network as the source of published files, if any."""
    return config.mirror or os.path.expanduser(os.environ.get(MIRROR_VARIABLE, ""))


def _download_folder(config: DataConfig) -> Path:
    return Path(config.root) / config.name / "download"


def _mirrored(config: DataConfig, split: SplitConfig, name: str, sha256: str) -> Path | None:
    """Return a published file from the mirror folder; None where there is no mirror."""
    mirror = _mirror(config)
    if not mirror:
        return None
    folder = Path(mirror) / (split.mirror_folder or config.mirror_folder or config.name)
    if not exists(folder):
        raise DataError(
            f"{folder}: no such folder{place(folder)} in the mirror (data.mirror or"
            f" {MIRROR_VARIABLE}); expected the files of data={config.name}"
        )
    check_sha256(config, folder / name, sha256)
    return folder / name


def _fetched(config: DataConfig, split: SplitConfig, name: str, sha256: str) -> Path:
    """Download a published file, or return it from an earlier download.

    Where a checksum differs, what was downloaded is deleted: the next call downloads it again.
    """
    folder, rule = _download_folder(config), config.upstream_split
    is_made = rule is None or name in _parts(config)
    if config.upstream is None or split.mirror_folder is not None or not is_made:
        raise DataError(
            f"data={config.name}: {name} cannot be downloaded by itself; set data.mirror=DIR or "
            f"{MIRROR_VARIABLE} to a folder that holds it"
        )
    by, made = None, [folder / name]
    if rule is None:
        upstream_name = name if config.upstream_is_gzip else name.removesuffix(".gz")
        fetch(config.upstream + upstream_name, folder, name)
    else:
        made = _divide(config, config.upstream, rule, folder)
        if rule.git_blob is not None:  # the upstream file was checked; `sha256` is a mirror's
            by, sha256 = DIVISION, _divided(config, folder)[name]
    with _deleting(made):
        check_sha256(config, folder / name, sha256, by)
    return folder / name


@contextmanager
def _deleting(files: Iterable[Path]) -> Iterator[None]:
    """Delete files, whose content is not what was asked for, where DataError says so."""
    try:
        yield
    except DataError:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def fetch(address: str, folder: Path, name: str) -> Path:
    """Download a file, unless it is there already; an incomplete file is never kept."""
    import pooch

    if (folder / name).is_file():
        return folder / name
    pooch.get_logger().setLevel("WARNING")  # below that it prints hashes to copy into the code
    try:
        with temporary_folder(folder, prefix=".download-") as temporary:
            pooch.retrieve(address, known_hash=None, fname=name, path=temporary, progressbar=True)
            give_usual_mode(temporary / name)  # pooch makes it for its owner alone
            os.replace(temporary / name, folder / name)
    except OSError as error:
        raise DataError(
            f"{address}: cannot be downloaded ({brief(_innermost(error))});"
            " data.mirror=DIR reads it from a folder"
        ) from error
    return folder / name


def _innermost(error: BaseException) -> str:
    """Return what the system says about a failed download, without what libraries wrap it in."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return str(getattr(error, "strerror", None) or error)


def _parts(config: DataConfig) -> dict[str, tuple[str, int]]:
    """Return the files that an upstream file is divided into, with their split and side.

    The user's own files are not among them: nothing may be written over these.
    """
    named = {"train": config.train, "valid": config.valid, "test": config.test}
    return {
        name: (split_name, side)
        for split_name, split in named.items()
        for side, (name, sha256) in enumerate(sides(split))
        if is_published(split, name, sha256)
    }


def _divide(config: DataConfig, address: str, rule: SplitRule, folder: Path) -> list[Path]:
    """Download the one file of a corpus and divide it by its rule, unless that is done.

    Return all files of it. Where the upstream file is not what it should be, these are deleted.
    """
    upstream, parts = folder / address.rpartition("/")[2], _parts(config)
    made = [upstream, folder / DIVISION, *(folder / name for name in parts)]
    if _is_divided(config, folder):
        return made
    fetch(address, folder, upstream.name)
    with _deleting(made):
        check_git_blob(upstream, rule.git_blob)
        if upstream.suffix == ".zip" and not is_zipfile(upstream):
            raise DataError(
                f"{upstream}: no zip archive; expected that of {address}; it is deleted: the next"
                " run downloads it again"
            )
        columns = Columns(rule.source_column, rule.target_column)
        pairs = (pair for _, pair in tsv_pairs(upstream, columns, member=rule.file))
        divided = split_by_components(pairs, rule)
    checksums = {}
    for name, (split_name, side) in parts.items():
        text = "".join(f"{pair[side]}\n" for pair in divided[split_name]).encode("utf-8")
        with replacing(folder / name) as temporary:
            temporary.write_bytes(gzip.compress(text, mtime=0))
        checksums[name] = hashlib.sha256(text).hexdigest()
    record = {**_division(config), "sha256": checksums}
    write_text(folder / DIVISION, json.dumps(record, indent=2) + "\n")
    return made


def _is_divided(config: DataConfig, folder: Path) -> bool:
    """Return whether the folder holds the splits of the present rule."""
    divided = _divided(config, folder)
    return all(name in divided and (folder / name).is_file() for name in _parts(config))


def _divided(config: DataConfig, folder: Path) -> dict[str, str]:
    """Return the checksums of the texts that the present rule has made, by their names."""
    try:
        record = read_json(folder / DIVISION)
        checksums = record.pop("sha256")
        made = {str(name): str(sha256) for name, sha256 in checksums.items()}
        return made if record == _division(config) else {}
    except (OSError, *DAMAGE):  # there is none, or it is of an earlier version
        return {}


def _division(config: DataConfig) -> dict[str, Any]:
    """Return what decides the divided files, as it is recorded."""
    assert config.upstream_split is not None
    return {"upstream": config.upstream, "rule": asdict(config.upstream_split)}
