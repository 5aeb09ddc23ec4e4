"""Lexical shortlists: IBM Model 1 against a plain oracle, what sentences may become, files."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from runs import corpus, settings

from seq2seq.config import DecodeConfig
from seq2seq.config.decode import MOST_CANDIDATES
from seq2seq.data import shortlist as module
from seq2seq.data.dataset import ParallelDataset, Prepared
from seq2seq.data.preparation import prepare
from seq2seq.data.shortlist import (
    NONE,
    Links,
    Shortlist,
    best_of_rows,
    ibm_model_1,
    learn,
    shortlist_for,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    config = settings(corpus(tmp_path_factory.mktemp("corpus")))
    return prepare(config.data, config.tokenizer, progress=False)


def oracle(
    pairs: list[tuple[list[int], list[int]]], iterations: int
) -> dict[tuple[int, int], float]:
    """Return p(t | s) of IBM Model 1, by its definition; s = -1 is no piece."""
    probability = {(s, t): 1.0 for source, target in pairs for s in (-1, *source) for t in target}
    for _ in range(iterations):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        totals: dict[int, float] = defaultdict(float)
        for source, target in pairs:
            for t in target:
                among = sum(probability[s, t] for s in (-1, *source))
                for s in (-1, *source):
                    counts[s, t] += probability[s, t] / among
                    totals[s] += probability[s, t] / among
        probability = {(s, t): count / totals[s] for (s, t), count in counts.items()}
    return probability


def coverage(shortlist: Shortlist, pairs: ParallelDataset, count: int) -> float:
    """Return the share of the target pieces of some pairs that the shortlist allows."""
    sentences = [pairs.src(i).tolist() for i in range(len(pairs))]
    words = shortlist.words(sentences, count)
    targets = [pairs.tgt(i) for i in range(len(pairs))]
    allowed = sum(int(np.isin(t, w).sum()) for t, w in zip(targets, words, strict=True))
    return allowed / max(1, sum(map(len, targets)))


def test_model_1_is_that_of_its_definition(prepared: Prepared) -> None:
    train = prepared.split("train")
    sizes = prepared.tokenizers.source.vocab_size, prepared.tokenizers.target.vocab_size
    cells, probability = ibm_model_1(Links.of(train, sizes), sizes)
    found = {
        (int(s), int(t)): p
        for s, t, p in zip(*np.divmod(cells, sizes[1]), probability, strict=True)
    }
    pairs = [(train.src(i).tolist(), train.tgt(i).tolist()) for i in range(len(train))]
    expected = {pair: p for pair, p in oracle(pairs, module.ITERATIONS).items() if pair[0] >= 0}
    assert found == pytest.approx(expected)


def test_a_large_corpus_is_learnt_from_a_sample(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = prepared.split("train")
    sizes = prepared.tokenizers.source.vocab_size, prepared.tokenizers.target.vocab_size
    everything = len(Links.of(train, sizes).cells)
    monkeypatch.setattr(module, "MOST_LINKS", everything // 3)
    assert everything // 4 < len(Links.of(train, sizes).cells) <= everything // 3
    monkeypatch.setattr(module, "MOST_LINKS", 0)
    assert len(Links.of(train, sizes).cells) > 0  # one sentence, whatever the limit is


def test_words_become_their_translations(prepared: Prepared) -> None:
    shortlist = learn(prepared.split("train"), prepared.tokenizers)
    assert coverage(shortlist, prepared.split("valid"), 20) > 0.95
    assert coverage(shortlist, prepared.split("valid"), 20) >= coverage(
        shortlist, prepared.split("valid"), 1
    )


def test_every_sentence_may_become_the_most_frequent_pieces(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FREQUENT", 2)
    train, target = prepared.split("train"), prepared.tokenizers.target
    counts = Counter(piece for i in range(len(train)) for piece in train.tgt(i).tolist())
    special, frequent = np.split(learn(train, prepared.tokenizers).always, [2])
    assert set(special) == {target.eos_id, target.unk_id}
    most = sorted(counts.values(), reverse=True)
    assert [counts[piece] for piece in frequent] == most[:2]
    assert most[1] > most[-1]


def test_what_a_sentence_may_become() -> None:
    candidates = np.array([[NONE, NONE], [7, 5], [5, NONE], [9, 4]], np.int32)
    shortlist = Shortlist(candidates, np.array([3, 1], np.int32), copies=False)
    words = shortlist.words([[1], [1, 2, 3], []], 2)
    assert words.dtype == np.int32
    assert words.tolist() == [[1, 3, 5, 7, -1, -1], [1, 3, 4, 5, 7, 9], [1, 3, -1, -1, -1, -1]]
    assert shortlist.words([[1, 3]], 1).tolist() == [[1, 3, 7, 9]]
    copying = Shortlist(candidates, np.array([3], np.int32), copies=True)
    assert copying.words([[2]], 2).tolist() == [[2, 3, 5]]
    assert shortlist.words([], 2).shape == (0, 0)


def test_the_best_of_each_row_come_first() -> None:
    rows, columns = np.array([1, 0, 1, 1, 3]), np.array([4, 2, 6, 5, 0])
    values = np.array([0.2, 1.0, 0.5, 0.2, 0.1])
    table = best_of_rows(rows, columns, values, 4)
    assert table.shape == (4, MOST_CANDIDATES)
    assert [row[row != NONE].tolist() for row in table] == [[2], [6, 4, 5], [], [0]]


def test_no_more_candidates_are_kept_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CANDIDATES", 2)
    table = best_of_rows(np.zeros(3, int), np.arange(3), np.array([0.1, 0.3, 0.2]), 1)
    assert table.tolist() == [[1, 2]]


def test_a_shortlist_is_kept_with_the_corpus(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert shortlist_for(DecodeConfig(), prepared) is None
    first = shortlist_for(DecodeConfig(shortlist=5), prepared)
    assert "learning a shortlist from the training pairs, once" in caplog.text
    monkeypatch.setattr(module, "learn", None)  # it would fail
    again = shortlist_for(DecodeConfig(shortlist=7), prepared)
    assert first is not None
    assert again is not None
    for mine, other in itertools.pairwise((first, again)):
        assert np.array_equal(mine.candidates, other.candidates)
        assert np.array_equal(mine.always, other.always)
        assert mine.copies is other.copies is False


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shortlist.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"shortlist\.npz: not a shortlist \(.*\); delete it"):
        Shortlist.load(path)


def test_a_file_with_changed_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shortlist.npz"
    Shortlist(np.arange(2000, dtype=np.int32)[:, None], np.arange(2, dtype=np.int32), True).save(
        path
    )
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(255 - byte for byte in content[60:80])
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a shortlist"):
        Shortlist.load(path)


def test_a_lone_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shortlist.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="not a shortlist"):
        Shortlist.load(path)


def test_a_file_of_other_arrays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shortlist.npz"
    with path.open("wb") as file:
        np.savez(file, candidates=np.zeros((2, 2), np.int32))
    with pytest.raises(ValueError, match="not a shortlist"):
        Shortlist.load(path)
