"""Where text comes from: a mirror folder or the network, a grammar, or the user's own files.
Checked, line by line.
"""

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO

from ..config import DataConfig, Origin, SplitConfig
from ..config.settings import packaged
from ..errors import DataError
from ..files import replacing, write_text
from .splitting import check_git_blob, read_upstream, split_by_components
from .text import decoded_lines

MIRROR_VARIABLE = "SEQ2SEQ_DATA_MIRROR"


@dataclass
class TextFiles:
    """The files of one split; without `target`, `source` is a TSV file: source, tab, target."""

    source: Path
    target: Path | None

    def paths(self) -> list[Path]:
        """All of them."""
        return [self.source] if self.target is None else [self.source, self.target]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Source and target lines, one pair at a time."""
        return (
            tsv_pairs(self.source) if self.target is None else file_pairs(self.source, self.target)
        )


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, of gzip what it holds (told by content, not by name). DataError where it
    can't be read.
    """
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if compressed:
                with gzip.open(file, "rb") as text:
                    yield text  # type: ignore[misc]
            else:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error


def read_lines(path: Path) -> Iterator[str]:
    """A file's lines, one at a time (see `decoded_lines`)."""
    with open_text(path) as file:
        yield from decoded_lines(file, str(path))


def file_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Pairs of two files, line by line."""
    count = 0
    for src, tgt in zip_longest(read_lines(source), read_lines(target)):
        if src is None or tgt is None:
            counts = [sum(1 for _ in read_lines(path)) for path in (source, target)]
            raise DataError(
                f"{source} has {counts[0]} lines, {target} has {counts[1]}; expected as many"
            )
        count += 1
        yield src, tgt
    if not count:
        raise DataError(f"{source}: empty; expected a sentence a line")


def tsv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of one file: source, tab, target; further columns are passed over."""
    number = 0
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) < 2:
            raise DataError(
                f"{path}:{number}: no tab in {line[:60]!r}; expected source, tab, target"
            )
        yield columns[0], columns[1]
    if not number:
        raise DataError(f"{path}: empty; expected a pair a line")


def text_sha256(path: Path) -> str:
    """SHA-256 of a file's text, uncompressed."""
    digest = hashlib.sha256()
    with open_text(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def lines_sha256(lines: Iterable[str]) -> str:
    """SHA-256 of a text in memory."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def scored_text(source: Iterable[str], reference: Iterable[str]) -> dict[str, str]:
    """The checksums that stand beside scores, to tell which text they are of."""
    return {"source_sha256": lines_sha256(source), "reference_sha256": lines_sha256(reference)}


def check_sha256(path: Path, expected: str | None) -> None:
    """DataError where a text is not the one that the configuration names."""
    if expected is not None and (found := text_sha256(path)) != expected:
        raise DataError(
            f"{path}: wrong checksum: SHA-256 of its text is {found}, expected {expected}"
        )


def splits(config: DataConfig) -> dict[str, SplitConfig]:
    """The splits that a corpus names, train first."""
    named = {"train": config.train, "valid": config.valid, "test": config.test, **config.more_tests}
    return {name: split for name, split in named.items() if split.source is not None}


def locate(config: DataConfig, name: str) -> TextFiles:
    """The files of a split, fetched or made where they aren't here yet, and checked."""
    available = splits(config)
    if name not in available:
        others = f"; expected one of {', '.join(available)}" if available else ""
        raise DataError(f"data={config.name}: has no split {name!r}{others}{_hint(config, name)}")
    split = available[name]
    if config.origin is Origin.grammar:
        return _from_grammar(config, name)
    sides = [(split.source, split.source_sha256), (split.target, split.target_sha256)]
    if config.origin is Origin.published and split.target is not None:
        paths = [_published(config, split, str(side), sha256) for side, sha256 in sides]
        return TextFiles(paths[0], paths[1])
    for side, sha256 in sides:
        if side is not None and config.origin is Origin.files:
            check_sha256(Path(side), sha256)
    assert split.source is not None
    return TextFiles(Path(split.source), None if split.target is None else Path(split.target))


def is_here(config: DataConfig, name: str) -> bool:
    """Whether a split can be read as it is: nothing has to be fetched, divided or drawn for it
    first.
    """
    split = splits(config).get(name)
    if split is None or config.origin is Origin.files:
        return split is not None
    if config.origin is Origin.grammar:
        return _drawn_folder(config).is_dir()
    folder, sides = (
        _download_folder(config),
        ((split.source, split.source_sha256), (split.target, split.target_sha256)),
    )
    fetched = [str(side) for side, sha256 in sides if _is_upstreams(str(side), sha256)]
    if not fetched or _mirror(config):
        return True
    divided = config.upstream_split is None or _is_divided(config, folder)
    return divided and all((folder / side).is_file() for side in fetched)


def _hint(config: DataConfig, name: str) -> str:
    if name == "train" and config.origin is Origin.published:
        return f"; its training text is yours to bring: {_own_files(name)}"
    return f"; {_own_files(name)} name its text" if config.origin is Origin.files else ""


def _own_files(name: str) -> str:
    return f"data.{name}.source=FILE data.{name}.target=FILE"


# -- published corpora ---


def _mirror(config: DataConfig) -> str | None:
    """The folder that published files are taken from instead of the network, where there is one."""
    return config.mirror or os.environ.get(MIRROR_VARIABLE)


def _download_folder(config: DataConfig) -> Path:
    """Where what was fetched is kept."""
    return Path(config.root) / config.name / "download"


def _is_upstreams(name: str, sha256: str | None) -> bool:
    """Whether a file is the published one.

    Without a checksum, or named with its folder (./mine.de), it is the user's own in the published
    one's place.
    """
    return sha256 is not None and Path(name).name == name


def _published(config: DataConfig, split: SplitConfig, name: str, sha256: str | None) -> Path:
    """One published file, from the mirror folder or from upstream; or the user's own in its
    place.
    """
    if not _is_upstreams(name, sha256):
        return Path(name)
    assert sha256 is not None
    mirror = _mirror(config)
    if mirror:
        folder = Path(mirror) / (split.mirror_folder or config.mirror_folder or config.name)
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder in the mirror (data.mirror or {MIRROR_VARIABLE});"
                f" expected one with the files of data={config.name}"
            )
        check_sha256(folder / name, sha256)
        return folder / name
    if config.upstream is None or split.mirror_folder is not None:
        raise DataError(
            f"data={config.name}: {name} has no address of its own upstream; data.mirror=DIR or "
            f"{MIRROR_VARIABLE} has to name a folder with a copy"
        )
    return _fetched(config, name, sha256)


def _fetched(config: DataConfig, name: str, sha256: str) -> Path:
    """One published file from upstream; what turns out to be another than expected is not kept."""
    assert config.upstream is not None
    folder = _download_folder(config)
    path = folder / name
    if config.upstream_split is not None:
        _split_upstream(config, folder)
        if config.upstream_split.git_blob is not None:
            return path  # the checksums are a mirror's; upstream's file was checked instead
    else:
        fetch(
            config.upstream + (name if config.upstream_is_gzip else name.removesuffix(".gz")),
            folder,
            name,
        )
    try:
        check_sha256(path, sha256)
    except DataError:
        path.unlink(missing_ok=True)
        (folder / "split.json").unlink(missing_ok=True)
        raise
    return path


def fetch(address: str, folder: Path, name: str) -> Path:
    """Download a file, unless it is there; kept only whole."""
    import pooch

    pooch.get_logger().setLevel(
        "WARNING"
    )  # it would print the file's hash and advise to write it down
    try:
        path: str = pooch.retrieve(
            address, known_hash=None, fname=name, path=folder, progressbar=True
        )
    except OSError as error:
        raise DataError(
            f"{address}: can't be fetched ({error}); data.mirror=DIR takes it from a folder"
        ) from error
    return Path(path)


def _split_upstream(config: DataConfig, folder: Path) -> None:
    """Fetch the one upstream file of a corpus and divide it by its rule, unless that was done."""
    if _is_divided(config, folder):
        return
    rule, address = config.upstream_split, config.upstream
    assert rule is not None
    assert address is not None
    path = fetch(address, folder, address.rpartition("/")[2])
    try:
        check_git_blob(path, rule.git_blob)
    except DataError:
        path.unlink()
        raise
    for split_name, pairs in split_by_components(read_upstream(path, rule), rule).items():
        split = splits(config)[split_name]
        for side, name in enumerate((split.source, split.target)):
            with replacing(folder / str(name)) as temporary:
                temporary.write_bytes(
                    gzip.compress("".join(p[side] + "\n" for p in pairs).encode("utf-8"), mtime=0)
                )
    write_text(folder / "split.json", _made_of(config))


def _is_divided(config: DataConfig, folder: Path) -> bool:
    """Whether the upstream file has been divided by the present rule."""
    done = folder / "split.json"
    return done.exists() and done.read_text(encoding="utf-8") == _made_of(config)


def _made_of(config: DataConfig) -> str:
    """What the divided files depend on, as it is written down beside them."""
    assert config.upstream_split is not None
    return (
        json.dumps({"upstream": config.upstream, "rule": asdict(config.upstream_split)}, indent=2)
        + "\n"
    )


# -- the built-in grammar ---


def _from_grammar(config: DataConfig, name: str) -> TextFiles:
    """The corpus a grammar draws."""
    folder = _drawn_folder(config)
    if not folder.is_dir():
        _draw(config, packaged(str(config.grammar)), folder)
    return TextFiles(
        folder / f"{name}.{config.source_language}", folder / f"{name}.{config.target_language}"
    )


def _drawn_folder(config: DataConfig) -> Path:
    """Where it stands: made once for each grammar file, seed, sizes and version of the code that
    draws.
    """
    from .grammar import drawing, numerals
    from .grammar import rules as grammar_file

    assert config.grammar is not None
    grammar = packaged(config.grammar)
    if not grammar.is_file():
        raise DataError(f"{grammar}: no such grammar")
    code = [Path(str(module.__file__)).read_bytes() for module in (drawing, grammar_file, numerals)]
    sizes = sorted((name, str(size)) for name, size in config.grammar_splits.items())
    key = repr((grammar.read_bytes(), config.grammar_seed, sizes, code))
    return Path(config.root) / config.name / f"text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _draw(config: DataConfig, grammar: Path, folder: Path) -> None:
    from .grammar.drawing import SplitSize, generate_splits, load_grammar

    sizes = {
        name: SplitSize(s.count, s.min_words, s.max_words)
        for name, s in config.grammar_splits.items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".text-") as temporary:
        made = Path(temporary) / "text"
        made.mkdir()
        for name, pairs in generate_splits(
            load_grammar(grammar), sizes, config.grammar_seed
        ).items():
            for language, lines in (
                (config.source_language, (p.source for p in pairs)),
                (config.target_language, (p.target for p in pairs)),
            ):
                write_text(made / f"{name}.{language}", "".join(line + "\n" for line in lines))
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and drew the same
                raise


# -- a split as text ---


def held_out(pair: tuple[str, str], share: float) -> bool:
    """Whether a pair of train belongs to the held-out part: by its hash, so that it never moves."""
    digest = hashlib.blake2b("\t".join(pair).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def split_pairs(config: DataConfig, name: str) -> Iterator[tuple[str, str]]:
    """The pairs of a split as text, before clean-up. Where there is no valid, a part of train is
    held out.
    """
    holds_out = "valid" not in splits(config)
    if name == "valid" and holds_out:
        return (
            pair for pair in locate(config, "train").pairs() if held_out(pair, config.valid_share)
        )
    pairs = locate(config, name).pairs()
    if name == "train" and holds_out:
        return (pair for pair in pairs if not held_out(pair, config.valid_share))
    return pairs


def read_split(config: DataConfig, name: str) -> tuple[list[str], list[str]]:
    """A split's source and target lines."""
    pairs = list(split_pairs(config, name))
    if not pairs:
        raise DataError(f"data={config.name}: split {name!r} is empty")
    return [src for src, _ in pairs], [tgt for _, tgt in pairs]


def read_pair_files(source: str, target: str) -> tuple[list[str], list[str]]:
    """The lines of two files that belong together."""
    pairs = list(file_pairs(Path(source), Path(target)))
    return [src for src, _ in pairs], [tgt for _, tgt in pairs]
