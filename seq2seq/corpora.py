"""Where text comes from: a mirror folder or the network, a grammar, or the user's own files. Checked, line by line."""

import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from .checkpoint import write_text
from .config import DataConfig, Origin, SplitConfig
from .errors import DataError
from .splitting import check_git_blob, read_upstream, split_by_components

MIRROR_VARIABLE = "SEQ2SEQ_DATA_MIRROR"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        return tsv_pairs(self.source) if self.target is None else file_pairs(self.source, self.target)


def open_text(path: Path) -> BinaryIO:
    """A file's bytes, of gzip what it holds (told by content, not by name)."""
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    return gzip.open(path, "rb") if compressed else open(path, "rb")  # type: ignore[return-value]


def read_lines(path: Path) -> Iterator[str]:
    """Lines ended by LF or CRLF, and by nothing else, in strict UTF-8; a byte order mark at the start is dropped."""
    with open_text(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                raw = line.removesuffix(b"\n").removesuffix(b"\r")
                yield decode_line(raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw, str(path), number)
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{path}: damaged gzip file ({error})") from error


def decode_line(raw: bytes, name: str, number: int) -> str:
    """UTF-8 bytes as text, or DataError naming file, line and byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}:{number}: invalid UTF-8 at byte {error.start + 1} (0x{raw[error.start]:02x}); "
                        "expected UTF-8 text") from error


def file_pairs(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Pairs of two files, line by line."""
    count = 0
    for src, tgt in zip_longest(read_lines(source), read_lines(target)):
        if src is None or tgt is None:
            counts = [sum(1 for _ in read_lines(path)) for path in (source, target)]
            raise DataError(f"{source} has {counts[0]} lines, {target} has {counts[1]}; expected as many")
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
            raise DataError(f"{path}:{number}: no tab in {line[:60]!r}; expected source, tab, target")
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


def check_sha256(path: Path, expected: str | None) -> None:
    """DataError where a text is not the one that the configuration names."""
    if expected is not None and (found := text_sha256(path)) != expected:
        raise DataError(f"{path}: wrong checksum: SHA-256 of its text is {found}, expected {expected}")


def splits(config: DataConfig) -> dict[str, SplitConfig]:
    """The splits that a corpus names, train first."""
    named = {"train": config.train, "valid": config.valid, "test": config.test, **config.more_tests}
    return {name: split for name, split in named.items() if split.source is not None}


def locate(config: DataConfig, name: str) -> TextFiles:
    """The files of a split, fetched or made where they aren't here yet, and checked."""
    available = splits(config)
    if name not in available:
        raise DataError(f"data={config.name}: has no split {name!r}; expected one of {', '.join(available) or 'none'}"
                        + _hint(config, name))
    split = available[name]
    if config.origin is Origin.grammar:
        return _from_grammar(config, name)
    assert split.source is not None
    if config.origin is Origin.files or os.path.isabs(split.source) or os.path.exists(split.source):
        return TextFiles(Path(split.source), None if split.target is None else Path(split.target))
    return _published(config, split)


def _hint(config: DataConfig, name: str) -> str:
    if config.origin is Origin.files or name == "train":
        return f" (set data.{name}.source=FILE data.{name}.target=FILE)"
    return ""


# -- published corpora -----------------------------------------------------------------------------------------------


def _published(config: DataConfig, split: SplitConfig) -> TextFiles:
    """A published split, from the mirror folder or from upstream."""
    mirror = config.mirror or os.environ.get(MIRROR_VARIABLE)
    if mirror:
        folder = Path(mirror) / (config.mirror_folder or config.name)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder in the mirror (data.mirror or {MIRROR_VARIABLE}); expected it to "
                            f"hold the files of data={config.name}")
    elif config.upstream_split is not None:
        folder = _split_upstream(config)
    else:
        folder = _download(config, split)
    found = []
    checked_otherwise = not mirror and config.upstream_split is not None and config.upstream_split.git_blob is not None
    for name, sha256 in ((split.source, split.source_sha256), (split.target, split.target_sha256)):
        path = folder / str(name)
        check_sha256(path, None if checked_otherwise else sha256)
        found.append(path)
    return TextFiles(found[0], found[1])


def _download_folder(config: DataConfig) -> Path:
    return Path(config.root) / config.name / "download"


def fetch(address: str, folder: Path, name: str) -> Path:
    """Download a file, unless it is there; kept only whole."""
    import pooch

    try:
        path: str = pooch.retrieve(address, known_hash=None, fname=name, path=folder, progressbar=True)
    except OSError as error:
        raise DataError(f"{address}: can't be fetched ({error}); data.mirror=DIR takes it from a folder") from error
    return Path(path)


def _download(config: DataConfig, split: SplitConfig) -> Path:
    if config.upstream is None:
        raise DataError(f"data={config.name}: its upstream has no stable address; data.mirror=DIR or {MIRROR_VARIABLE} "
                        "has to name a folder with a copy")
    folder = _download_folder(config)
    for name in map(str, (split.source, split.target)):
        upstream_name = name if config.upstream_is_gzip else name.removesuffix(".gz")
        fetch(config.upstream + upstream_name, folder, name)
    return folder


def _split_upstream(config: DataConfig) -> Path:
    """Fetch the one upstream file of a corpus and divide it by its rule."""
    rule = config.upstream_split
    assert rule is not None
    assert config.upstream is not None
    folder = _download_folder(config)
    done = folder / "split.done"
    if not done.exists():
        path = fetch(config.upstream, folder, config.upstream.rpartition("/")[2])
        check_git_blob(path, rule.git_blob)
        divided = split_by_components(read_upstream(path, rule), rule)
        for split_name, split in splits(config).items():
            if split_name in divided:
                for side, name in enumerate((split.source, split.target)):
                    lines = "".join(pair[side] + "\n" for pair in divided[split_name])
                    (folder / str(name)).write_bytes(gzip.compress(lines.encode("utf-8"), mtime=0))
        write_text(done, config.upstream + "\n")
    return folder


# -- the built-in grammar --------------------------------------------------------------------------------------------


def _from_grammar(config: DataConfig, name: str) -> TextFiles:
    """The corpus a grammar draws: made once for each grammar file, seed and sizes."""
    assert config.grammar is not None
    grammar = Path(config.grammar)
    if not grammar.is_file():
        raise DataError(f"{grammar}: no such grammar")
    key = repr((grammar.read_bytes(), config.grammar_seed, sorted((k, str(v)) for k, v in config.grammar_splits.items())))
    folder = Path(config.root) / config.name / f"text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        _draw(config, grammar, folder)
    return TextFiles(folder / f"{name}.{config.source_language}", folder / f"{name}.{config.target_language}")


def _draw(config: DataConfig, grammar: Path, folder: Path) -> None:
    from .grammar import SplitSize, generate_splits, load_grammar

    sizes = {name: SplitSize(s.count, s.min_words, s.max_words) for name, s in config.grammar_splits.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".text-") as temporary:
        made = Path(temporary) / "text"
        made.mkdir()
        for name, pairs in generate_splits(load_grammar(grammar), sizes, config.grammar_seed).items():
            for language, lines in ((config.source_language, (p.source for p in pairs)),
                                    (config.target_language, (p.target for p in pairs))):
                write_text(made / f"{name}.{language}", "".join(line + "\n" for line in lines))
        if not folder.is_dir():
            os.rename(made, folder)


# -- a split as text -------------------------------------------------------------------------------------------------


def held_out(pair: tuple[str, str], share: float) -> bool:
    """Whether a pair of train belongs to the held-out part: by its hash, so that it never moves."""
    digest = hashlib.blake2b("\t".join(pair).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def split_pairs(config: DataConfig, name: str) -> Iterator[tuple[str, str]]:
    """The pairs of a split as text, before clean-up. Where there is no valid, a part of train is held out."""
    holds_out = "valid" not in splits(config)
    if name == "valid" and holds_out:
        return (pair for pair in locate(config, "train").pairs() if held_out(pair, config.valid_share))
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
