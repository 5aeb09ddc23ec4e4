import json
import resource
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typed import present

from seq2seq.data.batches import Batch, BatchSampler, pad
from seq2seq.errors import DataError

Lengths = NDArray[np.int64]


def lengths(count: int = 3000, seed: int = 1) -> tuple[Lengths, Lengths]:
    random_lengths = np.random.default_rng(seed)
    tgt = random_lengths.integers(2, 40, count)
    return np.maximum(2, tgt + random_lengths.integers(-3, 4, count)), tgt


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", [{"batch_tokens": 300}, {"batch_sentences": 32}])
def test_every_sentence_occurs_once_in_each_epoch(size: dict[str, Any], shuffle: bool) -> None:
    src, tgt = lengths()
    sampler = BatchSampler(src, tgt, **size, seed=1, shuffle=shuffle)
    for _ in range(2):
        count = len(sampler)
        found = list(sampler)
        assert len(found) == count
        assert sorted(np.concatenate(found).tolist()) == list(range(len(src)))
        if "batch_tokens" in size:
            assert all(tgt[batch].sum() <= 300 for batch in found)
            assert np.mean([tgt[batch].sum() for batch in found]) > 270
        else:
            assert Counter(map(len, found))[32] >= len(found) - len(src) // (32 * 50) - 1


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = BatchSampler(*lengths(), batch_tokens=300, seed=seed)
        sampler.load_state_dict({"epoch": epoch, "position": 0})
        return [batch.tolist() for batch in sampler]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)
    following = BatchSampler(*lengths(), batch_tokens=300, seed=1)
    list(following)
    assert [batch.tolist() for batch in following] == order(1, 1)


def test_the_order_is_the_same_on_every_machine() -> None:
    src = np.arange(12) % 5 + 2
    sampler = BatchSampler(src, src[::-1].copy(), batch_tokens=12, seed=3, bucket_batches=50)
    assert [batch.tolist() for batch in sampler] == [[7, 2], [11, 1, 6, 10, 0], [3, 8], [5, 4, 9]]
    sampler = BatchSampler(src, src[::-1].copy(), batch_tokens=12, seed=3)
    assert [batch.tolist() for batch in sampler] == [[11, 7], [8], [5, 3], [1, 4, 6, 9], [2, 10, 0]]


def test_a_sampler_continues_within_an_epoch() -> None:
    sampler = BatchSampler(*lengths(), batch_tokens=300, seed=1)
    whole = [batch.tolist() for batch in sampler]
    sampler.load_state_dict({"epoch": 0, "position": 0})
    iterator = iter(sampler)
    first = [next(iterator).tolist() for _ in range(7)]
    state = sampler.state_dict()
    assert state == {"epoch": 0, "position": 7}
    other = BatchSampler(*lengths(), batch_tokens=300, seed=1)
    other.load_state_dict(json.loads(json.dumps(state)))
    assert first + [batch.tolist() for batch in other] == whole
    assert other.state_dict() == {"epoch": 1, "position": 0}


def test_in_buckets_a_batch_holds_sentences_of_similar_length() -> None:
    src, tgt = lengths(20_000)
    sampler = BatchSampler(src, tgt, batch_sentences=64, seed=1, bucket_batches=50)
    padded = sum(tgt[batch].max() * len(batch) for batch in sampler)
    assert tgt.sum() / padded > 0.95
    assert tgt.mean() / tgt.max() < 0.6  # without buckets


def test_without_buckets_a_batch_holds_sentences_of_any_length() -> None:
    src, tgt = lengths(20_000)
    sizes: list[dict[str, Any]] = [{"batch_sentences": 64}, {"batch_tokens": 900}]
    for size in sizes:
        sampler = BatchSampler(src, tgt, **size, seed=1)
        found = list(sampler)
        assert sorted(i for batch in found for i in batch.tolist()) == list(range(len(tgt)))
        assert all(tgt[batch].sum() <= 900 for batch in found if "batch_tokens" in size)
        spread = np.mean([tgt[batch].std() for batch in found]) / tgt.std()
        assert spread > 0.9
        bucketed = BatchSampler(src, tgt, **size, seed=1, bucket_batches=50)
        sorted_spread = np.mean([tgt[batch].std() for batch in bucketed]) / tgt.std()
        assert sorted_spread < 0.1


def test_a_place_after_the_last_batch_is_no_place_in_an_epoch() -> None:
    src, tgt = lengths(7)
    sampler = BatchSampler(src, tgt, batch_sentences=3)
    sampler.load_state_dict({"epoch": 4, "position": 2})
    assert len(list(sampler)) == 1
    with pytest.raises(ValueError, match="batch 3 of an epoch of 3"):
        sampler.load_state_dict({"epoch": 4, "position": 3})


def test_the_last_batch_is_as_large_as_what_is_left() -> None:
    src, tgt = lengths(7)
    sampler = BatchSampler(src, tgt, batch_sentences=3)
    assert sorted(sampler.sizes().tolist()) == sorted(map(len, sampler)) == [1, 3, 3]


def test_so_many_batches_are_sorted_together() -> None:
    """A pool has as many sentences as fill its batches with the mean number of tokens."""
    tgt = np.array([2, 8] * 500)
    sampler = BatchSampler(tgt, tgt, batch_tokens=50, bucket_batches=2)  # 2 * 50 / 5 sentences
    falls = np.diff(tgt[sampler._current().order]) < 0
    assert falls.sum() == pytest.approx(1000 / 20 - 1, abs=2)
    assert (np.flatnonzero(falls) % 20 == 19).all()


def test_a_sentence_over_the_budget_has_a_batch_of_its_own() -> None:
    tgt = np.array([5, 50, 4, 6, 50])
    for shuffle in (True, False):
        found = sorted(
            sorted(batch.tolist())
            for batch in BatchSampler(tgt, tgt, batch_tokens=15, shuffle=shuffle, bucket_batches=50)
        )
        assert found == [[0, 2, 3], [1], [4]]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({}, "data.batch_tokens and data.batch_sentences are both null"),
        ({"batch_tokens": 0}, "data.batch_tokens=0"),
        ({"batch_sentences": -1}, "data.batch_sentences=-1"),
    ],
)
def test_invalid_sizes_are_refused(size: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSampler(*lengths(), **size)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(DataError, match="no sentence pairs"):
        BatchSampler(np.zeros(0, np.int64), np.zeros(0, np.int64), batch_tokens=10)


def test_a_million_pairs_are_batched_in_seconds() -> None:
    src, tgt = lengths(1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert len(BatchSampler(src, tgt, batch_tokens=2048, seed=1)) > 9000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 10


# -- for any lengths and sizes ---

SETTINGS = settings(max_examples=50, deadline=None)
LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)
SAMPLERS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 5),
        "shuffle": st.booleans(),
        "bucket_batches": st.integers(1, 4),
        "batch_tokens": st.one_of(st.none(), st.integers(1, 50)),
        "batch_sentences": st.integers(1, 9),
    }
)


def sampler_of(pairs: list[tuple[int, int]], options: dict[str, Any]) -> BatchSampler:
    src, tgt = (np.array(side) for side in zip(*pairs, strict=True))
    if options["batch_tokens"] is not None:
        options = {**options, "batch_sentences": None}
    return BatchSampler(src, tgt, **options)


@SETTINGS
@given(LENGTHS, SAMPLERS)
def test_no_sentence_is_lost_and_no_batch_is_too_large(
    pairs: list[tuple[int, int]], options: dict[str, Any]
) -> None:
    sampler = sampler_of(pairs, options)
    batches = list(sampler)
    assert len(batches) > 0
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(pairs)))
    for batch in batches:
        if sampler.batch_tokens is None:
            assert len(batch) <= present(sampler.batch_sentences)
        else:
            assert len(batch) == 1 or sampler.tgt_lengths[batch].sum() <= sampler.batch_tokens


@SETTINGS
@given(LENGTHS, SAMPLERS, st.data())
def test_a_sampler_continues_at_any_batch_of_any_epoch(
    pairs: list[tuple[int, int]], options: dict[str, Any], data: st.DataObject
) -> None:
    sampler = sampler_of(pairs, options)
    whole = [batch.tolist() for _ in range(2) for batch in sampler]
    done = data.draw(st.integers(0, len(whole) - 1))
    first, other = sampler_of(pairs, options), sampler_of(pairs, options)
    given_out: list[list[int]] = []
    while len(given_out) < done:
        for batch in first:
            given_out.append(batch.tolist())
            if len(given_out) == done:
                break
    other.load_state_dict(first.state_dict())
    while len(given_out) < len(whole):
        given_out += [batch.tolist() for batch in other]
    assert given_out == whole


@SETTINGS
@given(LENGTHS, st.integers(1, 5))
def test_the_shares_of_all_processes_are_the_batch(pairs: list[tuple[int, int]], size: int) -> None:
    def side(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        return pad([np.arange(4, 4 + length) for length in lengths])

    src_lengths, tgt_lengths = zip(*pairs, strict=True)
    batch = Batch(*side(src_lengths), *side(tgt_lengths), torch.arange(len(pairs)))
    shares = [share for rank in range(size) if (share := batch.share(rank, size)) is not None]
    assert len(shares) == (size if size <= len(pairs) else 1)
    assert sum(share.tgt_tokens for share in shares) == batch.tgt_tokens
    found = {}
    for share in shares:
        assert share.src.shape[1] == share.src_lengths.max()
        assert share.tgt.shape[1] == share.tgt_lengths.max()
        for row, index in enumerate(share.indices.tolist()):
            found[index] = (share.src[row].tolist(), share.tgt[row].tolist())
    assert sorted(found) == list(range(len(pairs)))
    for index, rows in found.items():
        for ids, whole in zip(rows, (batch.src[index], batch.tgt[index]), strict=True):
            assert ids == whole[: len(ids)].tolist()
            assert not whole[len(ids) :].any()


def test_the_next_batch_can_be_seen_before_it_is_taken() -> None:
    lengths = np.arange(1, 40)
    sampler = BatchSampler(lengths, lengths, batch_sentences=8, seed=3)
    for _ in range(2 * len(sampler)):
        seen = sampler.peek()
        assert np.array_equal(seen, next(iter(sampler)))
