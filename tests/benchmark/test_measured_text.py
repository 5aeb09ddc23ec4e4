"""What the contestants of training and search work on: batches, lengths, types and beams."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WORDS, TrainHere, write_pairs

from seq2seq.benchmark import decoding, floor, training
from seq2seq.benchmark.contestants import Contestant, contestants
from seq2seq.benchmark.plain import PlainTranslator, vocabulary_of
from seq2seq.benchmark.timing import Speed
from seq2seq.benchmark.workload import Workload, workload
from seq2seq.config import Config, Precision

pytest_plugins = ["run_fixtures"]


class NotedFloor:
    """A floor that only notes its type."""

    made: list[Precision]

    def __init__(self, precision: Precision = Precision.fp32) -> None:
        self.made.append(precision)

    def task(self, products: Any) -> Any:
        return lambda: list(products)


@pytest.fixture
def floors(monkeypatch: pytest.MonkeyPatch) -> list[Precision]:
    """Return the types of the floors that are made from now on."""
    NotedFloor.made = []
    for module in (training, decoding):
        monkeypatch.setattr(module, "Floor", NotedFloor)
    return NotedFloor.made


def noted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[tuple[Any, ...]]:
    """Return the arguments with which a function is called from now on; it then returns []."""
    found: list[tuple[Any, ...]] = []

    def note(*arguments: Any) -> list[Any]:
        found.append(arguments)
        return []

    monkeypatch.setattr(module, name, note)
    return found


def small(config: Config) -> Workload:
    return workload(config, 3, 10)


def test_the_floor_of_training_has_the_lengths_of_each_batch(
    train_here: TrainHere, monkeypatch: pytest.MonkeyPatch, floors: list[Precision]
) -> None:
    config = train_here.config("norm=none", "trainer.precision=bf16", "tokenizer.joint=false")
    work, asked = small(config), noted(monkeypatch, training, "training_products")
    monkeypatch.setattr(work.train, "src_lengths", 2 * work.train.src_lengths)
    training.training_floor(work, config)
    assert floors == [Precision.bf16]
    assert len(asked) == 3
    for batch, (model, vocabulary, src, tgt) in zip(work.batches, asked, strict=True):
        assert (model, vocabulary) == (config.model, work.prepared.tokenizers.target.vocab_size)
        assert src.tolist() == work.train.src_lengths[batch].tolist()
        assert tgt.tolist() == work.train.tgt_lengths[batch].tolist()


@pytest.mark.parametrize("beam", [1, 3])
def test_the_floor_of_search_has_a_row_for_each_hypothesis(
    beam: int, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch, floors: list[Precision]
) -> None:
    """Lengths count eos. Before the first word a sentence has one hypothesis, whatever the beam."""
    config = train_here.config("norm=none", "trainer.precision=bf16")
    work, asked = small(config), noted(monkeypatch, decoding, "search_products")
    decode = replace(config.decode, beam_size=beam, batch_size=4)
    torch.manual_seed(1)
    plain = PlainTranslator(config, vocabulary_of(work.prepared.tokenizers)).eval()
    active = [np.array([3, 1, 2, 3]), np.array([1, 1, 1, 1]), np.array([2, 4])]
    steps = [torch.from_numpy(numbers) for numbers in active]
    monkeypatch.setattr(decoding, "plain_search", lambda *_: ([], steps))
    decoding.search_floor(work, plain, config, decode)
    assert floors == [Precision.bf16]
    lengths = sorted((len(sentence) + 1 for sentence in work.sentences), reverse=True)
    assert [src.tolist() for *_, src, _ in asked] == [lengths[:4], lengths[4:8], lengths[8:]]
    assert [rows for *_, rows in asked] == [
        [4, 3 * beam, 2 * beam],
        [4],
        [2, 2 * beam, beam, beam],
    ]


def test_each_search_is_timed_on_all_sentences_of_its_table(
    train_here: TrainHere, monkeypatch: pytest.MonkeyPatch, floors: list[Precision]
) -> None:
    """Its short task, which is not timed, is the first batch: that of the longest sentences."""
    config = train_here.config("norm=none", "decode.shortlist=20", "decode.batch_size=4")
    work = small(config)
    found = contestants(config, {"none": config}, False, precisions=(Precision.bf16,))
    trained = noted(monkeypatch, decoding, "trained_run")
    monkeypatch.setattr(decoding, "plain_translator", lambda *_: None)
    monkeypatch.setattr(decoding, "search_floor", lambda *_: lambda: None)
    searched: list[tuple[str, int, list[list[int]]]] = []

    def new_search(contestant: Contestant, run: Any, words: Any = None) -> Any:
        name = f"{contestant.norm}{' of a shortlist' * (words is not None)}"

        def search(sentences: Any, decode: Any) -> Any:
            searched.append((name, decode.beam_size, list(sentences)))
            return sentences

        return None, search

    def speeds(tasks: Any, units: int, rounds: int) -> list[Speed]:
        assert (units, rounds) == (len(work.sentences), 7)
        for first, task in tasks.values():
            first(), task()
        return []

    monkeypatch.setattr(decoding, "new_search", new_search)
    monkeypatch.setattr(decoding, "interleaved_speeds", speeds)
    decoding.decoding_speeds(work, found, updates=6, rounds=7)
    precisions = [contestant.config.trainer.precision for contestant, *_ in trained]
    assert precisions == [Precision.fp32] * 2
    assert [updates for *_, updates in trained] == [6, 6]
    longest = sorted(work.sentences, key=len, reverse=True)[:4]
    assert searched == [
        (name, beam, sentences)
        for beam in (1, 5)
        for name in ("None", "none", "none of a shortlist")
        for sentences in (longest, work.sentences)
    ]


# -- the fastest way to a product ---


def test_the_shortest_trial_counts_and_the_first_run_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, seconds = [0.0], iter([1.0, 30.0, 20.0])

    def task() -> None:
        now[0] += next(seconds)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert floor.shortest_time(task) == 20


@pytest.mark.parametrize("precision", Precision)
def test_ways_are_chosen_by_type_and_by_whether_a_weight_is_kept(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def ways(*arguments: Any) -> list[Any]:
        asked.append(arguments)
        return [lambda: None]

    monkeypatch.setattr(floor, "ways", ways)
    products = floor.Floor(precision)
    products.task([(5, 6, 7, False), (5, 6, 7, True), (5, 6, 7, True)])
    dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float32
    assert asked == [(5, 6, 7, kept, dtype) for kept in (False, True, True)]
    assert len(products.fastest) == 2


def test_similar_lengths_are_those_of_targets_then_of_sources(
    train_here: TrainHere, tmp_path: Path
) -> None:
    """Sources to translate are those of valid, in its order, without empty ones."""
    lengths = [(source, target) for source in range(1, 6) for target in range(1, 6)]
    pairs = [(" ".join(WORDS[:a]), " ".join(WORDS[-b:])) for a, b in lengths]
    valid = [*pairs[:2], ("", "do"), *pairs[2:]]
    files = write_pairs(tmp_path, "train", pairs) + write_pairs(tmp_path, "valid", valid)
    one = [
        "data.batch_tokens=null",
        "data.batch_sentences=1",
        "data.cleaning.drop_duplicates=false",
    ]
    config = train_here.config("norm=none", *files, *one, f"data.root={tmp_path / 'prepared'}")
    work = workload(config, 25, 7)
    train = work.train
    found = [(train.tgt_lengths[i], train.src_lengths[i]) for [i] in work.by_length]
    assert found == sorted(found)
    assert len(set(found)) == 25
    source = work.prepared.tokenizers.source
    for count, last in ((7, 6), (99, 25)):
        expected = [source.encode(line) for line, _ in pairs[:last]]
        assert workload(config, 1, count).sentences == expected
