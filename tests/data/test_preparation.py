"""Preparation of a corpus: cleaned, tokenized and stored once."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpora import TOKENIZER, corpus, sentences

from seq2seq.config import (
    DataConfig,
    NormalForm,
    NormalizationConfig,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.data import preparation
from seq2seq.data.batches import BatchSampler
from seq2seq.data.corpora import read_split
from seq2seq.data.dataset import Counts, Manifest, ParallelDataset, Prepared, ids_dtype
from seq2seq.data.preparation import (
    prepare,
)
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.errors import DataError


def decoded(prepared: Prepared, split: str) -> list[tuple[str, str]]:
    dataset, pair = prepared.split(split), prepared.tokenizers
    return [
        (pair.source.decode(dataset.src(i).tolist()), pair.target.decode(dataset.tgt(i).tolist()))
        for i in range(len(dataset))
    ]


# -- preparing ---


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
@pytest.mark.parametrize("joint", [True, False])
def test_a_prepared_corpus_holds_the_text(tmp_path: Path, kind: str, joint: bool) -> None:
    pairs = list(dict.fromkeys((line, line.upper()) for line in sentences(200)))
    config = corpus(tmp_path, pairs, pairs[:7])
    size = 2000 if kind == "word" else 55 if joint else 44
    prepared = prepare(config, TokenizerConfig(TokenizerKind(kind), size, joint), progress=False)
    assert decoded(prepared, "valid") == pairs[:7]
    assert decoded(prepared, "train") == pairs
    dataset = prepared.split("train")
    for i in (0, 5, len(dataset) - 1):
        assert dataset.src(i).tolist() == prepared.tokenizers.source.encode(pairs[i][0])
        assert dataset.tgt(i).tolist() == prepared.tokenizers.target.encode(pairs[i][1])
        assert (dataset.src_lengths[i], dataset.tgt_lengths[i]) == (
            len(dataset.src(i)) + 1,
            len(dataset.tgt(i)) + 1,
        )


def test_arrays_are_mapped_and_as_small_as_they_can_be(tmp_path: Path) -> None:
    dataset = prepare(corpus(tmp_path), TOKENIZER, progress=False).split("train")
    assert isinstance(dataset.ids[0], np.memmap)
    assert isinstance(dataset.ends[0], np.memmap)
    assert dataset.ids[0].dtype == np.uint8
    assert dataset.ends[0].dtype == np.int64
    assert [ids_dtype(size) for size in (256, 257, 65536, 65537)] == [
        np.uint8,
        np.uint16,
        np.uint16,
        np.uint32,
    ]


def test_cleaning_drops_and_counts_only_training_pairs(tmp_path: Path) -> None:
    good = [(f"the dog {i}", f"der hund {i}") for i in range(40)]
    bad = [
        ("", "leer"),
        ("leer", " \u00a0 "),
        ("word " * 50, "kurz"),
        ("a b c d e f g h i j k l", "x"),
        good[3],
        ("the\u00a0dog 5", "der \u200bhund  5"),
    ]
    config = corpus(tmp_path, good + bad, bad, max_length=40)
    config.cleaning.max_length_ratio = 4.0
    prepared = prepare(config, TokenizerConfig(TokenizerKind.word, 200), progress=False)
    train, valid = prepared.manifest.splits["train"], prepared.manifest.splits["valid"]
    assert list(prepared.manifest.splits) == ["train", "valid"]
    assert (train.pairs, train.kept) == (46, 40)
    assert train.dropped == {"empty": 2, "too_long": 1, "ratio": 1, "duplicates": 2}
    odd = {("\u00a0", " "): 2, ("\u200b", ""): 1, (" ", ""): 5}
    assert train.changes == odd
    assert (valid.pairs, valid.kept) == (6, 6)
    assert valid.changes == odd
    assert prepared.manifest == Manifest.read(prepared.folder / "manifest.json")


@pytest.mark.parametrize("drops", [True, False])
def test_validation_pairs_that_are_in_train_are_counted(drops: bool, tmp_path: Path) -> None:
    """Pairs count whose cleaned text is that of a pair that is trained on, repeated ones each."""
    train = [(f"dog {i}", f"hund {i}") for i in range(30)]
    valid = [train[3], train[3], ("dog\u00a0 4", "hund 4"), ("dog 5", "katze 5"), train[29]]
    config = corpus(tmp_path, [*train, train[0], train[29]], valid)
    config.cleaning.drop_duplicates = drops
    words = TokenizerConfig(TokenizerKind.word, 200)

    def counts() -> Counts:
        return prepare(config, words, progress=False).manifest.splits["valid"]

    assert (counts().in_train, counts().kept) == (4, 5)
    config.train_pairs = 29  # without the last one
    assert (counts().in_train, counts().kept) == (3, 5)


def test_each_rule_can_be_changed(tmp_path: Path) -> None:
    pairs = [(f"dog {i}", f"hund {i}") for i in range(30)] * 2 + [("a b c d e f g h i j k", "x")]
    config = corpus(tmp_path, pairs, pairs[:1])
    words = TokenizerConfig(TokenizerKind.word, 200)

    def kept(split: str = "train") -> int:
        return prepare(config, words, progress=False).manifest.splits[split].kept

    assert kept() == 30
    config.cleaning.drop_duplicates = False
    assert kept() == 60
    config.cleaning.max_length_ratio = 11.0
    assert kept() == 61
    config.max_length = 10
    assert kept() == 60
    config.train_pairs = 17
    assert kept() == 17
    assert kept("valid") == 1


@pytest.mark.parametrize(
    ("src", "tgt", "rule"),
    [
        (0, 3, "empty"),
        (20, 20, None),  # as long as a pair may be
        (20, 21, "too_long"),
        (9, 1, None),  # too short for a ratio
        (1, 10, "ratio"),
        (12, 3, None),
        (3, 13, "ratio"),
    ],
)
def test_the_rules_have_exact_bounds(src: int, tgt: int, rule: str | None) -> None:
    """At most 20 pieces, and 4 times as many as on the other side."""
    char = TokenizerConfig(TokenizerKind.char)
    tokenizers = Tokenizers.train((["a"], ["b"]), char, ("en", "en"))
    assert preparation.Encoder(tokenizers, 20, 4.0, drops=True).broken_rule(src, tgt) == rule


def test_references_stay_as_given_and_aligned(tmp_path: Path) -> None:
    valid = [
        ("a\u00a0b", "x\u202f!"),
        ("", ""),
        ("lone\rreturn", "two  spaces "),
        ("sep\u2028arator", "\u3000y"),
    ]
    prepared = prepare(corpus(tmp_path, valid=valid), TOKENIZER, progress=False)
    dataset = prepared.split("valid")
    assert list(zip(dataset.lines("source"), dataset.lines("target"), strict=True)) == valid
    assert read_split(corpus(tmp_path, valid=valid), "valid") == (
        dataset.lines("source"),
        dataset.lines("target"),
    )
    assert len(dataset) == 4
    assert dataset.src_lengths[1] == dataset.tgt_lengths[1] == 1
    with pytest.raises(DataError, match="the text of split 'train' is not kept"):
        prepared.split("train").lines("source")
    with pytest.raises(DataError, match="has no split 'test'; expected one of train, valid"):
        prepared.split("test")


def test_without_valid_a_part_is_held_out(tmp_path: Path) -> None:
    pairs = [(line, line.upper()) for line in dict.fromkeys(sentences(400))]
    prepared = prepare(corpus(tmp_path, pairs, valid_share=0.1), TOKENIZER, progress=False)
    train, valid = (set(decoded(prepared, name)) for name in ("train", "valid"))
    assert train | valid == set(pairs)
    assert not train & valid
    with pytest.raises(DataError, match=r"data\.valid_share=1e-09 holds out no pair of train"):
        prepare(corpus(tmp_path, pairs, valid_share=1e-9), TOKENIZER, progress=False)


def test_an_empty_result_of_cleaning_is_an_error_with_the_counts(tmp_path: Path) -> None:
    config = corpus(tmp_path, valid=[("a", "b")], max_length=1)
    with pytest.raises(
        DataError, match=r"no pair of split 'train' is left after clean-up of 300 \(300 too_long\)"
    ):
        prepare(config, TOKENIZER, progress=False)
    assert not [path for path in (tmp_path / "prepared" / "mine").iterdir() if path.name != ".lock"]


def test_bad_utf8_in_train_stops_preparation_and_leaves_nothing(tmp_path: Path) -> None:
    config = corpus(tmp_path)
    with open(tmp_path / "train", "ab") as file:
        file.write(b"x\xff\ty\n")
    with pytest.raises(DataError, match=r"train:301: invalid UTF-8 at byte 2 \(0xff\)"):
        prepare(config, TOKENIZER, progress=False)
    assert not [path for path in (tmp_path / "prepared" / "mine").iterdir() if path.name != ".lock"]


# -- the prepared folder ---


def test_prepared_once_and_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    monkeypatch.setattr(preparation, "make", lambda *_: pytest.fail("made again"))
    again = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    assert again.folder == first.folder
    assert again.manifest.fingerprint == first.folder.name
    assert again.tokenizers.source.model == first.tokenizers.source.model


def test_batch_settings_do_not_change_the_folder(tmp_path: Path) -> None:
    folders = {
        prepare(corpus(tmp_path, **options), TOKENIZER, progress=False).folder
        for options in (
            {},
            {"batch_tokens": 7},
            {"batch_sentences": 3, "batch_tokens": None},
            {"epochs": 3},
        )
    }
    assert len(folders) == 1


def test_text_and_settings_of_preparation_change_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(tokenizer: TokenizerConfig = TOKENIZER, **options: Any) -> Path:
        return prepare(corpus(tmp_path, **options), tokenizer, progress=False).folder

    changes: list[dict[str, Any]] = [
        {"kind": TokenizerKind.char},
        {"vocab_size": 80},
        {"joint": False},
        {"normalization": NormalizationConfig(target=NormalForm.nfkc)},
    ]
    folders = [
        folder(),
        folder(max_length=20),
        folder(train_pairs=100),
        folder(valid_share=0.1),
        folder(train=[(line, line) for line in sentences(300)]),
        folder(valid=[("a dog", "EIN HUND")]),
        *(folder(replace(TOKENIZER, **change)) for change in changes),
    ]
    monkeypatch.setattr(preparation, "VERSION", -1)
    folders.append(folder())
    assert len(set(folders)) == len(folders)


def test_an_incomplete_folder_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = corpus(tmp_path)
    real = preparation.encode_split

    def interrupted(folder: Path, name: str, *rest: Any) -> Any:
        if name == "valid":
            raise KeyboardInterrupt
        return real(folder, name, *rest)

    monkeypatch.setattr(preparation, "encode_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(config, TOKENIZER, progress=False)
    root = tmp_path / "prepared" / "mine"
    assert [path.name for path in root.iterdir()] == [".lock"]
    monkeypatch.undo()
    (root / ".making-killed" / "corpus").mkdir(parents=True)  # left by a killed process
    folder = prepare(config, TOKENIZER, progress=False).folder
    assert sorted(path.name for path in root.iterdir()) == sorted([".lock", folder.name])


def prepare_and_count(config: DataConfig, made: Any) -> None:
    real = preparation.make

    def counting(*arguments: Any) -> None:
        with made.get_lock():
            made.value += 1
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "make", counting)
        prepare(config, TOKENIZER, progress=False)


def test_two_processes_prepare_a_corpus_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    made = context.Value("i", 0)
    processes = [
        context.Process(target=prepare_and_count, args=(corpus(tmp_path), made)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert made.value == 1


@pytest.mark.parametrize(
    ("file", "cut"),
    [
        ("train.target.ids", 3),
        ("train.source.ends", 8),
        ("valid.source.ends", 3),
        ("valid.target.ends", 10**6),
    ],
)
def test_damaged_arrays_are_named(tmp_path: Path, file: str, cut: int) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    path = prepared.folder / file
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=r"\.(ids|ends): damaged.*; delete"):
        prepared.split(file.partition(".")[0])


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    (prepared.folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: damaged \(1 bytes, expected"):
        Prepared.open(prepared.folder)


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    pairs = [("a\u00a0b", "c")] * 3 + [(line, line) for line in sentences(300)]
    folder = prepare(corpus(tmp_path, pairs), TOKENIZER, progress=False).folder
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["languages"] == ["en", "de"]
    change = {"before": "\u00a0", "after": " "}
    assert manifest["splits"]["train"]["changes"] == [{**change, "count": 3}]
    assert set(manifest["splits"]) == {"train", "valid"}


# -- batches ---


def test_a_batch_is_padded_and_ends_in_eos(tmp_path: Path) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    dataset = prepared.split("train")
    batch = dataset.batch(np.array([4, 0, 9]))
    assert batch.src.dtype == batch.tgt.dtype == torch.int64
    assert batch.src.shape == (3, int(batch.src_lengths.max()))
    assert batch.indices.tolist() == [4, 0, 9]
    assert batch.tgt_tokens == int((batch.tgt != 0).sum()) == int(batch.tgt_lengths.sum())
    for ids, counts, side in (
        (batch.src, batch.src_lengths, dataset.src),
        (batch.tgt, batch.tgt_lengths, dataset.tgt),
    ):
        for row, length, index in zip(ids.tolist(), counts.tolist(), (4, 0, 9), strict=True):
            assert row == [*side(index).tolist(), 3, *[0] * (ids.shape[1] - length)]
    moved = batch.to(torch.device("meta"))
    assert moved.src.device.type == moved.tgt.device.type == "meta"
    assert moved.tgt_lengths.device.type == "cpu"


def test_without_shuffling_batches_are_sorted_by_length_and_keep_indices(tmp_path: Path) -> None:
    dataset = prepare(corpus(tmp_path), TOKENIZER, progress=False).split("train")
    sampler = BatchSampler(
        dataset.src_lengths, dataset.tgt_lengths, batch_sentences=16, shuffle=False
    )
    found = list(dataset.batches(sampler))
    assert [int(n) for batch in found for n in batch.tgt_lengths] == sorted(
        dataset.tgt_lengths.tolist()
    )
    restored = {
        int(i): row
        for batch in found
        for i, row in zip(batch.indices, batch.tgt.tolist(), strict=True)
    }
    for i in range(len(dataset)):
        assert restored[i][: dataset.tgt_lengths[i]] == [*dataset.tgt(i).tolist(), 3]


def test_a_split_of_empty_sentences_can_be_read(tmp_path: Path) -> None:
    prepared = prepare(corpus(tmp_path, valid=[("", ""), ("", "")]), TOKENIZER, progress=False)
    dataset = prepared.split("valid")
    assert isinstance(dataset, ParallelDataset)
    assert dataset.batch(np.array([0, 1])).src.tolist() == [[3], [3]]
