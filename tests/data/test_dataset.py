"""The files of a prepared corpus."""

import ast
import json
import tempfile
from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpora import corpus

from seq2seq import data
from seq2seq.config import TokenizerConfig
from seq2seq.data import dataset, normalization
from seq2seq.data.dataset import Counts, Manifest, ParallelDataset, ids_dtype
from seq2seq.data.normalization import Change
from seq2seq.data.preparation import Encoded, SplitWriter, prepare
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.errors import DataError
from seq2seq.stored import write_checksums

MANIFEST = """\
{
  "name": "mine",
  "fingerprint": "0123456789abcdef",
  "languages": [
    "en",
    "de"
  ],
  "splits": {
    "train": {
      "pairs": 9,
      "kept": 3,
      "empty": 1,
      "too_long": 2,
      "ratio": 0,
      "duplicates": 3,
      "blank": 5,
      "changes": [
        {
          "before": "\u00a0",
          "after": " ",
          "count": 4
        }
      ],
      "in_train": 0
    },
    "valid": {
      "pairs": 2,
      "kept": 2,
      "empty": 0,
      "too_long": 0,
      "ratio": 0,
      "duplicates": 0,
      "blank": 0,
      "changes": [],
      "in_train": 1
    }
  }
}
"""


def test_a_manifest_is_read_and_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(MANIFEST, encoding="utf-8")
    manifest = Manifest.read(path)
    train = Counts(9, 3, 1, 2, 0, 3, 5, Counter({Change("\u00a0", " "): 4}))
    assert manifest.splits == {"train": train, "valid": Counts(pairs=2, kept=2, in_train=1)}
    assert train.dropped == {"empty": 1, "too_long": 2, "ratio": 0, "duplicates": 3}
    manifest.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == MANIFEST


@pytest.mark.parametrize(
    "change",
    [
        {"splits": None},
        {"splits": {"train": {}}},
        {"splits": {"train": {"changes": [], "more": 1}}},
    ],
)
def test_a_manifest_of_another_form_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(MANIFEST) | change), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"manifest\.json: damaged \(.*; delete .* to prepare the corpus again"
    ):
        Manifest.read(path)


def test_counts_of_two_parts_add_up() -> None:
    a, b = Change("\u00a0", " "), Change("\u200b", "")
    one, other = Counts(5, 3, 1, changes=Counter([a, a, b])), Counts(4, 4, 0, 1, blank=2)
    other.changes[b] = 3
    assert one + other == Counts(9, 7, 1, 1, blank=2, changes=Counter({a: 2, b: 4}))


def test_only_the_most_frequent_changes_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MOST_CHANGES", 2)
    a, b, c, d = (Change(char, "") for char in "abcd")
    counts = Counts(changes=Counter({a: 1, b: 5, c: 2, d: 4}))
    counts.forget_rare_changes()
    assert counts == Counts(changes=Counter({b: 5, d: 4}), other_changes=3)
    assert (counts + counts).other_changes == 6
    assert Counts.from_json(counts.as_json()) == counts
    counts.forget_rare_changes()
    assert counts.other_changes == 3
    counts.changes[a] = 1
    counts.forget_rare_changes()
    assert counts == Counts(changes=Counter({b: 5, d: 4}), other_changes=4)


@pytest.mark.parametrize("beyond", [0, 1])
def test_ids_beyond_the_vocabulary_are_named(tmp_path: Path, beyond: int) -> None:
    """A checksum that somebody has written anew does not make them right."""
    made = prepare(corpus(tmp_path), TokenizerConfig(vocab_size=90), progress=False)
    path = made.folder / "train.target.ids"
    ids = np.fromfile(path, ids_dtype(made.tokenizers.target.vocab_size))
    ids[7] = made.tokenizers.target.vocab_size - 1 + beyond
    ids.tofile(path)
    (made.folder / "checksums.json").unlink()
    write_checksums(made.folder)
    if beyond:
        with pytest.raises(DataError, match=r"train\.target\.ids: damaged \(ids beyond the voc"):
            made.split("train")
    else:
        assert ids[7] in made.split("train").ids[1]


def test_the_largest_manifest_can_be_read(tmp_path: Path) -> None:
    most, longest = dataset.MOST_CHANGES, normalization.LONGEST_CHANGE
    wide = [chr(0x1F000 + i % 1000) * (longest - 2) + chr(0x10000 + i) for i in range(most)]
    changes = Counter({Change(text, text): 10**12 for text in wide})
    counts = Counts(changes=changes, other_changes=10**12)
    manifest = Manifest("a", "b", ["en", "de"], {"train": counts, "valid": counts})
    manifest.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == manifest


SENTENCES = st.lists(st.lists(st.integers(0, 299), max_size=5), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(SENTENCES, max_size=4), st.data())
def test_chunks_are_read_as_they_were_written(
    chunks: list[list[list[int]]], draw: st.DataObject
) -> None:
    """The arrays return the kept sentences of all chunks, in order."""
    vocabularies = (256, 300)
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        with closing(SplitWriter(Path(folder), "train")) as writer:
            for sentences in chunks:
                keep = [draw.draw(st.booleans()) for _ in sentences]
                pairs = [([i % 256 for i in ids], ids[::-1]) for ids in sentences]
                kept += [pair for pair, wanted in zip(pairs, keep, strict=True) if wanted]
                sides = [[pair[side] for pair in pairs] for side in (0, 1)]
                ids = [
                    np.fromiter(chain.from_iterable(side), ids_dtype(size))
                    for side, size in zip(sides, vocabularies, strict=True)
                ]
                lengths = [np.array([len(s) for s in side], np.int64) for side in sides]
                writer.write(
                    Encoded(ids, lengths, [], np.arange(len(keep)), Counts()), np.array(keep, bool)
                )
        if not kept:
            return
        source, target = (SimpleNamespace(vocab_size=size) for size in vocabularies)
        dataset = ParallelDataset(
            Path(folder), "train", cast(Tokenizers, SimpleNamespace(source=source, target=target))
        )
        found = [(dataset.src(i).tolist(), dataset.tgt(i).tolist()) for i in range(len(dataset))]
        assert found == kept
        assert dataset.src_lengths.tolist() == [len(src) + 1 for src, _ in kept]


def test_no_module_loads_torch_before_the_first_batch() -> None:
    """Worker processes that encode start without torch, and so do commands that only read text."""
    for path in Path(data.__path__[0]).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(name.split(".")[0] == "torch" for name in names), path
