"""Where text comes from: published files, the built-in grammar, or the user's own files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from ..config import DataConfig, SplitConfig, TextOrigin
from ..config.choices import expected_one_of
from ..config.settings import packaged
from ..errors import DataError
from ..files import exists, new_folder, place, write_text
from ..shown import counted
from . import grammar
from .checksums import check_sha256
from .columns import Numbered, Skipped, check_tabs, columns_of, tsv_pairs
from .grammar import generate_splits, load_grammar
from .opening import check_regular
from .published import is_at_hand, is_published, published_file, sides
from .splitting import Pair
from .text import read_lines


def numbered(config: DataConfig, name: str, skipped: Skipped | None = None) -> Iterator[Numbered]:
    """Yield line number and pair of a split's source and target file, or of its one TSV file.

    Raise DataError if there are none.
    """
    files = locate(config, name)
    for file in files:
        check_tabs(file, setting_of(config, name), len(files) == 1)
    if len(files) == 2:
        pairs: Iterator[Numbered] = enumerate(file_pairs(*files), start=1)
    else:
        pairs = tsv_pairs(files[0], columns_of(files[0], config), skipped)
    first = next(pairs, None)
    if first is None:
        raise DataError(f"{files[0]}: empty; expected one sentence pair on each line")
    yield from chain([first], pairs)


def file_pairs(source: Path, target: Path) -> Iterator[Pair]:
    """Yield the pairs of two files, line by line; raise DataError where one file is longer."""
    for src, tgt in zip_longest(read_lines(source), read_lines(target)):
        if src is None or tgt is None:
            n, m = (sum(1 for _ in read_lines(path)) for path in (source, target))
            raise DataError(
                f"{source} has {counted(n, 'line', '')}, {target} has {m}; expected the same number"
            )
        yield src, tgt


def unzipped(pairs: Iterable[Pair]) -> tuple[list[str], list[str]]:
    """Return the source lines and the target lines of pairs."""
    kept = list(pairs)
    return [src for src, _ in kept], [tgt for _, tgt in kept]


def splits(config: DataConfig) -> dict[str, SplitConfig]:
    """Return the splits that a corpus names, train first."""
    named = {"train": config.train, "valid": config.valid, "test": config.test, **config.more_tests}
    return {name: split for name, split in named.items() if split.source is not None}


def setting_of(config: DataConfig, name: str) -> str:
    """Return the dotted key of a split's settings."""
    return f"data.{'more_tests.' * (name in config.more_tests)}{name}"


def locate(config: DataConfig, name: str) -> list[Path]:
    """Return the checked files of a split: source and target, or one TSV file.

    Missing files are downloaded or drawn first. Raise DataError where the corpus has no such split
    or a checksum differs.
    """
    available = splits(config)
    if name not in available:
        expected = expected_one_of(name, list(available), "its settings name")
        others = f"; {expected}" if available else ""
        raise DataError(f"data={config.name} has no split {name!r}{others}{_hint(config, name)}")
    if config.origin is TextOrigin.grammar:
        folder = _drawn(config)
        languages = config.source_language, config.target_language
        return [folder / f"{name}.{language}" for language in languages]
    split = available[name]
    return [
        _checked(config, split, f"{setting_of(config, name)}.{side}", *file)
        for side, file in zip(("source", "target"), sides(split), strict=False)
    ]


def is_here(config: DataConfig, name: str) -> bool:
    """Return whether a split can be read at once, with nothing to fetch, divide or draw first."""
    split = splits(config).get(name)
    if split is None or config.origin is TextOrigin.files:
        return split is not None
    if config.origin is TextOrigin.grammar:
        return _drawn_folder(config).is_dir()
    return is_at_hand(config, split)


def _checked(
    config: DataConfig, split: SplitConfig, key: str, name: str, sha256: str | None
) -> Path:
    """Return one file of a published corpus or of the user's own, after its checksum agrees.

    `key` is the setting that names the file.
    """
    published = config.origin is TextOrigin.published
    if published and sha256 is not None and is_published(split, name, sha256):
        return published_file(config, split, name, sha256)
    if not exists(Path(name)):
        raise DataError(f"{key}={name}: no such file{place(name)}")
    check_regular(Path(name))
    if not published:
        check_sha256(config, Path(name), sha256)
    return Path(name)


def _hint(config: DataConfig, name: str) -> str:
    own_files = f"data.{name}.source=FILE data.{name}.target=FILE"
    if name == "train" and config.origin is TextOrigin.published:
        return f"; you have to supply its training text: {own_files}"
    return f"; expected {own_files}" if config.origin is TextOrigin.files else ""


def _grammar_file(config: DataConfig) -> Path:
    """Return the grammar's file, in the working directory or the package; DataError if absent."""
    file = packaged(str(config.grammar))
    if config.grammar is None or not file.is_file():
        where = place(str(config.grammar)) and f"{place(str(config.grammar))} or in the package"
        raise DataError(f"data.grammar={config.grammar}: no such file{where}; expected a grammar")
    return file


def _drawn_folder(config: DataConfig) -> Path:
    """Return the folder of the drawn text, named by a hash of everything that decides it."""
    file = _grammar_file(config)
    code = [path.read_bytes() for path in sorted(Path(grammar.__path__[0]).glob("*.py"))]
    sizes = sorted((name, str(size)) for name, size in config.grammar_splits.items())
    languages = config.source_language, config.target_language  # in the names of its files
    key = repr((file.read_bytes(), config.grammar_seed, sizes, languages, code))
    return Path(config.root) / config.name / f"text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _drawn(config: DataConfig) -> Path:
    """Return the folder of the drawn text; draw it first where it is missing."""
    folder = _drawn_folder(config)
    if folder.is_dir():
        return folder
    file = _grammar_file(config)
    rules = load_grammar(file)
    with new_folder(folder, prefix=".text-") as made:
        try:
            drawn = generate_splits(rules, config.grammar_splits, config.grammar_seed)
        except ValueError as error:
            raise DataError(f"{file}: {error}") from error
        for name, pairs in drawn.items():
            for side, language in enumerate((config.source_language, config.target_language)):
                lines = "".join(f"{pair[side]}\n" for pair in pairs)
                write_text(made / f"{name}.{language}", lines)
    return folder


def held_out(pair: Pair, share: float) -> bool:
    """Return whether a pair of train is held out, by its hash: other pairs never change that."""
    digest = hashlib.blake2b("\t".join(pair).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def split_pairs(config: DataConfig, name: str, skipped: Skipped | None = None) -> Iterator[Pair]:
    """Return the pairs of a split before clean-up; without a valid split, train is divided.

    `skipped` counts the lines that are no pairs, in a divided train those of both parts.
    """
    return (pair for _, pair in numbered_split(config, name, skipped))


def numbered_split(
    config: DataConfig, name: str, skipped: Skipped | None = None
) -> Iterator[Numbered]:
    """Return the pairs of a split with the numbers of their lines (see `split_pairs`)."""
    if name not in ("train", "valid") or "valid" in splits(config):
        return numbered(config, name, skipped)
    pairs = numbered(config, "train", skipped)
    wanted = name == "valid"
    return (both for both in pairs if held_out(both[1], config.valid_share) is wanted)


def read_split(config: DataConfig, name: str) -> tuple[list[str], list[str]]:
    """Return the source lines and the target lines of a split; raise DataError if it is empty."""
    source, target = unzipped(split_pairs(config, name))
    if not source:
        raise DataError(f"data={config.name}: split {name!r} is empty")
    return source, target


def read_parallel(files: Sequence[str]) -> list[list[str]]:
    """Return the lines of files that belong together; DataError unless they have as many lines."""
    texts = [list(read_lines(Path(file))) for file in files]
    for file, lines in zip(files, texts, strict=True):
        if len(lines) != len(texts[0]):
            raise DataError(
                f"{files[0]} has {counted(len(texts[0]), 'line', '')}, {file} has {len(lines)};"
                " expected the same number"
            )
    if not texts[0]:
        raise DataError(f"{files[0]}: empty; expected one sentence on each line")
    return texts


def scored_text(source: Iterable[str], reference: Iterable[str]) -> dict[str, str]:
    """Return the checksums that are stored with scores, to identify the text they belong to."""
    texts = {"source_sha256": source, "reference_sha256": reference}
    joined = {name: "".join(f"{line}\n" for line in lines) for name, lines in texts.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in joined.items()}
