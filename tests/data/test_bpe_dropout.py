"""BPE-dropout: how training sentences are split in each epoch."""

import io
import random
import threading
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceTrainer
from small_corpora import corpus, sentences

from seq2seq.config import Sides, TokenizerConfig, TokenizerKind
from seq2seq.data.batches import Batch, BatchSampler
from seq2seq.data.bpe_dropout import DropoutDataset, Merges
from seq2seq.data.dataset import Prepared
from seq2seq.data.preparation import prepare
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import DataError

TOKENIZER = TokenizerConfig(vocab_size=90, bpe_dropout=0.3, user_defined_symbols="<num>")
PAIRS = [(f"{line} <num> a", f"{line.upper()} <num>") for line in sentences(60)]
EPOCHS = 40


def prepared(
    folder: Path, tokenizer: TokenizerConfig = TOKENIZER, pairs: list[tuple[str, str]] = PAIRS
) -> Prepared:
    return prepare(corpus(folder, pairs, PAIRS[:3]), tokenizer, progress=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("corpus"))


def dataset(
    made: Prepared,
    rate: float = 0.3,
    sides: Sides = Sides.both,
    seed: int = 1,
    max_length: int = 100,
) -> DropoutDataset:
    return DropoutDataset(made, rate, sides, seed, max_length)


def tokenizer(made: Prepared, side: str) -> Tokenizer:
    return made.tokenizers.source if side == "source" else made.tokenizers.target


def splits(data: DropoutDataset, index: int, side: str = "source") -> set[tuple[int, ...]]:
    """The ways in which a sentence is split in the first epochs."""
    return {tuple(data.drawn(side, index, epoch)) for epoch in range(EPOCHS)}


def test_each_epoch_splits_a_sentence_in_another_way_and_keeps_its_text(made: Prepared) -> None:
    data = dataset(made)
    for index in (0, 1, 59):
        for number, side in enumerate(("source", "target")):
            found = splits(data, index, side)
            assert len(found) > EPOCHS / 2
            texts = {tokenizer(made, side).decode(ids) for ids in found}
            assert texts == {PAIRS[index][number]}


def test_the_rate_is_that_of_merges_left_out(made: Prepared) -> None:
    pieces = [
        np.mean([len(dataset(made, rate).drawn("source", i, 0)) for i in range(60)])
        for rate in (1e-9, 0.1, 0.5, 0.999)
    ]
    characters = np.mean([len(src.replace("<num>", "n").replace(" ", "▁")) + 1 for src, _ in PAIRS])
    assert pieces[0] == np.mean(made.split("train").src_lengths - 1)
    assert pieces == sorted(pieces)
    # Near 1 every character is a piece, and so is the mark of each word's start.
    assert pieces[-1] == pytest.approx(characters, rel=0.02)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_splits_of_a_word_are_as_frequent_as_those_of_sentencepiece(
    made: Prepared, rate: float
) -> None:
    """SentencePiece's own BPE-dropout, whose random numbers are others in every process."""
    source, draws = made.tokenizers.source, 3000
    for word in ("house", "draws finds", "aaaa"):
        ids, chance = source.encode(word), random.Random(1)
        merges = Merges(source)
        ours = Counter(tuple(merges.drawn(ids, rate, chance)) for _ in range(draws))
        theirs = Counter(
            tuple(source.processor.encode(word, enable_sampling=True, alpha=rate, nbest_size=-1))
            for _ in range(draws)
        )
        for split in ours.keys() | theirs.keys():
            share = (ours[split] + theirs[split]) / (2 * draws)
            # Five and a half standard errors of a difference, and one draw for the rarest splits.
            error = 5.5 * np.sqrt(2 * share * (1 - share) / draws) + 1 / draws
            assert abs(ours[split] - theirs[split]) / draws < error, split


def test_every_word_follows_from_its_merges(made: Prepared) -> None:
    """Another word would never be split."""
    for side, number in (("source", 0), ("target", 1)):
        merges = Merges(tokenizer(made, side))
        assert merges.within_words
        for pair in PAIRS:
            for word in merges.words(tokenizer(made, side).encode(pair[number])):
                text = "".join(merges.texts[i] for i in word)
                # Placeholders have no text here, and are not split.
                pieces, looked_at = merges.split(word, ())
                assert pieces == [*word]
                assert looked_at == (0 if "\n" in text else len(text) - len(word))


def test_a_split_follows_from_seed_epoch_position_and_side_alone(made: Prepared) -> None:
    data = dataset(made)
    expected = [data.drawn(side, i, 3).tolist() for i in range(60) for side in ("source", "target")]
    found: list[list[int]] = []

    def draw() -> None:
        other = dataset(made)
        for side in ("target", "source"):
            other.drawn(side, 7, 0)  # random numbers of another sentence
        for i in range(60):
            found.extend(other.drawn(side, i, 3).tolist() for side in ("source", "target"))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert found == expected
    changed = [
        dataset(made, seed=2).drawn(side, i, 3).tolist()
        for i in range(60)
        for side in ("source", "target")
    ]
    assert changed != expected


@pytest.mark.parametrize("side", [Sides.source, Sides.target])
def test_dropout_on_one_side(made: Prepared, side: Sides) -> None:
    data, plain = dataset(made, sides=side), made.split("train")
    other = "target" if side is Sides.source else "source"
    sentence = plain.tgt(5) if side is Sides.source else plain.src(5)
    assert splits(data, 5, other) == {tuple(sentence)}
    assert len(splits(data, 5, side.value)) > 1


def test_each_side_is_split_by_its_own_tokenizer(tmp_path: Path) -> None:
    made = prepared(tmp_path, replace(TOKENIZER, joint=False))
    data, plain = dataset(made), made.split("train")
    batch = data.drawn_batch(np.array([5, 7]), epoch=1)
    for place, index in enumerate((5, 7)):
        for side, ids, sentence in (
            ("source", batch.src[place], plain.src(index)),
            ("target", batch.tgt[place], plain.tgt(index)),
        ):
            whole, drawn = sentence.tolist(), data.drawn(side, index, 1).tolist()
            assert ids.tolist()[: len(drawn)] == drawn
            assert tokenizer(made, side).decode(drawn) == tokenizer(made, side).decode(whole)
            assert len(splits(data, index, side)) > 1


def test_a_split_of_too_many_pieces_is_made_without_dropout(made: Prepared) -> None:
    plain = made.split("train").src(0)
    limit = len(plain) + 4
    found = splits(dataset(made, 0.9, max_length=limit), 0)
    assert max(map(len, found)) <= limit
    assert tuple(plain) in found
    assert max(map(len, splits(dataset(made, 0.9), 0))) > limit


def test_symbols_stay_whole_and_unknown_characters_unknown(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seq2seq.data.preparation.TOKENIZER_PAIRS", 50)
        pairs = [*PAIRS[:50], *[("dog ∅∅ <num> cat", "X ∃ <num>")] * 3]
        config = replace(TOKENIZER, character_coverage=0.99)
        made = prepared(tmp_path, config, pairs)
    index = len(made.split("train")) - 1
    source = tokenizer(made, "source")
    found = splits(dataset(made, 0.5), index)
    assert len(found) > 1
    for ids in found:
        assert [source.id_to_piece(i) for i in ids].count("<num>") == 1
        assert ids.count(source.unk_id) == made.split("train").src(index).tolist().count(1) == 1


def test_an_epoch_goes_on_where_it_was_left(made: Prepared) -> None:
    def sampler() -> BatchSampler:
        train = made.split("train")
        lengths = train.src_lengths, train.tgt_lengths
        return BatchSampler(*lengths, batch_tokens=80, seed=4, bucket_batches=2)

    whole, place = sampler(), sampler()
    expected = [list(dataset(made).batches(whole)) for _ in range(3)]
    list(islice(dataset(made).batches(place), len(expected[0])))
    list(islice(dataset(made).batches(place), 4))
    assert place.state_dict() == {"epoch": 1, "position": 4}
    again = sampler()
    again.load_state_dict(place.state_dict())
    rest = list(dataset(made).batches(again))
    assert same(rest, expected[1][4:])
    assert same(list(dataset(made).batches(again)), expected[2])
    assert not same(expected[0][:1], expected[1][:1])


def same(batches: list[Batch], others: list[Batch]) -> bool:
    pairs = zip(batches, others, strict=True)
    return all(
        torch.equal(a, b)
        for one, other in pairs
        for a, b in zip(one.inputs, other.inputs, strict=True)
    )


def test_the_prepared_corpus_is_the_same_at_every_rate(tmp_path: Path) -> None:
    rates = [prepared(tmp_path, replace(TOKENIZER, bpe_dropout=rate)) for rate in (0.0, 0.1, 0.9)]
    assert len({made.folder for made in rates}) == 1


def test_only_bpe_tokenizers_have_merges(tmp_path: Path) -> None:
    unigram = TokenizerConfig(TokenizerKind.unigram, 60)
    model = prepared(tmp_path, unigram).folder / "tokenizer.model"
    own = TokenizerConfig(model=str(model), bpe_dropout=0.1)
    with pytest.raises(
        DataError, match=r"^tokenizer.bpe_dropout=0.1: expected .* source is of kind unigram$"
    ):
        dataset(prepared(tmp_path, own), 0.1)


@pytest.mark.parametrize(
    ("option", "within_words"),
    [
        ({"split_by_whitespace": False}, False),
        ({"treat_whitespace_as_suffix": True}, False),
        ({"byte_fallback": True, "vocab_size": 350, "character_coverage": 0.98}, True),
        ({"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}, True),
    ],
    ids=lambda option: next(iter(option)) if isinstance(option, dict) else "",
)
def test_models_that_other_programs_trained(
    option: dict[str, Any], within_words: bool, tmp_path: Path
) -> None:
    buffer, text = io.BytesIO(), [*sentences(300), "a € sign"]
    asked = {"vocab_size": 90, "model_type": "bpe", "minloglevel": 2, **option}
    SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=buffer, **asked)
    (tmp_path / "own.model").write_bytes(buffer.getvalue())
    own = TokenizerConfig(model=str(tmp_path / "own.model"), bpe_dropout=0.3)
    made = prepared(tmp_path, own, [(line, line) for line in text])
    assert Merges(made.tokenizers.source).within_words is within_words
    data, source = dataset(made), made.tokenizers.source
    for index in (0, 7, len(data) - 1):
        found = splits(data, index)
        assert len(found) > EPOCHS / 4 or index == len(data) - 1
        assert {source.decode(ids) for ids in found} == {source.decode(data.src(index).tolist())}
