"""Preparation of large corpora: several processes, and bounded memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_corpora import TOKENIZER, corpus, sentences
from typed import present

from seq2seq.app.prepare import character_table
from seq2seq.config import NormalForm, NormalizationConfig, TokenizerConfig
from seq2seq.data import dataset, preparation
from seq2seq.data.normalization import Change
from seq2seq.data.preparation import (
    Encoder,
    SeenPairs,
    available_cores,
    encoded_chunks,
    prepare,
    sample,
)

ROOT = Path(__file__).resolve().parents[2]


# -- size ---


def test_worker_processes_give_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(corpus(tmp_path), TOKENIZER, progress=False)
    pairs = [(line, line.upper()) for line in sentences(500, seed=4)] + [("", "x")]
    encoder = Encoder(prepared.tokenizers, max_length=100, max_ratio=9.0, drops=True)
    here = list(encoded_chunks(pairs, encoder))
    monkeypatch.setattr(preparation, "FEW_PAIRS", 100)
    monkeypatch.setattr(preparation, "CHUNK_PAIRS", 50)
    chunks = list(encoded_chunks(pairs, encoder))
    assert len(chunks) == 11
    assert [i for chunk in chunks for i in chunk.ids[1]] == [
        i for chunk in here for i in chunk.ids[1]
    ]
    assert [key for chunk in chunks for key in chunk.keys] == here[0].keys
    assert sum(chunk.counts.empty for chunk in chunks) == here[0].counts.empty == 1
    assert 1 <= available_cores() <= present(os.cpu_count())


def test_rare_changes_are_counted_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MOST_CHANGES", 5)
    monkeypatch.setattr(preparation, "CHUNK_PAIRS", 20)
    odd = [(f"{line} \u00bd", line + chr(0x3300 + i)) for i, line in enumerate(sentences(99))]
    config = corpus(tmp_path, odd, odd[:1])
    tokenizer = TokenizerConfig(
        vocab_size=120, normalization=NormalizationConfig(target=NormalForm.nfkc)
    )
    train = prepare(config, tokenizer, progress=False).manifest.splits["train"]
    assert train.changes[Change("\u00bd", "1\u20442")] == 99
    assert len(train.changes) == 5
    assert train.changes.total() == 99 + 4
    assert train.other_changes == 99 - 4
    assert character_table({"train": train}).caption == "others, too rare for it, 95 times"


def test_repeated_pairs_are_found_across_chunks(tmp_path: Path) -> None:
    seen = SeenPairs(tmp_path)
    assert seen.new([b"a" * 16, b"b" * 16, b"a" * 16]) == [True, True, False]
    assert seen.new([b"b" * 16, b"c" * 16]) == [False, True]
    seen.forget([b"b" * 16])
    assert seen.count([b"a" * 16, b"b" * 16, b"a" * 16, b"d" * 16]) == 2
    seen.close()


def numbered(count: int) -> Iterator[tuple[str, str]]:
    """Yield so many pairs, each with its number."""
    return ((str(i), "") for i in range(count))


def test_a_sample_is_even_bounded_and_always_the_same() -> None:
    assert sample(numbered(5), 10) == list(numbered(5))
    found = sample(numbered(100_000), 1000)
    assert len(set(found)) == 1000
    assert found == sample(numbered(100_000), 1000)
    assert np.histogram([int(number) for number, _ in found], bins=4, range=(0, 100_000))[
        0
    ] == pytest.approx([250] * 4, abs=60)


MEASURE = """
import resource, sys
from seq2seq.app.prepare import character_table
from seq2seq.config import NormalForm, NormalizationConfig, TokenizerConfig
from seq2seq.data import dataset, preparation
from seq2seq.data.normalization import Change
from seq2seq.config import DataConfig, SplitConfig, TokenizerConfig
preparation.FEW_PAIRS, preparation.TOKENIZER_PAIRS = 1 << 40, 5000  # one process: its peak memory is the whole
config = DataConfig(name="m", root=sys.argv[2], train=SplitConfig(sys.argv[1]))
preparation.prepare(config, TokenizerConfig(vocab_size=300), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Peak memory is about the same for 40,000 and for 400,000 pairs, which are 40 MiB of text."""
    peaks = []
    for count in (40_000, 400_000):
        path = tmp_path / f"{count}.tsv"
        with open(path, "w") as file:
            for n, line in enumerate(sentences(count, most=14)):
                file.write(f"{line} {n}\t{line} {n * 7}\n")
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), str(tmp_path / str(count))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 50, (
        peaks
    )  # in MiB; the cache of the table of hashes grows up to 64


@pytest.mark.parametrize("drops", [True, False])
def test_nothing_is_counted_after_the_last_pair_of_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drops: bool
) -> None:
    """The counts are those of a file that ends with that pair, however far others read ahead."""
    monkeypatch.setattr(preparation, "CHUNK_PAIRS", 7)
    lines, kept = list[str](), list[str]()
    for i, line in enumerate(sentences(90)):
        good = f"{line}\u00a0{i}\t{line.upper()}\n"
        lines += [good] * (1 + i % 2) + ["\n", "\u00a0\tx\n"] * (i % 3)
    count = 0
    while len(kept) < 20:
        line, count = lines[count], count + 1
        if line[0].isalpha() and not (drops and line in kept):
            kept.append(line)
    found = []
    for name, written in (("whole", lines), ("part", lines[:count])):
        config = corpus(tmp_path, train=[], valid=[("a", "b")], train_pairs=20)
        config.train.source = str(tmp_path / name)
        (tmp_path / name).write_text("".join(written), encoding="utf-8")
        config.cleaning.drop_duplicates = drops
        found.append(prepare(config, TOKENIZER, progress=False).manifest.splits["train"])
    assert found[0] == found[1]
    assert found[0].pairs == found[0].kept + sum(found[0].dropped.values())
    assert found[0].kept == 20
    assert min(found[0].blank, found[0].empty) > 5
