"""Settings of a parallel corpus: its text, its clean-up, its batches."""

from dataclasses import dataclass, field
from enum import Enum

from ..shown import brief
from .checks import (
    MOST,
    as_text,
    check_ranges,
    expand_paths,
    number,
    only_with,
    path,
    refuse,
)
from .choices import expected_one_of
from .languages import BLEU_TOKENIZERS, bleu_tokenizer, check_language
from .tokenizer import MOST_PIECES


@dataclass
class SplitConfig:
    """The files of one split. Without `target`, `source` is a TSV file: source, tab, target."""

    source: str | None = path()
    target: str | None = path()
    source_sha256: str | None = None
    """SHA-256 of the uncompressed text."""
    target_sha256: str | None = None
    mirror_folder: str | None = None
    """Folder of the split in the mirror, if it is not the corpus' own.

    The split is then found in a mirror only.
    """

    def __post_init__(self) -> None:
        expand_paths(self)


@dataclass
class CleaningConfig:
    """Which training pairs are dropped; each rule is counted and printed."""

    max_length_ratio: float = number(9.0, at_least=1, at_most=1_000_000)
    """Longest allowed ratio between the lengths of both sides, in pieces.

    A pair with both sides under 10 pieces always passes.
    """
    drop_duplicates: bool = True
    """Whether exact repetitions of a pair are dropped."""

    def __post_init__(self) -> None:
        check_ranges(self, "data.cleaning")


@dataclass
class SplitRule:
    """How one upstream file of pairs is divided (see `seq2seq.data.splitting`)."""

    file: str = ""
    """Name of the upstream file, or of the member of the upstream zip."""
    salt: str = ""
    """Text that is hashed with each key; another salt gives another division."""
    train_share: float = number(0.9, above=0, below=1)
    valid_share: float = number(0.05, above=0, below=1)
    source_column: int = number(0, at_least=0, at_most=MOST)
    target_column: int = number(1, at_least=0, at_most=MOST)
    name_side: str = "source"
    """The side, source or target, whose smallest key names a component."""
    git_blob: str | None = None
    """Git's hash of the upstream file; then the checksums of the splits are those of a mirror."""

    def __post_init__(self) -> None:
        group = "data.upstream_split"
        check_ranges(self, group)
        if self.train_share + self.valid_share >= 1:
            raise ValueError(
                f"{group}.valid_share={self.valid_share}: expected less than"
                f" {1 - self.train_share:g}, what train leaves, with a rest for test"
            )
        if self.source_column == self.target_column:
            raise ValueError(
                f"{group}.target_column={self.target_column}: expected another column than source's"
            )
        if self.name_side not in ("source", "target"):
            raise ValueError(f"{group}.name_side={self.name_side}: expected source or target")


@dataclass
class GrammarSplit:
    """How many pairs of a split a grammar draws, and the range of their source words."""

    count: int = number(0, at_least=0, at_most=MOST)
    min_words: int = number(1, at_least=1, at_most=MOST)
    max_words: int = number(20, at_least=1, at_most=MOST)


class TextOrigin(Enum):
    """Where the text of a corpus comes from."""

    grammar = "grammar"
    published = "published"
    files = "files"


@dataclass
class DataConfig:
    """A parallel corpus, and how it is cut into batches."""

    name: str = "files"
    """The folder of its runs and of its prepared text is called so."""
    origin: TextOrigin = TextOrigin.files
    source_language: str = "en"
    """BCP 47 tag or ISO 639 code: de, zh-Hant, tha."""
    target_language: str = "zh"
    bleu_tokenizer: str | None = None
    """sacreBLEU's tokenizer, such as 13a, intl, zh or char; null: by the target language.

    flores200, flores101, spm and spBLEU-1K download a model.
    """
    vocab_size: int = number(8000, at_least=5, at_most=MOST_PIECES)
    """Default of `tokenizer.vocab_size` for this corpus."""
    joint: bool = True
    """Default of `tokenizer.joint` for this corpus."""
    epochs: int = number(10, at_least=1, at_most=MOST)
    """Default of `trainer.max_epochs` for this corpus."""
    lr: float = number(1e-3, at_least=0, at_most=1000)
    """Default of `optimizer.lr` for this corpus, with Adam."""
    root: str = path("data/prepared")
    """Folder of prepared corpora."""
    mirror: str | None = path()
    """Folder with copies of the published files (environment: SEQ2SEQ_DATA_MIRROR)."""
    mirror_folder: str | None = None
    """The corpus' own folder inside the mirror."""
    upstream: str | None = None
    """Address before the file names; with `upstream_split`, the address of the one file."""
    upstream_is_gzip: bool = True
    """Whether the upstream files end in .gz, as those of a mirror do."""
    upstream_split: SplitRule | None = None
    grammar: str | None = path()
    """Grammar file (origin: grammar), in the working directory or in the package."""
    grammar_seed: int = number(1, at_least=0, at_most=2**63 - 1)
    grammar_splits: dict[str, GrammarSplit] = field(default_factory=dict)
    sha256: dict[str, dict[str, str]] = field(default_factory=dict)
    """SHA-256 of uncompressed texts by split and language, which the splits below refer to."""
    train: SplitConfig = field(default_factory=SplitConfig)
    valid: SplitConfig = field(default_factory=SplitConfig)
    test: SplitConfig = field(default_factory=SplitConfig)
    more_tests: dict[str, SplitConfig] = field(default_factory=dict)
    """Further test sets, by name."""
    source_column: str | None = None
    """Column of the source in TSV files: its number, from 1, or its name in the first line.

    null: the first column of text, by its script where source and target are written differently.
    """
    target_column: str | None = None
    """The same for the target; null: the next column of text."""
    valid_share: float = number(0.02, above=0, below=1)
    """Share of train that is held out, chosen by hash, where there is no valid."""
    train_pairs: int | None = number(None, at_least=1, at_most=MOST)
    """Number of training pairs to use, the first after clean-up; null: all."""
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    max_length: int = number(100, at_least=1, at_most=MOST)
    """Training pairs with more pieces on a side are dropped, and counted."""
    batch_tokens: int | None = number(2048, at_least=1, at_most=MOST)
    """Unpadded target tokens per batch; null: batch_sentences decides."""
    batch_sentences: int | None = number(None, at_least=1, at_most=MOST)
    """Sentences per batch; null: batch_tokens decides."""
    bucket_batches: int = number(1, at_least=1, at_most=MOST)
    """Sentences of about so many batches are sorted by length together; 1: no sorting.

    Keep 1 with batch norm. In a batch of sentences of one length, the statistics of a step tell how
    far the end is (docs/results.md, "The order of sentences").
    """

    def __post_init__(self) -> None:
        check_ranges(self, "data")
        expand_paths(self)
        if self.name in ("", ".", "..") or "/" in self.name:
            refuse(
                f"data.name={brief(self.name)}: expected the plain name of a folder, without /,"
                " such as mine"
            )
        for key in ("source_language", "target_language"):
            check_language(f"data.{key}", getattr(self, key))
        if self.bleu_tokenizer not in (None, *BLEU_TOKENIZERS):
            known = ["null", *BLEU_TOKENIZERS]
            expected = expected_one_of(str(self.bleu_tokenizer), known, "evaluate.py --help lists")
            raise ValueError(f"data.bleu_tokenizer={self.bleu_tokenizer}: {expected}")
        self._check_batches()
        published = self.origin is TextOrigin.published
        only_with(
            self, "data", "data.origin=published", published, "mirror_folder", "upstream",
            "upstream_split",
        )  # fmt: skip
        splits = (self.train, self.valid, self.test, *self.more_tests.values())
        if published and not any(split.source_sha256 for split in splits):
            refuse(
                "data.origin=published: expected data.SPLIT.source_sha256 of the published texts"
                " (data=files reads your own text)"
            )
        many_files = self.upstream is not None and self.upstream_split is None
        only_with(self, "data", "an address of several files", many_files, "upstream_is_gzip")
        only_with(
            self, "data", "data.origin=grammar", self.origin is TextOrigin.grammar, "grammar",
            "grammar_seed", "grammar_splits",
        )  # fmt: skip
        tsv = any(split.source is not None and split.target is None for split in splits)
        only_with(
            self, "data", "a TSV file: data.SPLIT.source without data.SPLIT.target", tsv,
            "source_column", "target_column",
        )  # fmt: skip
        self._check_columns()
        no_valid = self.valid.source is None
        only_with(self, "data", "data.valid.source=null", no_valid, "valid_share")
        self._check_splits()

    @property
    def splits_for_bleu(self) -> str:
        """The tokenizer of sacreBLEU that splits text for BLEU."""
        return self.bleu_tokenizer or bleu_tokenizer(self.target_language)

    def _check_columns(self) -> None:
        for key in ("source_column", "target_column"):
            column = getattr(self, key)
            if column is not None and (not column.strip() or column == "0"):
                raise ValueError(
                    f"data.{key}={column}: expected a number from 1, or a name in the first line"
                )
        if self.source_column is not None and self.source_column == self.target_column:
            raise ValueError(
                f"data.target_column={self.target_column}: expected another column than source's"
            )

    def _check_batches(self) -> None:
        if self.batch_tokens is None and self.batch_sentences is None:
            raise ValueError(
                "data.batch_tokens=null: expected a number, or one for data.batch_sentences"
            )
        if self.batch_tokens is not None and self.batch_sentences is not None:
            refuse(
                f"data.batch_sentences={self.batch_sentences}: expected data.batch_tokens=null"
                f" with it, found {self.batch_tokens}: a batch is measured in one of both"
            )
            self.batch_tokens = None  # of a saved run, whose batches were of sentences

    def _check_splits(self) -> None:
        """Check what each split names, given where the text comes from."""
        own = {"train": self.train, "valid": self.valid, "test": self.test}
        for key, names in (
            ("more_tests", self.more_tests),
            ("grammar_splits", self.grammar_splits),
        ):
            for name in names:
                if name in ("", ".", "..") or "/" in name or (key == "more_tests" and name in own):
                    refuse(
                        f"data.{key}.{brief(name)}: expected another name, which files can have,"
                        " without / and not train, valid or test"
                    )
        prefixes = {f"data.{name}": (name, split) for name, split in own.items()}
        prefixes |= {f"data.more_tests.{name}": (name, s) for name, s in self.more_tests.items()}
        for prefix, (name, split) in prefixes.items():
            only_with(
                split, prefix, "data.origin=published", self.origin is TextOrigin.published,
                "mirror_folder",
            )  # fmt: skip
            named = split.source is not None
            only_with(split, prefix, f"{prefix}.source", named, "target", "source_sha256")
            only_with(split, prefix, f"{prefix}.target", split.target is not None, "target_sha256")
            if self.origin is TextOrigin.grammar:
                self._check_drawn(prefix, name, split)

    def _check_drawn(self, prefix: str, name: str, split: SplitConfig) -> None:
        """Check a split that a grammar draws: the names of its files are given."""
        files = {"source": self.source_language, "target": self.target_language}
        for side, language in files.items():
            value, drawn = getattr(split, side), f"{name}.{language}"
            if split.source is not None and value != drawn:
                refuse(
                    f"{prefix}.{side}={as_text(value)}: expected {drawn}, which"
                    " data.origin=grammar draws (data=files reads your own text)"
                )
        texts = "data.origin=published or files"
        only_with(split, prefix, texts, False, "source_sha256", "target_sha256")
        size = self.grammar_splits.get(name)
        if split.source is not None and size is None:
            refuse(f"{prefix}.source={split.source}: expected data.grammar_splits.{name} with it")
        if size is not None:
            group = f"data.grammar_splits.{name}"
            check_ranges(size, group)
            if size.min_words > size.max_words:
                raise ValueError(
                    f"{group}.min_words={size.min_words}: expected at most"
                    f" max_words={size.max_words}"
                )
