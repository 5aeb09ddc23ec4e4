"""What to do about what a survey has found, in words."""

from collections.abc import Iterator, Sequence

from ..config import DataConfig, TokenizerConfig, TokenizerKind
from ..config.tokenizer import SUBWORDS
from ..shown import are, counted
from .survey import SHORT, Side, Split

FEW = 0.01
"""Shares below this are not worth a word."""


def advice(
    splits: Sequence[Split], data: DataConfig, tokenizer: TokenizerConfig | None
) -> list[str]:
    """Return one sentence or two for each thing that deserves attention, the worst first.

    tokenizer: Its settings; None: it is a trained run's, and its settings are given.
    """
    found = [*_leaks(splits), *_languages(splits), *_damage(splits)]
    train = splits[0]
    found += [*_pairs(train, data), *_unknown(splits, tokenizer)]
    return found or ["Nothing unusual was found."]


def _leaks(splits: Sequence[Split]) -> Iterator[str]:
    for split in splits:
        overlap = split.in_train
        if overlap is None or not (overlap.source or overlap.target):
            continue
        yield (
            f"{split.name}: of {counted(split.pairs, 'pair')}, the source of {overlap.source:,},"
            f" the target of {overlap.target:,} and {overlap.pair:,} as a whole are in train too."
            " A model can learn them by heart, so scores come out too high: take them out of train."
        )


def _languages(splits: Sequence[Split]) -> Iterator[str]:
    for split in splits:
        for name, side in zip(("source", "target"), split.sides, strict=True):
            if side.other_script > FEW * max(side.letters_from, 1):
                yield (
                    f"{split.name}, {name}: of the first {counted(side.letters_from, 'line')} with"
                    f" letters, {side.other_script:,} {are(side.other_script)} not written as"
                    f" {side.language} is. Look at them, and at"
                    f" data.{name}_language={side.language}."
                )


def _damage(splits: Sequence[Split]) -> Iterator[str]:
    for split in splits:
        for name, side in zip(("source", "target"), split.sides, strict=True):
            if side.damaged:
                yield (
                    f"{split.name}, {name}: U+FFFD, the mark of a lost character, is in"
                    f" {counted(side.damaged, 'line')}. Convert the original again, in its own"
                    " encoding."
                )
            if side.empty and split.name != "train":
                yield (
                    f"{split.name}, {name}: nothing is in {counted(side.empty, 'line')}, which"
                    " will be scored too."
                )


def _pairs(train: Split, data: DataConfig) -> Iterator[str]:
    least = FEW * train.pairs
    if train.outliers > least / 10:
        yield (
            f"train: a length ratio far from the usual one in {counted(train.outliers, 'pair')}"
            f" (sentences of {SHORT} characters or more). Where they are no translations, take them"
            f" out, or lower data.cleaning.max_length_ratio={data.cleaning.max_length_ratio:g}."
        )
    if train.longer_than_limit > least / 10:
        yield (
            f"train: more pieces than data.max_length={data.max_length} in"
            f" {counted(train.longer_than_limit, 'pair')}, dropped in training. Raise the limit, or"
            " split the lines."
        )
    if train.repeated > least:
        done = "dropped" if data.cleaning.drop_duplicates else "kept"
        yield (
            f"train: {counted(train.repeated, 'repeated pair')}, {done} in training"
            f" (data.cleaning.drop_duplicates={str(data.cleaning.drop_duplicates).lower()})."
        )
    if train.copies > least:
        yield f"train: the same text on both sides of {counted(train.copies, 'pair')}."


def _unknown(splits: Sequence[Split], tokenizer: TokenizerConfig | None) -> Iterator[str]:
    for split in splits[1:]:
        for name, side in zip(("source", "target"), split.sides, strict=True):
            if side.unknown_characters and (becomes := _unknown_become(side, tokenizer)):
                shown = " ".join(list(side.unknown_characters)[:12])
                characters = counted(len(side.unknown_characters), "character")
                yield (
                    f"{split.name}, {name}: {characters} that train does not have ({shown})."
                    f" {becomes}."
                )


def _unknown_become(side: Side, tokenizer: TokenizerConfig | None) -> str:
    """Return what characters that train lacks become; nothing where none becomes <unk>."""
    if side.pieces and not side.unknown_pieces:  # the tokenizer has been asked
        return ""
    if tokenizer is None or tokenizer.model is not None:
        return "Those that the tokenizer does not have become <unk>"
    if tokenizer.byte_fallback:
        return ""
    if tokenizer.kind is TokenizerKind.word:
        return "Each word that has one becomes <unk>"
    way_out = "; tokenizer.byte_fallback=true spells them in bytes"
    return f"Each becomes <unk>{way_out if tokenizer.kind in SUBWORDS else ''}"
